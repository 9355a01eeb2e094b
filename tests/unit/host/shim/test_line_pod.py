"""A pod by way of its node's worker: over a real socket, with a pod in memory behind it, and a worker that dies."""

from __future__ import annotations

import asyncio
from collections.abc import Callable, Coroutine, Iterator
from contextlib import contextmanager, suppress
from pathlib import Path
from typing import Any, TypeVar

import pytest

from orchestrator.faults import Code, Permanent, Temporary
from schemas import pod_pb2 as pb
from tests.simulators.memory_pod import PID, MemoryPod
from tests.simulators.ttrpc_client import CallFailed, Client
from workers.host.shim.line_pod import ASK, LinePod
from workers.host.shim.loop import Loop
from workers.host.shim.pod import ContainerRequest, ExecRequest, Exit, SandboxRequest, Streams
from workers.host.shim.ttrpc.status import Refusal, StatusCode
from workers.host.shim_door import serve_pods

T = TypeVar("T")
POD, APP = "p0d", "c0ntainer"
SANDBOX = SandboxRequest("/b", "shop", "web", "u-1", "ab" * 32, 7, ("registry/redis:7",))
REQUEST = pb.PodRequest(pod=POD, request_sandbox=pb.RequestSandbox(bundle="/b"))
CONTAINER = ContainerRequest(APP, "/b", "redis", "registry/redis:7", "cd" * 32, Streams("/in", "/out", "/err"))


@pytest.fixture
def path(short: Path) -> Path:
    return short / "shims.sock"


@contextmanager
def working(path: Path, pods: dict[str, MemoryPod]) -> Iterator[asyncio.Task[None]]:
    """A worker in this test's loop, until it is killed or the test is over."""
    serving = asyncio.create_task(serve_pods(path, lambda pod: pods.setdefault(pod, MemoryPod())))
    try:
        yield serving
    finally:
        serving.cancel()


async def asked(path: Path, call: Callable[[LinePod], Coroutine[Any, Any, T]]) -> T:
    """What a shim is answered, in a loop and a thread of its own."""
    loop = Loop()
    pod = LinePod(loop, POD, lambda: str(path))

    async def main() -> T:
        loop.create_task(pod.run())
        return await call(pod)

    return await asyncio.wait_for(asyncio.to_thread(loop.run, main()), 20)


async def test_every_question_reaches_the_pod_as_it_was_asked(path: Path) -> None:
    pods: dict[str, MemoryPod] = {}

    async def life(pod: LinePod) -> list[int]:
        pids = [await pod.request_sandbox(SANDBOX)]
        await pod.attested()
        await pod.request_container(CONTAINER)
        pids.append(await pod.start_container(APP))
        pids.append(
            await pod.start_exec(ExecRequest(APP, "e1", ("/bin/id", "-u"), Streams(stdout="/o", terminal=True)))
        )
        await pod.resize_exec(APP, "e1", 24, 80)
        await pod.signal_exec(APP, "e1", 2)
        await pod.forget_exec(APP, "e1")
        await pod.pause("")
        await pod.unpause(APP)
        await pod.limit(APP, b"{}")
        await pod.signal(APP, 15, everything=True)
        await pod.remove(APP, "removed by containerd")
        ended = await pod.exit_of(APP)
        assert ended == Exit(137, 1_000_000_001)
        return pids

    with working(path, pods):
        assert await asked(path, life) == [PID, PID + 1, PID + 2]
    pod = pods[POD]
    assert (pod.sandbox, pod.containers[APP]) == (SANDBOX, CONTAINER)
    assert pod.execs["e1"] == ExecRequest(APP, "e1", ("/bin/id", "-u"), Streams(stdout="/o", terminal=True))
    assert pod.asked == [
        *("request_sandbox", "attested", f"request_container {APP}", f"start_container {APP}", "start_exec e1"),
        *("resize_exec e1 24 80", "signal_exec e1 2", "forget_exec e1", "pause ", f"unpause {APP}"),
        *(f"limit {APP} {{}}", f"signal {APP} 15", f"remove {APP}"),
    ]


async def test_a_pods_refusal_keeps_its_status_and_its_words(path: Path) -> None:
    pods = {POD: MemoryPod()}
    pods[POD].fail["attested"] = Permanent(Code.ATTEST_NOT_LISTED, "not listed", expected="a", got="b", advice="list")
    pods[POD].fail["signal  9"] = Temporary(Code.BUS_AWAY, "nobody there")
    with working(path, pods):
        with pytest.raises(Refusal) as refused:
            await asked(path, lambda pod: pod.attested())
        assert refused.value.status is StatusCode.UNKNOWN
        assert str(refused.value) == "E-INPUT-001: E-ATTEST-002: not listed (expected a; got b; try list)"
        with pytest.raises(Refusal) as away:
            await asked(path, lambda pod: pod.signal("", 9, everything=False))
        assert away.value.status is StatusCode.UNAVAILABLE


async def test_what_waits_is_asked_of_the_next_worker_when_one_is_killed(path: Path) -> None:
    first, second = MemoryPod(), MemoryPod()
    first.block["request_sandbox"] = asyncio.Event()

    async def life(pod: LinePod) -> tuple[int, int]:
        pid = await pod.request_sandbox(SANDBOX)
        return pid, (await pod.exit_of("")).status

    with working(path, {POD: first}) as worker:
        living = asyncio.create_task(asked(path, life))
        await until(lambda: first.asked)
        worker.cancel()
        with suppress(asyncio.CancelledError):
            await worker
    with working(path, {POD: second}):
        await until(lambda: second.asked)
        second.end("", 7)
        assert await living == (PID, 7)
    assert first.asked == second.asked == ["request_sandbox"]


async def test_without_a_worker_a_question_waits_as_long_as_it_has_patience_and_is_unavailable(
    path: Path,
) -> None:
    loop = Loop()
    pod = LinePod(loop, POD, lambda: str(path), patience=0.3)

    async def main() -> None:
        loop.create_task(pod.run())
        await pod.attested()

    with pytest.raises(Temporary) as away:
        await asyncio.to_thread(loop.run, main())
    assert away.value.code is Code.BUS_AWAY


async def test_a_question_that_fits_no_frame_is_refused_and_the_next_one_is_asked(path: Path) -> None:
    async def ask(pod: LinePod) -> int:
        with pytest.raises(Permanent) as refused:
            await pod.limit(APP, bytes(5 << 20))
        assert refused.value.code is Code.INPUT
        return await pod.request_sandbox(SANDBOX)

    with working(path, {}):
        assert await asked(path, ask) == PID


async def test_a_configuration_that_cannot_be_read_is_told_to_every_caller() -> None:
    loop = Loop()

    def unreadable() -> str:
        raise Permanent(Code.INPUT, "the node's configuration cannot be read")

    pod = LinePod(loop, POD, unreadable)

    async def main() -> None:
        loop.create_task(pod.run())
        for call in (pod.attested(), pod.exit_of(APP)):
            with pytest.raises(Permanent):
                await call

    await asyncio.to_thread(loop.run, main())


async def test_a_shim_that_has_ended_is_waited_for_no_longer(path: Path) -> None:
    pod = MemoryPod()
    gate = pod.block["request_sandbox"] = WatchedEvent()
    with working(path, {POD: pod}):
        await until(path.exists)
        client = Client(str(path))
        async with client:
            asking = asyncio.create_task(client.call(ASK, REQUEST, pb.PodReply, seconds=20))
            await until(lambda: pod.asked)
        with suppress(Temporary):
            await asking
        await asyncio.wait_for(gate.left.wait(), 10)


class WatchedEvent(asyncio.Event):
    """One that knows that nobody waits for it any more."""

    def __init__(self) -> None:
        super().__init__()
        self.left = asyncio.Event()

    async def wait(self) -> Any:
        try:
            return await super().wait()
        finally:
            self.left.set()


@pytest.mark.parametrize(
    "request_", [pb.PodRequest(pod=POD), pb.PodRequest(attested=pb.Attested())], ids=["nothing", "nobody"]
)
async def test_a_question_that_is_none_is_refused(path: Path, request_: pb.PodRequest) -> None:
    with working(path, {}):
        await until(path.exists)
        async with Client(str(path)) as client:
            with pytest.raises(CallFailed) as refused:
                await client.call(ASK, request_, pb.PodReply, seconds=10)
        assert refused.value.status == StatusCode.INVALID_ARGUMENT


async def test_a_connection_is_one_pods(path: Path) -> None:
    with working(path, {}):
        await until(path.exists)
        async with Client(str(path)) as client:
            await client.call(ASK, pb.PodRequest(pod=POD, attested=pb.Attested()), pb.PodReply, seconds=10)
            with pytest.raises(CallFailed):
                await client.call(ASK, pb.PodRequest(pod="another", attested=pb.Attested()), pb.PodReply, seconds=10)


async def until(look: Callable[[], object]) -> None:
    async with asyncio.timeout(20):
        while not look():
            await asyncio.sleep(0.01)
