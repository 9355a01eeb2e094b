"""Containers by the real runc and conmon: made, run, ended, removed, whoever of us dies meanwhile."""

from __future__ import annotations

import asyncio
import os
import signal
import subprocess
import sys
import time
from collections.abc import Callable
from pathlib import Path

import pytest

from orchestrator.faults import Code, Fault, Permanent, Temporary
from tests.busybox import Bundles
from tests.machine import cgroups_naming, descriptors, processes_naming
from workers.host.conmon import Streams
from workers.host.runc import Held, Role, Runc

SILENT = Streams()


def held(id_: str, attempt: int = 1) -> Held:
    return Held(id_, "pod", "container", Role.APP, attempt)


async def until(look: Callable[[], object], seconds: float = 15) -> None:
    async with asyncio.timeout(seconds):
        while not look():
            await asyncio.sleep(0.01)


async def ended(runc: Runc, id_: str) -> int:
    """The exit status, once conmon has written it."""
    await until(lambda: runc.exit_of(id_))
    code, at = runc.exit_of(id_)  # type: ignore[misc]
    assert abs(time.time_ns() - at) < 20e9
    return code


def left_of(id_: str, run_dir: Path) -> list[object]:
    """Everything on this machine that names the container."""
    files = [path for path in run_dir.rglob("*") if id_ in path.name]
    return [*files, *processes_naming(id_), *cgroups_naming(id_)]


async def test_a_created_container_has_not_run_its_first_instruction_until_it_is_started(
    runc: Runc, bundles: Bundles, tmp_path: Path
) -> None:
    out = tmp_path / "out"
    out.touch()
    id_, bundle = bundles.shell("a", "echo begun; exec sleep 1000")
    pid = await runc.create(held(id_), bundle, Streams(stdout=str(out)))
    assert await runc.state(id_) == ("created", pid)
    assert out.read_text() == ""
    await runc.start(id_)
    await until(out.read_text)
    assert await runc.state(id_) == ("running", pid)
    assert Path(f"/proc/{pid}/cmdline").read_bytes() == b"sleep\x001000\0"
    assert runc.exit_of(id_) is None
    assert runc.ended() == []


@pytest.mark.parametrize(("script", "status"), [("exit 0", 0), ("exit 7", 7), ("kill -9 $$; sleep 1000", 137)])
async def test_an_exit_status_is_written_when_the_container_ends(
    runc: Runc, bundles: Bundles, script: str, status: int
) -> None:
    # A process cannot kill the first of its own namespace: that one is killed from outside.
    id_, bundle = bundles.shell("a", "exec sleep 1000" if status == 137 else script)
    await runc.create(held(id_), bundle, SILENT)
    await runc.start(id_)
    if status == 137:
        await runc.kill(id_, signal.SIGKILL)
    assert await ended(runc, id_) == status
    assert runc.ended() == [id_]
    assert (await runc.state(id_))[0] == "stopped"


async def test_streams_go_through_containerds_fifos_and_nothing_waits_for_their_readers(
    runc: Runc, bundles: Bundles, tmp_path: Path
) -> None:
    paths = [str(tmp_path / name) for name in ("in", "out", "err")]
    for path in paths:
        os.mkfifo(path)
    id_, bundle = bundles.shell("a", "echo early; cat; echo late >&2")
    opening = asyncio.create_task(asyncio.to_thread(os.open, paths[0], os.O_WRONLY))
    await runc.create(held(id_), bundle, Streams(*paths))
    writer = await asyncio.wait_for(opening, 10)
    await runc.start(id_)
    # containerd opens both ends of an output, so that a container which ends before it reads leaves its words there.
    readers = [os.open(path, os.O_RDWR | os.O_NONBLOCK) for path in paths[1:]]
    os.write(writer, b"typed\n")
    os.close(writer)
    assert await ended(runc, id_) == 0
    said = [os.read(reader, 1000) for reader in readers]
    for reader in readers:
        os.close(reader)
    assert said == [b"early\ntyped\n", b"late\n"]


async def test_output_and_errors_in_one_file_do_not_overwrite_each_other(
    runc: Runc, bundles: Bundles, tmp_path: Path
) -> None:
    log = tmp_path / "log"
    log.write_text("what an earlier attempt said\n")
    id_, bundle = bundles.shell("a", "echo a long line of output; echo an error >&2; echo more")
    await runc.create(held(id_), bundle, Streams("", str(log), str(log)))
    await runc.start(id_)
    assert await ended(runc, id_) == 0
    assert log.read_text() == "what an earlier attempt said\na long line of output\nan error\nmore\n"


async def test_deleting_kills_what_runs_waits_for_the_exit_and_leaves_it_to_be_told(
    runc: Runc, bundles: Bundles
) -> None:
    id_, bundle = bundles.shell("a", "trap '' TERM; sleep 1000 & sleep 1001 & while :; do sleep 1; done")
    await runc.create(held(id_), bundle, SILENT)
    await runc.start(id_)
    assert await runc.delete(id_)
    assert runc.exit_of(id_) is not None
    assert runc.exit_of(id_)[0] == 137  # type: ignore[index]
    assert await runc.state(id_) == ("absent", 0)
    assert runc.record(id_) == held(id_)
    assert processes_naming(id_) == []
    assert not await runc.delete(id_)


async def test_a_forgotten_container_leaves_nothing(runc: Runc, bundles: Bundles, run_dir: Path) -> None:
    id_, bundle = bundles.bundle("a")
    await runc.create(held(id_), bundle, SILENT)
    await runc.delete(id_)
    runc.forget(id_)
    runc.forget(id_)
    assert runc.held() == runc.ended() == left_of(id_, run_dir) == []


@pytest.mark.parametrize("started", [True, False])
async def test_a_discarded_container_is_heard_of_by_nobody(
    runc: Runc, bundles: Bundles, run_dir: Path, started: bool
) -> None:
    id_, bundle = bundles.bundle("a")
    await runc.create(held(id_), bundle, SILENT)
    if started:
        await runc.start(id_)
    heard = []

    async def listen() -> None:
        while True:
            heard.extend(runc.record(id_) for id_ in runc.ended())
            await asyncio.sleep(0)

    listening = asyncio.create_task(listen())
    assert await runc.discard(id_)
    listening.cancel()
    assert set(heard) <= {None}
    assert left_of(id_, run_dir) == []
    assert not await runc.discard(id_)


async def test_discarding_from_several_sides_at_once_does_it_once(runc: Runc, bundles: Bundles, run_dir: Path) -> None:
    id_, bundle = bundles.bundle("a")
    await runc.create(held(id_), bundle, SILENT)
    await runc.start(id_)
    done = await asyncio.gather(*(runc.discard(id_) for _ in range(3)))
    assert any(done)
    assert left_of(id_, run_dir) == []


async def test_a_container_can_be_made_again_under_its_name(runc: Runc, bundles: Bundles) -> None:
    id_, bundle = bundles.bundle("a")
    for attempt in (1, 2):
        pid = await runc.create(held(id_, attempt), bundle, SILENT)
        assert await runc.state(id_) == ("created", pid)
        await runc.discard(id_)


async def test_making_and_removing_leaves_no_descriptor_open(runc: Runc, bundles: Bundles) -> None:
    id_, bundle = bundles.bundle("a")
    await runc.create(held(id_), bundle, SILENT)
    await runc.discard(id_)
    before = descriptors()
    await runc.create(held(id_), bundle, SILENT)
    await runc.discard(id_)
    assert {line.split()[0] for line in descriptors()} == {line.split()[0] for line in before}


# --- signals ----------------------------------------------------------------------------------------------------------


async def test_a_signal_reaches_the_first_process_or_all(runc: Runc, bundles: Bundles, tmp_path: Path) -> None:
    out = tmp_path / "out"
    out.touch()
    script = "trap 'echo first' USR1; (trap 'echo second' USR1; echo up; while :; do sleep 0.05; done) &"
    id_, bundle = bundles.shell("a", f"{script} while :; do sleep 0.05; done")
    await runc.create(held(id_), bundle, Streams(stdout=str(out)))
    await runc.start(id_)
    await until(lambda: "up" in out.read_text())
    await runc.kill(id_, signal.SIGUSR1)
    await until(lambda: "first" in out.read_text())
    assert "second" not in out.read_text()


@pytest.mark.parametrize("state", ["absent", "stopped"])
async def test_a_signal_to_what_has_ended_says_that_it_has(runc: Runc, bundles: Bundles, state: str) -> None:
    id_, bundle = bundles.bundle("a", "true")
    if state == "stopped":
        await runc.create(held(id_), bundle, SILENT)
        await runc.start(id_)
        await ended(runc, id_)
        await until(lambda: not processes_naming(id_))
    with pytest.raises(Permanent) as raised:
        await runc.kill(id_, signal.SIGTERM)
    assert raised.value.code is Code.NOT_FOUND
    assert raised.value.diagnosis.got


# --- what cannot be made ----------------------------------------------------------------------------------------------


async def test_a_container_that_cannot_be_made_is_told_in_runcs_words_and_leaves_nothing(
    runc: Runc, bundles: Bundles, run_dir: Path
) -> None:
    for program in ("/bin/absent", "/bin/missing"):
        id_, bundle = bundles.bundle("a", program)
        with pytest.raises(Permanent) as raised:
            await runc.create(held(id_), bundle, SILENT)
        assert raised.value.code is Code.RUNTIME
        assert program in raised.value.diagnosis.got
    assert "/bin/absent" not in raised.value.diagnosis.got, "the second failure is told, not the first again"
    assert runc.held() == []
    assert left_of(id_, run_dir) == []


async def test_a_bundle_that_is_no_bundle_is_told(runc: Runc, bundles: Bundles, run_dir: Path) -> None:
    id_, bundle = bundles.bundle("a")
    (bundle / "config.json").write_text("{")
    with pytest.raises(Permanent) as raised:
        await runc.create(held(id_), bundle, SILENT)
    assert raised.value.code is Code.RUNTIME
    assert left_of(id_, run_dir) == []


async def test_a_fifo_that_is_gone_is_a_fault_and_leaves_no_descriptor_and_no_record(
    runc: Runc, bundles: Bundles, run_dir: Path, tmp_path: Path
) -> None:
    id_, bundle = bundles.bundle("a")
    await asyncio.create_subprocess_exec("true")  # the loop's own descriptors
    before = len(descriptors())
    with pytest.raises(Permanent) as raised:
        await runc.create(held(id_), bundle, Streams(stdout=str(tmp_path / "no/such/fifo")))
    assert raised.value.code is Code.RUNTIME
    assert "no/such/fifo" in raised.value.diagnosis.got
    assert len(descriptors()) <= before
    assert runc.held() == []
    assert left_of(id_, run_dir) == []


async def test_a_runtime_that_is_not_installed_is_a_fault(bundles: Bundles, run_dir: Path) -> None:
    id_, bundle = bundles.bundle("a")
    runc = Runc("/no/such/runc", run_dir)
    for call in (runc.create(held(id_), bundle, SILENT), runc.state(id_), runc.start(id_), runc.kill(id_, 9)):
        with pytest.raises(Permanent) as raised:
            await call
        assert raised.value.code is Code.RUNTIME


async def test_a_runtime_that_never_answers_is_waited_for_as_long_as_said_and_left_no_process(
    bundles: Bundles, run_dir: Path, tmp_path: Path
) -> None:
    hung = tmp_path / f"{bundles.prefix}hung"
    hung.write_text("#!/bin/sh\nexec sleep 1000.5\n")
    hung.chmod(0o755)
    runc = Runc(str(hung), run_dir, patience=0.3)
    with pytest.raises(Temporary) as raised:
        await runc.state(f"{bundles.prefix}a")
    assert raised.value.code is Code.RUNTIME
    asking = asyncio.create_task(runc.state(f"{bundles.prefix}a"))
    await until(lambda: processes_naming("sleep 1000.5"))
    asking.cancel()
    with pytest.raises(asyncio.CancelledError):
        await asking
    assert processes_naming("sleep 1000.5") == []


async def test_a_state_that_cannot_be_read_is_not_taken_for_absence(
    runc: Runc, bundles: Bundles, run_dir: Path
) -> None:
    """Else what still runs would be forgotten as removed."""
    id_, bundle = bundles.bundle("a")
    await runc.create(held(id_), bundle, SILENT)
    state = run_dir / "runc" / id_ / "state.json"
    whole = state.read_bytes()
    state.write_bytes(whole[:100])
    with pytest.raises(Fault) as raised:
        await runc.delete(id_)
    assert raised.value.code is Code.RUNTIME
    state.write_bytes(whole)
    assert await runc.discard(id_)


# --- whoever dies -----------------------------------------------------------------------------------------------------

CALLER = """
import asyncio, os, sys
from pathlib import Path
from workers.host.conmon import Streams
from workers.host.runc import Held, Role, Runc

async def main(binary, run_dir, id_, bundle, start):
    runc = Runc(binary, Path(run_dir))
    await runc.create(Held(id_, "pod", "container", Role.APP, 1), Path(bundle), Streams())
    if start == "start":
        await runc.start(id_)
    print("made", flush=True)
    await asyncio.sleep(1000)

asyncio.run(main(*sys.argv[1:]))
"""


def slowly(tmp_path: Path, seconds: float) -> str:
    """A runc that takes its time to create; all else is as ever."""
    path = tmp_path / "slow-runc"
    path.write_text(f'#!/bin/sh\ncase " $* " in *" create "*) sleep {seconds} ;; esac\nexec /usr/sbin/runc "$@"\n')
    path.chmod(0o755)
    return str(path)


def caller(binary: str, run_dir: Path, id_: str, bundle: Path, start: str = "") -> subprocess.Popen[bytes]:
    """Another process of ours that makes a container."""
    line = [sys.executable, "-c", CALLER, binary, str(run_dir), id_, str(bundle), start]
    return subprocess.Popen(line, stdout=subprocess.PIPE, cwd=Path(__file__).parents[3])


def killed(process: subprocess.Popen[bytes]) -> None:
    process.kill()
    process.wait()
    assert process.stdout is not None
    process.stdout.close()


async def test_a_container_outlives_kill_9_of_its_maker_and_another_takes_over(runc: Runc, bundles: Bundles) -> None:
    id_, bundle = bundles.bundle("a")
    maker = caller("/usr/sbin/runc", runc._root.parent, id_, bundle, "start")
    assert maker.stdout is not None
    assert maker.stdout.readline() == b"made\n"
    killed(maker)
    status, pid = await runc.state(id_)
    assert status == "running"
    assert runc.held() == [held(id_)]
    os.kill(pid, signal.SIGTERM)
    os.kill(pid, signal.SIGKILL)
    assert await ended(runc, id_) == 137


async def test_what_a_killed_maker_was_making_is_waited_for_and_removed(
    runc: Runc, bundles: Bundles, run_dir: Path, tmp_path: Path
) -> None:
    """Its conmon goes on: a container that is not there yet comes when nobody expects it."""
    id_, bundle = bundles.bundle("a")
    maker = caller(slowly(tmp_path, 0.7), run_dir, id_, bundle)
    await until((run_dir / "held" / f"{id_}.conmon").exists)
    killed(maker)
    assert await runc.state(id_) == ("absent", 0)
    assert await runc.discard(id_)
    assert left_of(id_, run_dir) == []


async def test_what_a_cancelled_call_was_making_is_waited_for_and_removed(
    bundles: Bundles, run_dir: Path, tmp_path: Path
) -> None:
    id_, bundle = bundles.bundle("a")
    runc = Runc(slowly(tmp_path, 0.7), run_dir)
    making = asyncio.create_task(runc.create(held(id_), bundle, SILENT))
    await until((run_dir / "held" / f"{id_}.conmon").exists)
    before = len(descriptors())
    making.cancel()
    with pytest.raises(asyncio.CancelledError):
        await making
    assert await runc.discard(id_)
    assert left_of(id_, run_dir) == []
    assert len(descriptors()) <= before


async def test_a_container_that_takes_too_long_to_make_is_a_temporary_fault_and_can_be_discarded(
    bundles: Bundles, run_dir: Path, tmp_path: Path
) -> None:
    id_, bundle = bundles.bundle("a")
    runc = Runc(slowly(tmp_path, 1), run_dir, patience=0.4)
    with pytest.raises(Temporary) as raised:
        await runc.create(held(id_), bundle, SILENT)
    assert raised.value.code is Code.RUNTIME
    assert runc.held() == [held(id_)], "what may still come is not forgotten"
    with pytest.raises(Temporary):
        await runc.discard(id_)
    assert await Runc("/usr/sbin/runc", run_dir).discard(id_)
    assert left_of(id_, run_dir) == []


async def test_a_half_made_container_that_runc_does_not_know_is_removed(
    runc: Runc, bundles: Bundles, run_dir: Path
) -> None:
    """A `runc create` that is killed leaves its directory, and every further create fails for it."""
    id_, bundle = bundles.bundle("a")
    (run_dir / "runc" / id_).mkdir(mode=0o711)
    assert await runc.state(id_) == ("absent", 0)
    await runc.discard(id_)
    await runc.create(held(id_), bundle, SILENT)
    assert (await runc.state(id_))[0] == "created"


async def test_an_ended_containers_conmon_is_not_mistaken_for_another_process_of_its_number(
    runc: Runc, bundles: Bundles, run_dir: Path
) -> None:
    id_, _ = bundles.bundle("a")
    (run_dir / "held" / f"{id_}.conmon").write_text(str(os.getpid()))
    assert not await runc.discard(id_)


def test_records_that_are_none_are_passed_over(runc: Runc, run_dir: Path) -> None:
    for number, text in enumerate(("", "{", "[]", "1", '{"id": "x"}', '{"id":1,"role":"nothing"}', "\0")):
        (run_dir / "held" / f"{number}.json").write_text(text)
    (run_dir / "held" / "7.json").write_bytes(b"\xff\xfe")
    assert runc.held() == []
    assert runc.record("../../etc/passwd") is None
    assert runc.record("\0") is None


async def test_memory_that_ran_out_is_known_until_the_container_is_forgotten(
    runc: Runc, bundles: Bundles, run_dir: Path
) -> None:
    limits = {"memory": {"limit": 16 << 20}}
    id_, bundle = bundles.bundle("hog", "sh", "-c", "busybox tail /dev/zero; exit 3", resources=limits)
    await runc.create(held(id_), bundle, SILENT)
    await runc.start(id_)
    assert await ended(runc, id_) == 3
    assert runc.ran_out_of_memory(id_)
    await runc.delete(id_)
    runc.forget(id_)
    assert not runc.ran_out_of_memory(id_)
    assert left_of(id_, run_dir) == []
