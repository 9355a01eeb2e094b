"""What containerd executes: `start` and `delete` as processes, with and without a zygote."""

from __future__ import annotations

import asyncio
import json
import os
import signal
import socket
import subprocess
import sys
import time
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from pathlib import Path

import pytest

from schemas.containerd import task_pb2 as pb
from tests.simulators import guarded_bus
from tests.simulators.ttrpc_client import Client
from workers.host.shim.delete import ANSWER
from workers.host.shim.start import ZYGOTE

SHIM = [sys.executable, "-c", "from workers.host.shim.main import main; main()"]


@dataclass
class Runner:
    """Runs the shim's program as containerd does."""

    short: Path
    environment: dict[str, str]

    def __call__(self, bundle: Path, *words: str, id_: str = "c1") -> subprocess.CompletedProcess[bytes]:
        flags = ["-namespace", "k8s.io", "-address", str(self.short / "c.sock"), "-publish-binary", "containerd"]
        return subprocess.run(
            [*SHIM, *flags, "-id", id_, *words],
            cwd=bundle,
            env=self.environment,
            stdin=subprocess.DEVNULL,
            capture_output=True,
            check=False,
            timeout=30,
        )


@pytest.fixture
def run(short: Path) -> Iterator[Runner]:
    environment = {**os.environ, ZYGOTE: str(short / "zygote.sock"), "ENCLAVE_CC_NODE_CONFIG": str(short / "none")}
    yield Runner(short, environment)
    for path in (short / "enclave-cc").glob("*"):
        asyncio.run(shut_down(f"unix://{path}"))


@pytest.fixture
def zygote(run: Runner) -> Iterator[subprocess.Popen[bytes]]:
    path = run.short / "zygote.sock"
    process = subprocess.Popen([sys.executable, "-m", "workers.host.shim.zygote", "--address", path])
    while not path.exists():
        assert process.poll() is None
        time.sleep(0.02)
    yield process
    process.kill()
    process.wait()


async def shim_pid(address: str) -> int:
    async with Client(address) as client:
        request = pb.ConnectRequest(id="c1")
        return (await client.call("containerd.task.v2.Task/Connect", request, pb.ConnectResponse, seconds=10)).shim_pid


async def shut_down(address: str) -> None:
    """Ask for the end and wait until the socket is gone."""
    async with Client(address) as client:
        request = pb.ShutdownRequest(id="c1", now=True)
        await client.call("containerd.task.v2.Task/Shutdown", request, pb.ConnectResponse, seconds=10)
    async with asyncio.timeout(10):
        while Path(address.removeprefix("unix://")).exists():
            await asyncio.sleep(0.02)


def parent_of(pid: int) -> int:
    return int(Path(f"/proc/{pid}/stat").read_text().rpartition(")")[2].split()[1])


def test_start_answers_with_the_pods_address_and_leaves_a_process_that_serves_it(
    run: Runner, bundle: Callable[..., Path]
) -> None:
    path = bundle("c1", sandbox_id="p1")
    done = run(path, "start")
    assert (done.returncode, done.stderr) == (0, b"")
    address = done.stdout.decode()
    assert (path / "address").read_text() == address
    pid = asyncio.run(shim_pid(address))
    assert os.getsid(pid) == pid
    second = run(bundle("c2", sandbox_id="p1"), "start", id_="c2")
    assert second.stdout.decode() == address
    assert asyncio.run(shim_pid(address)) == pid
    asyncio.run(shut_down(address))


def test_a_zygotes_child_serves_and_outlives_it(
    run: Runner, zygote: subprocess.Popen[bytes], bundle: Callable[..., Path]
) -> None:
    address = run(bundle("c1", sandbox_id="p1"), "start").stdout.decode()
    pid = asyncio.run(shim_pid(address))
    assert parent_of(pid) == zygote.pid
    zygote.kill()
    zygote.wait()
    assert asyncio.run(shim_pid(address)) == pid
    asyncio.run(shut_down(address))


@pytest.mark.parametrize(
    "order",
    [b"", b"p1", b"p1\0n\0/b\0LD_PRELOAD=/x", b"p1\0n\0/b\0TTRPC_ADDRESS"],
    ids=["empty", "short", "other", "half"],
)
def test_what_is_no_order_makes_no_shim_and_the_zygote_goes_on(
    run: Runner, zygote: subprocess.Popen[bytes], bundle: Callable[..., Path], order: bytes
) -> None:
    with socket.socket(socket.AF_UNIX) as client, socket.socket(socket.AF_UNIX) as handed:
        client.connect(str(run.short / "zygote.sock"))
        socket.send_fds(client, [order], [handed.fileno()] if order else [])
        client.shutdown(socket.SHUT_WR)
        assert client.recv(1) == b""
    address = run(bundle("c1", sandbox_id="p1"), "start").stdout.decode()
    assert parent_of(asyncio.run(shim_pid(address))) == zygote.pid
    asyncio.run(shut_down(address))


def test_start_does_without_a_zygote_that_has_died(
    run: Runner, zygote: subprocess.Popen[bytes], bundle: Callable[..., Path]
) -> None:
    zygote.kill()
    zygote.wait()
    address = run(bundle("c1", sandbox_id="p1"), "start").stdout.decode()
    assert asyncio.run(shim_pid(address))
    asyncio.run(shut_down(address))


def test_a_zygotes_ended_children_are_reaped(
    run: Runner, zygote: subprocess.Popen[bytes], bundle: Callable[..., Path]
) -> None:
    address = run(bundle("c1", sandbox_id="p1"), "start").stdout.decode()
    pid = asyncio.run(shim_pid(address))
    os.kill(pid, signal.SIGKILL)
    ends = time.monotonic() + 5
    while Path(f"/proc/{pid}").exists():
        assert time.monotonic() < ends
        time.sleep(0.02)
    again = run(bundle("c2", sandbox_id="p1"), "start").stdout.decode()
    assert again == address
    assert asyncio.run(shim_pid(again)) != pid
    asyncio.run(shut_down(again))


def test_delete_repeats_the_answer_that_the_shim_left(run: Runner, bundle: Callable[..., Path]) -> None:
    path = bundle("c1", sandbox_id="p1")
    answer = pb.DeleteResponse(pid=7, exit_status=3).SerializeToString()
    (path / ANSWER).write_bytes(answer)
    done = run(path, "-bundle", str(path), "delete")
    assert (done.returncode, done.stdout, done.stderr) == (0, answer, b"")


def test_delete_after_a_lost_shim_answers_killed_and_says_why_it_could_not_ask(
    run: Runner, bundle: Callable[..., Path]
) -> None:
    path = bundle("c1", sandbox_id="p1")
    address = Path(run(path, "start").stdout.decode().removeprefix("unix://"))
    os.kill(asyncio.run(shim_pid(str(address))), signal.SIGKILL)
    done = run(path, "-bundle", str(path), "delete")
    assert done.returncode == 0
    assert pb.DeleteResponse.FromString(done.stdout).exit_status == 137
    assert b"E-INPUT-001" in done.stderr
    assert not address.exists()


def test_delete_after_a_lost_shim_writes_down_for_later_what_the_bus_is_not_there_to_take(
    run: Runner, bundle: Callable[..., Path], tmp_path: Path
) -> None:
    run.environment["ENCLAVE_CC_NODE_CONFIG"] = str(asyncio.run(node_whose_bus_has_gone(tmp_path)))
    path = bundle("c1", sandbox_id="p1")
    done = run(path, "-bundle", str(path), "delete")
    assert (done.returncode, pb.DeleteResponse.FromString(done.stdout).exit_status) == (0, 137)
    (written,) = (tmp_path / "removals").glob("*.json")
    assert json.loads(written.read_text()) == {"pod": "p1", "container": "c1", "reason": "the shim was lost"}


async def node_whose_bus_has_gone(folder: Path) -> Path:
    async with guarded_bus.running(folder) as bus:
        return bus.node_file


@pytest.mark.parametrize("words", [(), ("stop",), ("-namespace",)])
def test_people_are_told_what_this_program_is(run: Runner, tmp_path: Path, words: tuple[str, ...]) -> None:
    done = run(tmp_path, *words)
    assert done.returncode == 1
    assert done.stderr.startswith(b"containerd-shim-enclave-cc-v2: ")
    assert b"Traceback" not in done.stderr
