"""What somebody with the disk, or with the log's key, can do to histories and log; and that each of it is found.

The bus's own files are altered while its server is stopped, with checksums made right; the log's files are altered and
signed again with its own key, because the host has it. What is found is read off `enclave-cc audit verify`.
"""

from __future__ import annotations

import asyncio
import shutil
from collections.abc import Callable
from dataclasses import dataclass, replace
from pathlib import Path

import pytest

from orchestrator import events
from orchestrator.audit.entry import Entry, Message
from orchestrator.audit.log import Log
from orchestrator.audit.merkle import leaf_hash
from orchestrator.audit.note import Note
from orchestrator.audit.reader import CHECKPOINT, LogReader
from orchestrator.audit.storage import Folder
from orchestrator.audit.tiles import ENTRIES, Tile, bundles_of, encode_entries
from orchestrator.bus import Bus
from orchestrator.events import Exited, Fact, ImageDecrypted
from tests.nats import NatsServer
from tests.simulators.audit_logs import LOG_KEY, ORIGIN, grow, messages, signing_key, write_messages, write_policy
from tests.simulators.history import APP, EventKey, History
from tests.simulators.jetstream_files import Record, rewrite
from tests.simulators.stored import settings, store
from tests.unit.orchestrator.audit.test_writer import until_size, writing
from tests.unit.orchestrator.cli.conftest import Shown, Terminal

Alter = Callable[[list[Record]], list[Record]]
MIDDLE = 17
"""Which record is altered: the sixth of the second history, its image-decrypted."""


def histories() -> list[History]:
    made = []
    for number in range(3):
        history = History(f"{number:064x}", EventKey())
        history.up_to_booted()
        history.exited(APP, 3)
        made.append(history)
    return made


# --- the bus's own files --------------------------------------------------------------------------------------------


def restated(record: Record, body: events.Body) -> Record:
    """The same envelope with another statement in it, its old signature kept."""
    told = events.decode(record.sequence, record.message)
    fact = Fact(
        told.fact.pod, body, told.fact.zone, told.fact.actor, told.fact.container, told.fact.attempt, told.fact.at_ns
    )
    raw = events.encode(fact, told.index, told.previous, lambda _: told.signature, told.id)
    return replace(record, message=raw)


def edited_host(records: list[Record]) -> list[Record]:
    """A workload's exit code made 0: a host fact, unsigned, at the end of its history, where no chain goes on from."""
    return [*records[:-1], restated(records[-1], Exited(0, 1))]


def edited_enclave(records: list[Record]) -> list[Record]:
    body = events.decode(1, records[MIDDLE].message).fact.body
    assert isinstance(body, ImageDecrypted)
    altered = restated(records[MIDDLE], replace(body, manifest_digest="sha256:" + "66" * 32))
    return [*records[:MIDDLE], altered, *records[MIDDLE + 1 :]]


def dropped(records: list[Record]) -> list[Record]:
    return records[:MIDDLE] + records[MIDDLE + 1 :]


def dropped_and_closed_up(records: list[Record]) -> list[Record]:
    return renumbered(dropped(records))


def reordered(records: list[Record]) -> list[Record]:
    swapped = [*records]
    swapped[MIDDLE], swapped[MIDDLE + 1] = swapped[MIDDLE + 1], swapped[MIDDLE]
    return renumbered(swapped)


def inserted(records: list[Record]) -> list[Record]:
    """A message of the host's own invention."""
    added = replace(records[MIDDLE], message=restated(records[MIDDLE], Exited(7, 7)).message)
    return renumbered([*records[:MIDDLE], added, *records[MIDDLE:]])


def truncated(records: list[Record]) -> list[Record]:
    return records[:-5]


def renumbered(records: list[Record]) -> list[Record]:
    return [replace(record, sequence=number) for number, record in enumerate(records, 1)]


@dataclass(frozen=True)
class Machine:
    """A bus, a log of it, and a terminal; `alter` is done to the stopped server's files."""

    server: NatsServer
    place: Path
    terminal: Terminal

    async def alter(self, alter: Alter) -> None:
        self.server.kill()
        rewrite(self.server.folder / "jetstream", "EV", alter)
        await asyncio.to_thread(self.server.start)

    async def write(self, size: int) -> None:
        async with await self.server.connect("writer") as bus, writing(self.place / "audit", bus):
            await until_size(LogReader(Folder(self.place / "audit")), size)

    async def verify(self, *arguments: str | Path) -> Shown:
        return await self.terminal.run("audit", "verify", "--json", *map(str, arguments))


@pytest.fixture
async def machine(server: NatsServer, bus: Bus, place: Path) -> Machine:
    await store(bus, *histories())
    return Machine(server, place, Terminal(server, settings(server, place)))


def found(shown: Shown) -> dict[int, list[str]]:
    """The faults by check: `code: message`."""
    checks = shown.document["checks"]
    return {c["number"]: [f"{f['code']}: {f['message']}" for f in c["faults"]] for c in checks if c["faults"]}


async def test_an_honest_stream_and_its_log_agree(machine: Machine) -> None:
    await machine.write(36)
    shown = await machine.verify("--stream")
    assert (shown.code, found(shown)) == (0, {})
    assert [check["number"] for check in shown.document["checks"]] == [1, 3, 4, 5, 6, 7, 8, 9]


@pytest.mark.parametrize(
    ("alter", "told"),
    [
        (edited_host, ["message 36 of the event stream, logged as entry 35, was edited"]),
        (edited_enclave, ["message 18 of the event stream, logged as entry 17, was edited"]),
        (dropped, ["message 18 of the event stream, logged as entry 17, was dropped"]),
        (reordered, [f"message {n} of the event stream, logged as entry {n - 1}, was moved" for n in (18, 19)]),
        (
            inserted,
            [
                "message 18 of the event stream, logged as entry 17, was moved",
                "message 18 of the event stream was inserted",
            ],
        ),
        (truncated, [f"message {number} of the event stream, logged as entry" for number in range(32, 37)]),
    ],
)
async def test_files_of_the_bus_that_were_altered_after_they_were_logged_are_named(
    machine: Machine, alter: Alter, told: list[str]
) -> None:
    await machine.write(36)
    await machine.alter(alter)
    shown = await machine.verify("--stream")
    assert shown.code == 4
    assert list(found(shown)) == [9]
    for expected, line in zip(told, found(shown)[9], strict=False):
        assert line.startswith(f"E-AUDIT-010: {expected}")


BREAKS = "E-BUS-003: entry 17: the history's chain breaks"


@pytest.mark.parametrize(
    ("alter", "size", "told"),
    [
        (
            edited_enclave,
            36,
            {8: ["E-FACT-001: entry 17: message 6 (image-decrypted, by agent/0000000000000000) is forged"]},
        ),
        (dropped, 35, {7: ["E-AUDIT-009: entry 17: messages of"], 8: [BREAKS]}),
        (dropped_and_closed_up, 35, {8: [BREAKS]}),
        (reordered, 36, {8: [BREAKS]}),
        (inserted, 37, {8: ["E-FACT-001: entry 17: message 6 (exited, by agent/0000000000000000) is forged"]}),
    ],
)
async def test_files_of_the_bus_that_were_altered_before_they_were_logged_are_named(
    machine: Machine, alter: Alter, size: int, told: dict[int, list[str]]
) -> None:
    await machine.alter(alter)
    await machine.write(size)
    shown = await machine.verify("--stream")
    assert shown.code == 4
    assert list(found(shown)) == list(told)
    for number, lines in told.items():
        for expected, line in zip(lines, found(shown)[number], strict=True):
            assert line.startswith(expected)


async def test_a_stream_that_was_cut_after_it_was_logged_stops_the_writer_too(machine: Machine) -> None:
    await machine.write(36)
    await machine.alter(truncated)
    (machine.place / "audit.key").write_text(LOG_KEY.secret_text())
    shown = await machine.terminal.run("audit", "run", "--key", str(machine.place / "audit.key"))
    assert shown.code == 1
    assert "E-AUDIT-010" in shown.err


# --- the log's own files, by whoever has its key --------------------------------------------------------------------


@pytest.fixture
def terminal(place: Path) -> Terminal:
    """Without a bus."""
    nowhere = NatsServer(place)
    return Terminal(nowhere, settings(nowhere, place))


def original(place: Path) -> Path:
    """A log of 36 entries, and the checkpoint that an auditor kept of it when it had 20."""
    stored = messages(*histories())
    log = write_messages(place / "audit", stored[:20])
    shutil.copy(place / "audit" / CHECKPOINT, place / "kept")
    for message in stored[20:]:
        log.append(Entry.of(message).encode())
    grow(log, log.size)
    return place / "kept"


def again(place: Path, stored: list[Message]) -> None:
    """Another log in the place of the first, under the same key."""
    shutil.rmtree(place / "audit")
    write_messages(place / "audit", stored)


def of_another(stored: list[Message], at: int) -> list[Message]:
    """One message replaced by another fact of the host."""
    record = Record(1, 0, b"", b"", stored[at].raw)
    return [*stored[:at], replace(stored[at], raw=restated(record, Exited(0, 1)).message), *stored[at + 1 :]]


def rewritten(place: Path) -> None:
    again(place, of_another(messages(*histories()), 11))


def rewound(place: Path) -> None:
    again(place, messages(*histories())[:12])


def truncated_and_continued(place: Path) -> None:
    stored = messages(*histories())
    again(place, stored[:12] + [replace(message, sequence=n) for n, message in enumerate(stored[24:], 13)])


def truncated_and_continued_to_the_same_size(place: Path) -> None:
    stored = messages(*histories())
    again(place, of_another(stored, 19)[:20])


def key_replaced(place: Path) -> None:
    reader = LogReader(Folder(place / "audit"))
    text = reader.checkpoint().text
    other = signing_key(ORIGIN, "other")
    (place / "audit" / CHECKPOINT).write_bytes(Note(text, (other.sign(text), other.cosign(text, 1))).encode())


def entry_edited(place: Path) -> None:
    reader = LogReader(Folder(place / "audit"))
    (bundle,) = bundles_of(36)
    entries = reader.bundle(bundle)
    entries[35] = entries[35].replace(b'"attempt":0', b'"attempt":9')
    (place / "audit" / bundle.path).write_bytes(encode_entries(entries))


def entries_swapped(place: Path) -> None:
    reader = LogReader(Folder(place / "audit"))
    (bundle,) = bundles_of(36)
    entries = reader.bundle(bundle)
    entries[4], entries[5] = entries[5], entries[4]
    (place / "audit" / bundle.path).write_bytes(encode_entries(entries))


def entry_and_its_hash_edited(place: Path) -> None:
    entry_edited(place)
    bundle = Tile(ENTRIES, 0, 36)
    entries = LogReader(Folder(place / "audit")).bundle(bundle)
    hashes = b"".join(map(leaf_hash, entries))
    (place / "audit" / Tile(0, 0, 36).path).write_bytes(hashes)


def summary_lies(place: Path) -> None:
    """A log whose leaves say another thing than their envelopes, signed by its own key."""
    stored = messages(*histories())
    shutil.rmtree(place / "audit")
    log = Log.open_(Folder(place / "audit"), LOG_KEY)
    for message in stored:
        entry = Entry.of(message)
        log.append(replace(entry, kind="exited" if entry.kind == "app-booted" else entry.kind).encode())
    grow(log, log.size)


@pytest.mark.parametrize(
    ("alter", "check", "told"),
    [
        (rewritten, 3, "E-AUDIT-005: the two checkpoints are of two different histories"),
        (rewound, 3, "E-AUDIT-006: the log has become smaller"),
        (truncated_and_continued, 3, "E-AUDIT-005: the two checkpoints are of two different histories"),
        (
            truncated_and_continued_to_the_same_size,
            3,
            "E-AUDIT-005: the two checkpoints are of two different histories",
        ),
        (key_replaced, 1, "E-AUDIT-002: the note is not signed by any known key"),
        (entry_edited, 5, "E-AUDIT-004: entry 35 is not the one that the tree has there"),
        (entries_swapped, 5, "E-AUDIT-004: entry 4 is not the one that the tree has there"),
        (entry_and_its_hash_edited, 4, "E-AUDIT-007: tile/0/000.p/36 is not what the log's tree has there"),
        (summary_lies, 6, "E-AUDIT-008: entry 10: this is no entry of our log"),
    ],
)
async def test_a_log_that_was_altered_is_named_for_what_was_done(
    place: Path, terminal: Terminal, alter: Callable[[Path], None], check: int, told: str
) -> None:
    kept = original(place)
    honest = await terminal.run("audit", "verify", "--json", "--kept", str(kept))
    assert (honest.code, found(honest)) == (0, {})
    alter(place)
    shown = await terminal.run("audit", "verify", "--json", "--kept", str(kept))
    assert shown.code == 4
    assert found(shown)[check][0].startswith(told)
    assert shown.document["proved"] == []


async def test_two_auditors_who_were_shown_two_logs_find_out_when_they_compare(place: Path, terminal: Terminal) -> None:
    stored = messages(*histories())
    write_messages(place / "one", stored)
    write_messages(place / "other", of_another(stored, 35)[:36])
    for log, checkpoint in (("one", "other"), ("other", "one")):
        alone = await terminal.run("audit", "fsck", "--json", "--log", str(place / log))
        assert alone.code == 0
        both = await terminal.run(
            "audit", "fsck", "--json", "--log", str(place / log), "--kept", str(place / checkpoint / CHECKPOINT)
        )
        assert both.code == 4
        assert found(both)[3][0].startswith("E-AUDIT-005")


async def test_without_a_key_there_is_no_verdict(place: Path, terminal: Terminal) -> None:
    original(place)
    (place / "audit.policy").unlink()
    for command in ("verify", "fsck", "checkpoint", "tail"):
        shown = await terminal.run("audit", command, "--json")
        assert (shown.code, shown.out) == (3, "")
        assert "policy" in shown.err


async def test_a_log_that_only_its_own_key_signed_does_not_pass_a_policy_with_witnesses(
    place: Path, terminal: Terminal
) -> None:
    write_messages(place / "audit", messages(*histories()), cosigned=1)
    write_policy(place / "audit.policy", 2)
    shown = await terminal.run("audit", "verify", "--json")
    assert shown.code == 4
    assert found(shown)[1][0].startswith("E-AUDIT-003")
    assert len(shown.document["checks"]) == 1


async def test_a_log_that_stopped_is_stale(place: Path, terminal: Terminal) -> None:
    original(place)
    shown = await terminal.run("audit", "fsck", "--json", "--max-age", "3600")
    assert found(shown)[2][0].startswith("E-AUDIT-006: the checkpoint is stale")
