"""`enclave-cc audit` as a person types it, on a log that lies still; the writer and the witness as processes."""

from __future__ import annotations

import asyncio
import json
import stat
from pathlib import Path

import pytest

from orchestrator.audit.entry import Entry
from orchestrator.audit.log import Log
from orchestrator.audit.merkle import leaf_hash
from orchestrator.audit.note import Note, SigningKey
from orchestrator.audit.proof import LogProof
from orchestrator.audit.reader import CHECKPOINT, LogReader
from orchestrator.audit.storage import Folder
from orchestrator.bus import Bus
from tests.nats import NatsServer, until
from tests.simulators.audit_logs import LOG_KEY, ORIGIN, grow, messages, policy, write_messages
from tests.simulators.history import APP, History
from tests.simulators.stored import settings, store
from tests.unit.orchestrator.cli.conftest import Terminal

PODS = ["ab" * 32, "cd" * 32]


def launches() -> list[History]:
    booted, failed = History(PODS[0]), History(PODS[1])
    booted.up_to_booted()
    failed.up_to_attested()
    failed.container()
    failed.failed("decrypt_image", container=APP)
    return [booted, failed]


@pytest.fixture
def terminal(place: Path) -> Terminal:
    write_messages(place / "audit", messages(*launches()))
    nowhere = NatsServer(place)
    return Terminal(nowhere, settings(nowhere, place))


async def lines(terminal: Terminal, *arguments: str) -> list[dict[str, object]]:
    shown = await terminal.run("audit", *arguments, "--json")
    assert shown.code == 0, shown.err
    return [json.loads(line) for line in shown.out.splitlines()]


async def test_tail_shows_the_last_and_goes_on_from_a_cursor(terminal: Terminal, place: Path) -> None:
    last = await lines(terminal, "tail", "-n", "3")
    assert [line["index"] for line in last] == [14, 15, 16]
    assert last[-1]["code"] == "E-RUNTIME-001"
    assert await lines(terminal, "tail", "--after", str(last[-1]["cursor"])) == []
    process = await terminal.start("audit", "tail", "--follow", "--after", "16", "--json")
    assert process.stdout
    try:
        async with asyncio.timeout(20):
            assert json.loads(await process.stdout.readline())["index"] == 16
            log = Log.open_(Folder(place / "audit"), LOG_KEY)
            grow(log, 18, [Entry.of(messages(*launches())[0]).encode()])
            assert json.loads(await process.stdout.readline())["index"] == 17
    finally:
        process.terminate()
        await process.communicate()


async def test_tail_that_follows_ends_when_the_log_is_rewound(terminal: Terminal, place: Path) -> None:
    process = await terminal.start("audit", "tail", "--follow", "--after", "16", "--json")
    assert process.stdout
    async with asyncio.timeout(20):
        await process.stdout.readline()
        write_messages(place / "other", messages(*launches())[:5])
        (place / "audit" / CHECKPOINT).write_bytes((place / "other" / CHECKPOINT).read_bytes())
        _, err = await process.communicate()
    assert process.returncode == 1
    assert b"E-AUDIT-006" in err


async def test_the_members_are_those_that_the_page_names(
    terminal: Terminal, tmp_path: Path, promised: dict[str, set[str]]
) -> None:
    async def members(*arguments: str) -> set[str]:
        return set((await terminal.run("audit", *arguments, "--json")).document)

    assert (
        set((await lines(terminal, "search", "--limit", "1"))[0]) == promised["a line of audit tail and audit search"]
    )
    assert await members("checkpoint") == promised["audit checkpoint"]
    assert await members("prove", PODS[0], "--out", str(tmp_path / "bundle")) == promised["audit prove"]
    assert await members("fsck") == await members("verify") == promised["audit verify and audit fsck"]
    verified = (await terminal.run("audit", "verify", "--json")).document
    assert set(verified["checks"][0]) == promised["one of checks"]


async def test_search_takes_every_filter(terminal: Terminal) -> None:
    async def found(*arguments: str) -> list[object]:
        return [line["index"] for line in await lines(terminal, "search", *arguments)]

    assert await found("--zone", "enclave", "--launch", "cd") == [14]
    assert await found("--code", "E-RUNTIME-001") == [16]
    assert await found("--kind", "attested", "--kind", "agent-up") == [2, 3, 13, 14]
    assert await found("--actor", "host-worker/node-a", "--container", APP, "--limit", "2") == [4, 7]
    assert await found("--where", "image=127.0.0.1:5000/redis:7", "--after", "5") == [15]
    assert await found("--since", "2026-01-01T00:00:00.9Z", "--until", "2026-01-01T00:00:01Z") == [5, 6, 7, 8, 9, 10]
    assert (await terminal.run("audit", "search", "--launch", "payments/redis-0")).code == 2  # two launches


async def test_what_is_shown_was_found_in_the_log(terminal: Terminal) -> None:
    shown = await terminal.run("audit", "show", "6", "--json")
    assert shown.document["kind"] == "fs-sealed"
    assert shown.document["statement"]["files"] == "1234"
    assert shown.document["included_at_size"] == 17
    text = await terminal.run("audit", "show", "6")
    assert "in the log       at size 17, by 5 hashes" in text.out
    assert (await terminal.run("audit", "show", "17")).code == 3


async def test_an_exported_lines_hash_is_the_leafs(terminal: Terminal, place: Path) -> None:
    out = place / "export.jsonl"
    assert (await terminal.run("audit", "export", "--out", str(out), "--launch", "ab")).code == 0
    exported = out.read_bytes().splitlines()
    told = await lines(terminal, "search", "--launch", "ab")
    assert [leaf_hash(line).hex() for line in exported] == [line["leaf_hash"] for line in told]
    table = await terminal.run("audit", "export", "--format", "csv", "--kind", "step-failed")
    assert len(table.out.splitlines()) == 2


async def test_a_bundle_is_verified_where_there_is_no_log(terminal: Terminal, place: Path, tmp_path: Path) -> None:
    bundle = place / "ab.zip"
    made = await terminal.run("audit", "prove", "ab", "--out", str(bundle), "--json")
    assert (made.document["entries"], made.document["about"]) == (11, PODS[0])
    elsewhere = tmp_path / "elsewhere"
    elsewhere.mkdir()
    trusted = (place / "audit.policy").rename(elsewhere / "trusted")
    for arguments in ((), ("--policy", str(trusted))):
        shown = await terminal.run("audit", "verify", str(bundle), "--json", *arguments)
        assert shown.code == (0 if arguments else 3)
    assert shown.document["verified"] is True
    told = await terminal.run("audit", "verify", str(bundle), "--policy", str(trusted))
    assert "1 ok     the bundle reads" in told.out
    assert "not proved: that the quote comes from a genuine CPU" in told.out
    bundle.write_bytes(bundle.read_bytes()[:-1])
    assert (await terminal.run("audit", "verify", str(bundle), "--policy", str(trusted))).code == 4


async def test_one_entrys_proof_is_a_tlog_proof(terminal: Terminal, place: Path) -> None:
    out = place / "entry.tlog-proof"
    assert (await terminal.run("audit", "prove", "--index", "6", "--out", str(out))).code == 0
    LogProof.parse(out.read_bytes()).verify(LogReader(Folder(place / "audit")).entry(6, 17), policy(0))
    for wrong in (("prove", "--out", "x"), ("prove", "ab", "--index", "1", "--out", "x")):
        assert (await terminal.run("audit", *wrong)).code == 2
    assert (await terminal.run("audit", "prove", "77", "--out", str(out))).code == 3


async def test_a_kept_checkpoint_is_replaced_by_one_that_continues_it_only(terminal: Terminal, place: Path) -> None:
    kept = place / "kept"
    shown = await terminal.run("audit", "checkpoint", "--keep", str(kept), "--json")
    assert (shown.document["origin"], shown.document["size"]) == (ORIGIN, 17)
    assert kept.read_bytes() == (place / "audit" / CHECKPOINT).read_bytes()
    write_messages(place / "other", messages(*launches())[:5])
    refused = await terminal.run("audit", "checkpoint", "--keep", str(kept), "--log", str(place / "other"))
    assert refused.code == 1
    assert "E-AUDIT-006" in refused.err
    assert kept.read_bytes() == (place / "audit" / CHECKPOINT).read_bytes()


async def test_a_key_is_made_once_and_read_by_its_owner_only(terminal: Terminal, place: Path) -> None:
    out = place / "new.key"
    made = await terminal.run("audit", "keygen", "c1.example/audit", "--out", str(out), "--json")
    assert made.code == 0
    assert stat.S_IMODE(out.stat().st_mode) == 0o600
    assert made.document["verifier_key"] == str(SigningKey.parse(out.read_text()).verifier())
    again = await terminal.run("audit", "keygen", "c1.example/audit", "--out", str(out))
    assert again.code == 2
    assert (await terminal.run("audit", "keygen", "a b", "--out", str(place / "x"))).code == 2


async def test_log_and_witness_from_nothing(server: NatsServer, bus: Bus, tmp_path: Path) -> None:
    """What docs/operations/audit.md tells an operator to type."""
    terminal = Terminal(server, settings(server, tmp_path))
    history = launches()[0]
    await store(bus, history)
    log_key, witness_key = tmp_path / "log.key", tmp_path / "witness.key"
    log = await terminal.run("audit", "keygen", "c1.example/audit", "--out", str(log_key))
    seen = await terminal.run("audit", "keygen", "w.example", "--witness", "--out", str(witness_key))
    believed = tmp_path / "audit.policy"
    believed.write_text(f"log {log.out}witness w {seen.out}quorum w\n")
    witness = await terminal.start("audit", "witness", "--key", str(witness_key), "--state", str(tmp_path / "witness"))
    assert witness.stderr
    try:
        async with asyncio.timeout(20):
            url = json.loads(await witness.stderr.readline())["url"]
        believed.write_text(f"log {log.out}witness w {seen.out.strip()} {url}\nquorum w\n")
        writer = await terminal.start("audit", "run", "--key", str(log_key))

        async def published() -> bool:
            shown = await terminal.run("audit", "checkpoint", "--json")
            return shown.code == 0 and shown.document["size"] == 11 and set(shown.document["witnesses"]) == {"w"}

        await until(published, 40)
        second = await terminal.run("audit", "run", "--key", str(log_key))
        assert second.code == 1
        assert "E-AUDIT-011" in second.err
        verified = await terminal.run("audit", "verify", "--stream", "--max-age", "60", "--json")
        assert verified.code == 0, verified.out
        assert [check["number"] for check in verified.document["checks"]] == [1, 2, 3, 4, 5, 6, 7, 8, 9]
        writer.terminate()
        assert (await writer.communicate())[1] is not None
        assert writer.returncode == 0
        assert Note.parse((tmp_path / "audit" / CHECKPOINT).read_bytes())
    finally:
        witness.terminate()
        await witness.communicate()
