"""The Sandbox service in front of a pod in memory: what cannot be had on demand from a real one."""

from __future__ import annotations

import asyncio
import json
from collections.abc import AsyncIterator, Callable
from pathlib import Path

import pytest

from orchestrator.faults import Code, Permanent, Temporary
from schemas.containerd import sandbox_pb2 as pb
from tests.simulators.memory_pod import PID, MemoryPod
from workers.host.shim.sandbox import SandboxService
from workers.host.shim.task import TaskService
from workers.host.shim.ttrpc.status import Refusal, StatusCode

POD = "p0d"
KILL = "signal  9"


class Mortal(MemoryPod):
    """Its processes end by the signals that they are sent."""

    async def signal(self, container: str, number: int, *, everything: bool) -> None:
        await super().signal(container, number, everything=everything)
        self.end(container, 128 + number)


class Unheard:
    """A containerd that nobody asks what it was told."""

    def publish(self, event: object) -> None: ...


class World:
    """A Sandbox service whose bundle containerd has written, and the pod behind it."""

    def __init__(self, service: SandboxService, tasks: TaskService, pod: MemoryPod, bundle: Path) -> None:
        self.service, self.tasks, self.pod, self.bundle = service, tasks, pod, bundle

    async def create(self) -> None:
        await self.service.createsandbox(pb.CreateSandboxRequest(sandbox_id=POD, bundle_path=str(self.bundle)))

    async def start(self) -> pb.StartSandboxResponse:
        return await self.service.startsandbox(pb.StartSandboxRequest(sandbox_id=POD))

    async def stop(self) -> None:
        await self.service.stopsandbox(pb.StopSandboxRequest(sandbox_id=POD))

    async def state(self) -> str:
        return (await self.service.sandboxstatus(pb.SandboxStatusRequest(sandbox_id=POD))).state

    async def shut_down(self) -> None:
        await self.service.shutdownsandbox(pb.ShutdownSandboxRequest(sandbox_id=POD))


@pytest.fixture
async def world(bundle: Callable[..., Path]) -> AsyncIterator[World]:
    path = bundle(POD, container_type="sandbox", sandbox_id=POD, sandbox_name="web")
    pod = Mortal()
    async with asyncio.TaskGroup() as background:
        tasks = TaskService(POD, pod, Unheard(), background)
        yield World(SandboxService(POD, tasks), tasks, pod, path)
        if not pod._exit("").done():
            pod.end("", 0)


async def test_a_specification_that_containerd_brings_is_the_one_that_is_used(world: World) -> None:
    before = (world.bundle / "config.json").read_text()
    await world.create()
    assert (await world.start()).pid == PID
    assert (world.bundle / "config.json").read_text() == before
    assert world.pod.sandbox is not None
    assert world.pod.sandbox.name == "web"


async def test_a_stop_that_cannot_be_done_yet_is_not_told_as_a_shim_that_has_gone(world: World) -> None:
    await world.create()
    await world.start()
    world.pod.fail[KILL] = Temporary(Code.BUS_AWAY, "the bus is away")
    with pytest.raises(Refusal) as refused:
        await world.stop()
    assert refused.value.status is StatusCode.DEADLINE_EXCEEDED
    assert "the bus is away" in str(refused.value)
    assert await world.state() == "SANDBOX_READY"
    del world.pod.fail[KILL]
    await world.stop()
    assert await world.state() == "SANDBOX_NOTREADY"
    assert world.pod.asked[-1] == "remove "


async def test_a_removal_that_fails_is_tried_again_by_the_next_stop(world: World) -> None:
    await world.create()
    await world.start()
    world.pod.fail["remove "] = Permanent(Code.RUNTIME, "runc is gone")
    with pytest.raises(Permanent, match="runc is gone"):
        await world.stop()
    assert await world.state() == "SANDBOX_NOTREADY"
    del world.pod.fail["remove "]
    await world.stop()
    assert world.pod.asked.count("remove ") == 2
    assert world.pod.asked.count(KILL) == 1


async def test_stops_at_once_are_one(world: World) -> None:
    await world.create()
    await world.start()
    await asyncio.gather(world.stop(), world.stop(), world.stop())
    assert (world.pod.asked.count(KILL), world.pod.asked.count("remove ")) == (1, 1)


async def test_a_sandbox_whose_creation_was_refused_can_be_shut_down(world: World) -> None:
    (world.bundle / "config.json").write_text(json.dumps({"annotations": {}}))
    with pytest.raises(Permanent, match="only containers of Kubernetes pods"):
        await world.create()
    await world.shut_down()
    assert world.tasks.idle.is_set()
    assert world.pod.asked == []


async def test_a_sandbox_whose_launch_failed_is_removed_at_shutdown(world: World) -> None:
    world.pod.fail["request_sandbox"] = Permanent(Code.SANDBOX_NOT_CREATED, "no")
    with pytest.raises(Permanent):
        await world.create()
    assert await world.state() == "SANDBOX_NOTREADY"
    await world.shut_down()
    assert world.pod.asked == ["request_sandbox", "remove "]
    assert world.tasks.idle.is_set()


async def test_a_shim_is_shut_down_also_where_there_never_was_a_sandbox(world: World) -> None:
    await world.shut_down()
    assert world.tasks.idle.is_set()
