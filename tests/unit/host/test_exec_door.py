"""The host worker at a boot init's door: commands by real crun, beside a real workload, without an enclave."""

from __future__ import annotations

import asyncio
import os
import select
import signal
import socket
from collections.abc import Iterator
from contextlib import suppress
from pathlib import Path

import pytest

from orchestrator.faults import Code, Permanent, Temporary
from schemas.execs import Done, Forget, Resize, Signal, Start, Wait
from schemas.places import EXEC_DOOR
from tests.busybox import Bundles
from tests.simulators.boot_init import CONTAINER, booted
from tests.waiting import eventually
from workers.enclave.boot.supervision import FORWARDED
from workers.host.exec_door import ask
from workers.host.fifos import opened

SCRIPT = "read line; n=0; while [ $n -lt 3 ]; do n=$((n+1)); echo $n; done; exit 7"


@pytest.fixture
def init(tmp_path: Path) -> Iterator[int]:
    with booted(Bundles(tmp_path)) as (pid, _):
        yield pid


def start(id_: str, *args: str, terminal: bool = False) -> Start:
    return Start(CONTAINER, id_, args, terminal)


async def started(pid: int, request: Start, streams: tuple[int, int, int] | None = None) -> int:
    """The command's pid on this machine."""
    async with opened("", "", "") as nothing:
        return (await ask(pid, request, streams or nothing, seconds=30))[1]


async def ended(pid: int, id_: str) -> int:
    return (await ask(pid, Wait(CONTAINER, id_), seconds=30))[0].status


async def refused(pid: int, request: Start | Wait | Signal) -> Permanent:
    with pytest.raises(Permanent) as told:
        await started(pid, request) if isinstance(request, Start) else await ask(pid, request, seconds=30)
    return told.value


async def test_a_workload_without_a_terminal_has_no_size_to_be_given(init: int) -> None:
    assert (await ask(init, Resize(CONTAINER, "", 12, 34), seconds=30))[0] == Done()


async def test_output_status_and_pid_come_back_and_the_status_as_often_as_it_is_asked(init: int) -> None:
    near, far = os.pipe()
    typing, source = os.pipe()
    assert await started(init, start("e1", "sh", "-c", SCRIPT), (typing, far, far)) > 0
    for descriptor in (far, typing, source):
        os.close(descriptor)
    assert [await ended(init, "e1") for _ in range(2)] == [7, 7]
    with os.fdopen(near, "rb") as output:
        assert output.read() == b"1\n2\n3\n", "and nobody else holds the other end"
    await ask(init, Forget(CONTAINER, "e1"), seconds=5)
    assert (await refused(init, Wait(CONTAINER, "e1"))).code is Code.NOT_FOUND


async def test_a_command_that_is_asked_for_twice_runs_once(init: int) -> None:
    request = start("e1", "slow", "unused")
    both = await asyncio.gather(started(init, request), started(init, request), return_exceptions=True)
    assert {type(one) for one in both} == {Permanent}, "there is no program called slow"
    once = start("e2", "sleep", "100")
    pids = {await started(init, once) for _ in range(3)}
    assert len(pids) == 1
    os.kill(pids.pop(), 9)
    assert await ended(init, "e2") == 137


async def test_signals_for_the_workload_interrupt_no_thread_and_a_command_blocks_none(init: int) -> None:
    """The first thread waits for them, which also takes them out of the mask while it does."""
    command = await started(init, start("e1", "sleep", "100"))
    waiting = asyncio.create_task(ask(init, Wait(CONTAINER, "e1"), seconds=30))
    taken = sum(1 << number - 1 for number in FORWARDED)
    others = [int(task.name) for task in Path(f"/proc/{init}/task").iterdir() if int(task.name) != init]
    assert [blocked(thread) & taken for thread in others] == [taken] * len(others) != []
    assert blocked(command) == 0
    os.kill(command, 9)
    await waiting


async def test_of_two_signals_that_come_at_once_the_workload_is_given_both_each_time(tmp_path: Path) -> None:
    script = "trap 'echo first' USR1; trap 'echo second' USR2; while :; do sleep 1000 & wait $!; done"
    with booted(Bundles(tmp_path), "sh", "-c", script) as (pid, process):
        assert process.stdout is not None
        descriptor = process.stdout.fileno()
        (workload, *_) = (int(child) for child in Path(f"/proc/{pid}/task/{pid}/children").read_text().split())
        eventually(lambda: mask(workload, "SigCgt") & 1 << signal.SIGUSR2 - 1)
        for _ in range(300):
            os.kill(pid, signal.SIGUSR1)
            os.kill(pid, signal.SIGUSR2)
            said = b""
            while b"second\n" not in said:
                assert select.select([descriptor], [], [], 30)[0]
                said += os.read(descriptor, 4096)


def blocked(thread: int) -> int:
    """The mask of the signals that it does not take."""
    return mask(thread, "SigBlk")


def mask(thread: int, name: str) -> int:
    lines = Path(f"/proc/{thread}/status").read_text().splitlines()
    return next(int(line.split()[1], 16) for line in lines if line.startswith(name))


async def test_signals_reach_it_until_it_has_ended(init: int) -> None:
    await started(init, start("e1", "sleep", "100"))
    await ask(init, Signal(CONTAINER, "e1", 0), seconds=5)
    await ask(init, Signal(CONTAINER, "e1", 15), seconds=5)
    assert await ended(init, "e1") == 143
    assert (await refused(init, Signal(CONTAINER, "e1", 9))).code is Code.NOT_FOUND


async def test_many_run_at_once_and_each_has_its_own_status(init: int) -> None:
    async def run(number: int) -> int:
        await started(init, start(f"e{number}", "sh", "-c", f"exit {number}"))
        return await ended(init, f"e{number}")

    assert await asyncio.gather(*map(run, range(24))) == list(range(24))


async def test_who_waits_no_longer_leaves_no_thread_behind(init: int) -> None:
    await started(init, start("e1", "sleep", "100"))
    threads = Path(f"/proc/{init}/task")
    before = len(list(threads.iterdir()))
    for _ in range(3):
        with pytest.raises(Temporary):
            await ask(init, Wait(CONTAINER, "e1"), seconds=0.1)
    async with asyncio.timeout(10):
        while len(list(threads.iterdir())) > before:
            await asyncio.sleep(0.05)


async def test_refusals_come_in_their_own_words(init: int) -> None:
    denied = await refused(init, start("e1", "denied", "hunter2"))
    assert (denied.code, denied.diagnosis.message) == (Code.EXEC_DENIED, "denied by the test")
    missing = await refused(init, start("e2", "/bin/not-there"))
    assert missing.code is Code.EXEC_FAILED
    assert "/bin/not-there" in missing.diagnosis.got
    assert (await refused(init, Start("another", "e3", ("true",), False))).code is Code.NOT_FOUND
    too_long = await refused(init, start("e4", "x" * 200_000))
    assert too_long.code is Code.INPUT


async def test_a_terminal_has_a_size_and_ends_with_its_command(init: int) -> None:
    typing, source = os.pipe()
    shown, target = os.pipe()
    await started(init, start("e1", "sh", terminal=True), (typing, target, target))
    os.close(target)
    await ask(init, Resize(CONTAINER, "e1", 12, 34), seconds=5)
    os.write(source, b"busybox stty size; exit 3\n")
    assert await ended(init, "e1") == 3
    with os.fdopen(shown, "rb") as screen:
        assert b"12 34" in screen.read()
    os.close(source)
    os.close(typing)


@pytest.mark.parametrize("packet", [b"{}", b"\0", b'{"ask": "start"}', b"x" * 200_000])
async def test_garbage_is_answered_and_the_door_stays(init: int, packet: bytes) -> None:
    with socket.socket(socket.AF_UNIX, socket.SOCK_SEQPACKET) as stranger:
        stranger.connect(f"/proc/{init}/root{EXEC_DOOR}")
        stranger.setsockopt(socket.SOL_SOCKET, socket.SO_SNDBUF, 1 << 20)
        stranger.send(packet)
        assert b'"E-INPUT-001"' in await asyncio.to_thread(stranger.recv, 4096)
    await started(init, start("e1", "true"))
    assert await ended(init, "e1") == 0


async def test_a_start_needs_its_streams(init: int) -> None:
    with pytest.raises(Permanent, match="a command needs its streams"):
        await ask(init, start("e1", "true"), seconds=5)


async def test_commands_end_with_the_workload_whose_status_is_kept(tmp_path: Path) -> None:
    with booted(Bundles(tmp_path), "sh", "-c", "sleep 1; exit 5") as (init, process):
        await started(init, start("e1", "sleep", "100"))
        with suppress(Permanent):  # or nobody is there any more to tell it
            assert await ended(init, "e1") == 137
        assert await asyncio.to_thread(process.wait, 30) == 5
    with pytest.raises(Permanent) as gone:
        await ask(init, Wait(CONTAINER, "e1"), seconds=5)
    assert gone.value.code is Code.NOT_FOUND


async def test_a_fifo_is_opened_when_its_writer_is_there(tmp_path: Path) -> None:
    path = tmp_path / "stdin"
    os.mkfifo(path)

    async def write_later() -> None:
        await asyncio.sleep(0.2)
        writer = await asyncio.to_thread(os.open, path, os.O_WRONLY)
        os.write(writer, b"typed")
        os.close(writer)

    writing = asyncio.create_task(write_later())
    async with opened(str(path), "", "") as (stdin, _, _):
        assert await asyncio.to_thread(os.read, stdin, 16) == b"typed"
    await writing
