"""The writer on a real bus: everything is logged in order, on time, once; whatever dies."""

from __future__ import annotations

import asyncio
import contextlib
import os
import random
import signal
import sys
from collections.abc import AsyncIterator, Iterator, Sequence
from contextlib import ExitStack, asynccontextmanager
from pathlib import Path

import pytest

from orchestrator.audit.checkpoint import Checkpoint
from orchestrator.audit.entry import Entry
from orchestrator.audit.log import NEXT, Log
from orchestrator.audit.merkle import check_consistency
from orchestrator.audit.note import Note
from orchestrator.audit.policy import Accepted, Policy
from orchestrator.audit.reader import CHECKPOINT, LogReader
from orchestrator.audit.storage import Folder
from orchestrator.audit.stream import compare
from orchestrator.audit.verifier import Auditor, verify_log
from orchestrator.audit.witness_client import WitnessClient
from orchestrator.audit.writer import Cadence, Writer
from orchestrator.bus import Bus
from orchestrator.faults import Code, Permanent
from tests.nats import NatsServer, running, until
from tests.simulators.audit_logs import LOG_KEY, WITNESSES, policy, write_policy
from tests.simulators.history import History
from tests.simulators.stored import append, settings, store
from tests.simulators.witness_server import serving

QUICK = Cadence(news=0.05, silence=0.3, again=0.1)


@asynccontextmanager
async def writing(
    folder: Path,
    bus: Bus,
    believed: Policy | None = None,
    *,
    cadence: Cadence = QUICK,
    resumed: Checkpoint | None = None,
) -> AsyncIterator[asyncio.Task[None]]:
    """The writer as a task, while the block runs."""
    believed = believed or policy(0)
    witnesses = [WitnessClient(party) for party in believed.witnesses.values() if party.url]
    log = Log.open_(Folder(folder), LOG_KEY)
    task = asyncio.create_task(Writer(log, bus, believed, witnesses, cadence=cadence, resumed=resumed).run())
    try:
        yield task
    finally:
        task.cancel()
        with contextlib.suppress(asyncio.CancelledError, Permanent):
            await task


def published(reader: LogReader, believed: Policy | None = None) -> Accepted | None:
    try:
        return (believed or policy(0)).accept(reader.checkpoint())
    except Permanent as fault:
        if fault.code is Code.NOT_FOUND:
            return None
        raise


async def until_size(reader: LogReader, size: int, believed: Policy | None = None) -> Accepted:
    async def look() -> bool:
        found = published(reader, believed)
        return found is not None and found.checkpoint.size == size

    await until(look)
    found = published(reader, believed)
    assert found
    return found


def booted(number: int) -> History:
    history = History(f"{number:064x}")
    history.up_to_booted()
    return history


async def fails(task: asyncio.Task[None]) -> Code:
    with pytest.raises(Permanent) as raised:
        async with asyncio.timeout(20):
            await task
    return raised.value.code


async def test_everything_is_logged_in_the_streams_order(folder: Path, reader: LogReader, bus: Bus) -> None:
    histories = [booted(number) for number in range(30)]
    await store(bus, *histories[:10])
    async with writing(folder, bus):
        await until_size(reader, 110)
        await store(bus, *histories[10:])
        await append(bus, "ab" * 32, [b"garbage", bytes(40_000)])
        await until_size(reader, 332)
    entries = [Entry.decode(leaf) for _, leaf in reader.entries(332)]
    assert [entry.sequence for entry in entries] == list(range(1, 333))
    assert [entry.envelope for entry in entries[:-1]] == [raw for h in histories for raw in h.raw] + [b"garbage"]
    assert reader.evidence(entries[-1]) == bytes(40_000)
    assert await compare(reader, 332, bus) == []
    report = verify_log(reader, Auditor(policy(0)))
    assert report.faults == ()
    assert report.proved[-1].startswith("30 histories are whole; 150 facts were signed")


async def test_a_silent_log_says_so_again_and_again(folder: Path, reader: LogReader, bus: Bus) -> None:
    async with writing(folder, bus, cadence=Cadence(news=0.05, silence=0.05)):
        first = await until_size(reader, 0)
        assert first.log_time

        async def later() -> bool:
            now = published(reader)
            return now is not None and (now.log_time or 0) > (first.log_time or 0)

        await until(later)


async def test_news_is_published_at_most_so_often(folder: Path, reader: LogReader, bus: Bus) -> None:
    sizes = set()
    async with writing(folder, bus, cadence=Cadence(news=0.5)):
        await until_size(reader, 0)
        loop = asyncio.get_running_loop()
        began, number = loop.time(), 0
        while loop.time() - began < 2 or len(sizes) < 3:
            await store(bus, History(f"{number:064x}"))
            await append(bus, f"{number:064x}", [b"x"])
            number += 1
            found = published(reader)
            sizes.add(found.checkpoint.size if found else 0)
        assert len(sizes) <= 2 + (loop.time() - began) / 0.5, "one as it began, and one each half second"


async def test_a_server_that_dies_is_waited_for(folder: Path, reader: LogReader, server: NatsServer, bus: Bus) -> None:
    async with writing(folder, bus):
        await store(bus, booted(1))
        await until_size(reader, 11)
        server.kill()
        await asyncio.sleep(0.3)
        await asyncio.to_thread(server.start)
        await store(bus, booted(2))
        await until_size(reader, 22)
    assert verify_log(reader, Auditor(policy(0))).faults == ()


async def test_only_one_of_two_writers_signs(folder: Path, tmp_path: Path, server: NatsServer, bus: Bus) -> None:
    await store(bus, booted(1))
    async with await server.connect("other") as second, writing(folder, bus):
        await until_size(LogReader(Folder(folder)), 11)
        async with writing(tmp_path / "copy", second) as task:
            assert await fails(task) is Code.AUDIT_LEASE
    assert not (tmp_path / "copy").exists()
    async with await server.connect("third") as third, writing(tmp_path / "copy", third):
        await until_size(LogReader(Folder(tmp_path / "copy")), 11)


async def test_a_writer_that_lost_its_lease_signs_nothing_more(
    folder: Path, reader: LogReader, server: NatsServer, bus: Bus
) -> None:
    async with writing(folder, bus) as task:
        await until_size(reader, 0)
        (lease,) = [info.name for info in await bus.stream.consumers_info("EV") if info.name.startswith("lease-")]
        await bus.stream.delete_consumer("EV", lease)
        async with await server.connect("other") as second, writing(folder / "copy", second) as other:
            # Whichever of the two takes it next, the other ends.
            await asyncio.wait([task, other], return_when=asyncio.FIRST_COMPLETED)
            assert await fails(task if task.done() else other) is Code.AUDIT_LEASE


# --- witnesses ------------------------------------------------------------------------------------------------------


@pytest.fixture
def addresses(tmp_path: Path) -> Iterator[list[str]]:
    with ExitStack() as stack:
        yield [stack.enter_context(serving(tmp_path / f"w{n}", key)) for n, key in enumerate(WITNESSES)]


async def test_witnesses_cosign_what_is_published(
    folder: Path, reader: LogReader, bus: Bus, addresses: list[str]
) -> None:
    believed = policy(3, addresses)
    await store(bus, booted(1))
    async with writing(folder, bus, believed):
        accepted = await until_size(reader, 11, believed)
        assert set(accepted.witnesses) == {"w0", "w1", "w2"}
        await store(bus, booted(2))
        await until_size(reader, 22, believed)


async def test_without_a_quorum_nothing_is_published_until_there_is_one(
    folder: Path, reader: LogReader, bus: Bus, tmp_path: Path
) -> None:
    with serving(tmp_path / "w0", WITNESSES[0]) as one:
        port = int(one.rpartition(":")[2])
        believed = policy(1, [one])
        await store(bus, booted(1))
        async with writing(folder, bus, believed):
            await until_size(reader, 11, believed)
    async with writing(folder, bus, believed):
        await store(bus, booted(2))
        await asyncio.sleep(0.5)
        assert policy(1).accept(reader.checkpoint()).checkpoint.size == 11
        with serving(tmp_path / "w0", WITNESSES[0], port):
            await until_size(reader, 22, believed)


async def test_a_log_rebuilt_from_the_stream_is_the_same_and_its_witness_agrees(
    folder: Path, reader: LogReader, bus: Bus, tmp_path: Path, addresses: list[str]
) -> None:
    believed = policy(2, addresses)
    await store(bus, *(booted(number) for number in range(60)))
    async with writing(folder, bus, believed):
        before = (await until_size(reader, 660, believed)).checkpoint
    rebuilt = LogReader(Folder(tmp_path / "rebuilt"))
    async with writing(tmp_path / "rebuilt", bus, believed, resumed=before):
        after = (await until_size(rebuilt, 660, believed)).checkpoint
        assert after == before
        await store(bus, booted(99))
        await until_size(rebuilt, 671, believed)


async def test_a_log_that_lost_entries_is_stopped_by_its_witness(
    folder: Path, reader: LogReader, bus: Bus, tmp_path: Path, addresses: list[str]
) -> None:
    believed = policy(2, addresses)
    await store(bus, booted(1))
    async with writing(folder, bus, believed):
        await until_size(reader, 11, believed)
    async with running_elsewhere(tmp_path) as empty, writing(tmp_path / "new", empty, believed) as task:
        assert await fails(task) is Code.AUDIT_ROLLBACK


async def test_a_log_of_another_history_is_stopped_by_its_witness(
    folder: Path, reader: LogReader, bus: Bus, tmp_path: Path, addresses: list[str]
) -> None:
    believed = policy(2, addresses)
    await store(bus, booted(1))
    async with writing(folder, bus, believed):
        await until_size(reader, 11, believed)
    async with running_elsewhere(tmp_path) as other:
        await store(other, booted(2), booted(3))
        async with writing(tmp_path / "new", other, believed) as task:
            assert await fails(task) is Code.AUDIT_FORK


async def test_a_log_that_is_not_the_resumed_one_signs_nothing(
    folder: Path, reader: LogReader, bus: Bus, tmp_path: Path
) -> None:
    await store(bus, booted(1))
    async with writing(folder, bus):
        kept = (await until_size(reader, 11)).checkpoint
    async with running_elsewhere(tmp_path) as other:
        await store(other, booted(2), booted(3))
        async with writing(tmp_path / "new", other, resumed=kept) as task:
            assert await fails(task) is Code.AUDIT_FORK
    assert LogReader(Folder(tmp_path / "new")).store.read(NEXT) is None


@asynccontextmanager
async def running_elsewhere(folder: Path) -> AsyncIterator[Bus]:
    (folder / "other").mkdir()
    async with running(folder / "other") as server, await server.connect() as bus:
        yield bus


@pytest.mark.parametrize("there", [0, 1, 2])
async def test_another_stream_than_the_logged_one_is_refused(
    folder: Path, reader: LogReader, bus: Bus, tmp_path: Path, there: int
) -> None:
    await store(bus, booted(1))
    async with writing(folder, bus):
        await until_size(reader, 11)
    async with running_elsewhere(tmp_path) as other:
        await store(other, *(booted(number + 7) for number in range(there)))
        async with writing(folder, other) as task:
            assert await fails(task) is Code.AUDIT_STREAM


# --- kill -9 --------------------------------------------------------------------------------------------------------


@pytest.mark.timeout(180)
async def test_a_writer_that_is_killed_again_and_again_neither_forks_nor_forgets(
    place: Path, folder: Path, reader: LogReader, server: NatsServer, bus: Bus, tmp_path: Path
) -> None:
    with ExitStack() as stack:
        urls = [stack.enter_context(serving(tmp_path / f"w{n}", key)) for n, key in enumerate(WITNESSES[:2])]
        write_policy(place / "audit.policy", 2, urls)
        believed = policy(2, urls)
        (place / "audit.key").write_text(LOG_KEY.secret_text())
        config, seen = settings(server, place), set()
        rng, number = random.Random(4), 0
        for life in range(12):
            process = await start(config, place / "audit.key")
            # Every other life ends whatever it has come to; those between, once they have signed something.
            before, ends = len(seen), asyncio.get_running_loop().time() + rng.uniform(0.8, 2.2)
            while asyncio.get_running_loop().time() < ends or (life % 2 and len(seen) == before):
                await store(bus, booted(number))
                number += 1
                seen |= signed(folder)
            process.send_signal(signal.SIGKILL)
            await process.wait()
            seen |= signed(folder)
        process = await start(config, place / "audit.key")
        accepted = await until_size(reader, 11 * number, believed)
        process.terminate()
        assert await process.wait() == 0
        tree = accepted.checkpoint
        assert len(seen) > 5
        for old in seen:
            proof = reader.prove_consistency(old.size, tree.size)
            check_consistency(old.size, old.root, tree.size, tree.root, proof)
        assert await compare(reader, tree.size, bus) == []
        assert verify_log(reader, Auditor(believed)).faults == ()


async def start(config: Path, key: Path) -> asyncio.subprocess.Process:
    program = Path(sys.executable).with_name("enclave-cc")
    arguments: Sequence[str | Path] = (program, "audit", "run", "--config", config, "--key", key)
    return await asyncio.create_subprocess_exec(*arguments, env={**os.environ}, stderr=asyncio.subprocess.DEVNULL)


def signed(folder: Path) -> set[Checkpoint]:
    """Every checkpoint that anybody could have seen: signed ones, published or not."""
    found = [Folder(folder).read(name) for name in (CHECKPOINT, NEXT)]
    return {policy(0).accept(Note.parse(raw)).checkpoint for raw in found if raw}
