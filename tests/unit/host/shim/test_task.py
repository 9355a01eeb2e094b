from __future__ import annotations

import asyncio
import os
from collections.abc import AsyncIterator, Callable
from pathlib import Path
from typing import Any

import pytest
from google.protobuf.any_pb2 import Any as Any_

from orchestrator.faults import Code, Permanent
from schemas.containerd import events_pb2, process_pb2
from schemas.containerd import task_pb2 as pb
from tests.simulators.memory_pod import PID, MemoryPod
from workers.host.shim.delete import ANSWER
from workers.host.shim.pod import Exit
from workers.host.shim.task import TaskService
from workers.host.shim.ttrpc.status import Refusal, StatusCode

POD, APP = "p0d", "c0ntainer"
DENIED = Permanent(Code.SIGNATURE_MISSING, "the image is not signed")


class Told(list[Any]):
    """containerd's end of events: each as it comes."""

    publish = list.append


class World:
    """A Task service, its pod, and what containerd was told."""

    def __init__(self, service: TaskService, pod: MemoryPod, told: list[Any], bundles: Callable[..., Path]) -> None:
        self.service, self.pod, self.told, self._bundles = service, pod, told, bundles

    async def create_sandbox(self) -> pb.CreateTaskResponse:
        bundle = self._bundles(
            POD,
            container_type="sandbox",
            sandbox_id=POD,
            sandbox_name="web",
            sandbox_namespace="shop",
            sandbox_uid="u-1",
        )
        return await self.service.create(pb.CreateTaskRequest(id=POD, bundle=str(bundle)))

    async def create_app(self, bundle: Path | None = None) -> pb.CreateTaskResponse:
        bundle = bundle or self._bundles(
            APP, container_type="container", sandbox_id=POD, container_name="redis", image_name="registry/redis:7"
        )
        request = pb.CreateTaskRequest(id=APP, bundle=str(bundle), stdout="/fifo/out", stderr="/fifo/err")
        return await self.service.create(request)

    async def start(self, id_: str) -> int:
        return (await self.service.start(pb.StartRequest(id=id_))).pid

    async def state(self, id_: str) -> pb.StateResponse:
        return await self.service.state(pb.StateRequest(id=id_))

    async def wait(self, id_: str) -> int:
        return (await asyncio.wait_for(self.service.wait(pb.WaitRequest(id=id_)), 30)).exit_status

    async def delete(self, id_: str) -> pb.DeleteResponse:
        return await self.service.delete(pb.DeleteRequest(id=id_))

    async def events(self, count: int) -> list[Any]:
        async with asyncio.timeout(30):
            while len(self.told) < count:
                await asyncio.sleep(0.01)
        return self.told


@pytest.fixture
async def world(bundle: Callable[..., Path]) -> AsyncIterator[World]:
    told, pod = Told(), MemoryPod()
    tasks = asyncio.TaskGroup()
    async with tasks:
        yield World(TaskService(POD, pod, told, tasks), pod, told, bundle)
        for container in ("", APP):
            if not pod._exit(container).done():
                pod.end(container, 0)


async def refused(call: Any) -> Refusal:
    with pytest.raises(Refusal) as caught:
        await call
    return caught.value


async def test_a_pods_life_is_requests_to_the_pod_and_events_to_containerd(world: World) -> None:
    assert (await world.create_sandbox()).pid == PID
    assert (await world.state(POD)).status == process_pb2.CREATED
    assert await world.start(POD) == PID
    assert (await world.create_app()).pid == 0
    assert await world.start(APP) == PID + 1
    assert (await world.state(APP)).status == process_pb2.RUNNING
    await world.service.kill(pb.KillRequest(id=APP, signal=15))
    world.pod.end(APP, 143)
    assert await world.wait(APP) == 143
    deleted = await world.delete(APP)
    assert (deleted.pid, deleted.exit_status, deleted.exited_at.seconds, deleted.exited_at.nanos) == (
        PID + 1,
        143,
        1,
        1,
    )
    assert world.pod.asked == [
        "request_sandbox",
        "attested",
        f"request_container {APP}",
        f"start_container {APP}",
        f"signal {APP} 15",
        f"remove {APP}",
    ]
    told = await world.events(6)
    assert [type(event).__name__ for event in told] == [
        *("TaskCreate", "TaskStart"),
        *("TaskCreate", "TaskStart", "TaskExit", "TaskDelete"),
    ]
    assert (told[4].container_id, told[4].id, told[4].exit_status) == (APP, APP, 143)


async def test_what_containerd_says_of_a_container_reaches_the_pod(world: World) -> None:
    await world.create_sandbox()
    await world.create_app()
    assert world.pod.sandbox is not None
    assert (world.pod.sandbox.namespace, world.pod.sandbox.name, world.pod.sandbox.uid) == ("shop", "web", "u-1")
    request = world.pod.containers[APP]
    assert (request.name, request.image) == ("redis", "registry/redis:7")
    assert (request.streams.stdin, request.streams.stdout, request.streams.stderr) == ("", "/fifo/out", "/fifo/err")
    assert len(bytes.fromhex(request.process_sha256)) == 32


async def test_a_create_that_fails_leaves_a_task_that_has_ended_and_can_be_deleted(world: World) -> None:
    await world.create_sandbox()
    world.pod.fail[f"request_container {APP}"] = DENIED
    with pytest.raises(Permanent):
        await world.create_app()
    assert await world.wait(APP) == 255
    assert (await refused(world.service.kill(pb.KillRequest(id=APP, signal=9)))).status is StatusCode.NOT_FOUND
    assert (await world.delete(APP)).exit_status == 255
    assert f"remove {APP}" in world.pod.asked
    assert (await refused(world.state(APP))).status is StatusCode.NOT_FOUND


async def test_a_pod_that_is_not_attested_ends_with_its_diagnosis(world: World) -> None:
    await world.create_sandbox()
    world.pod.fail["attested"] = Permanent(Code.ATTEST_NOT_LISTED, "not listed")
    with pytest.raises(Permanent) as caught:
        await world.start(POD)
    assert caught.value.code is Code.ATTEST_NOT_LISTED
    assert await world.wait(POD) == 255
    await world.delete(POD)
    assert world.pod.asked[-1] == "remove "


async def test_a_create_that_containerd_gave_up_is_a_failed_one(world: World) -> None:
    await world.create_sandbox()
    world.pod.block[f"request_container {APP}"] = asyncio.Event()
    with pytest.raises(TimeoutError):
        async with asyncio.timeout(0.05):
            await world.create_app()
    assert await world.wait(APP) == 255
    await world.delete(APP)


async def test_delete_waits_for_a_kill_that_is_under_way(world: World) -> None:
    await world.create_sandbox()
    await world.start(POD)
    gate = world.pod.block["signal  9"] = asyncio.Event()
    killing = asyncio.create_task(world.service.kill(pb.KillRequest(id=POD, signal=9)))
    await asyncio.sleep(0.02)
    world.pod.end("", 137)
    await world.wait(POD)
    deleting = asyncio.create_task(world.delete(POD))
    await asyncio.sleep(0.02)
    assert "remove " not in world.pod.asked
    gate.set()
    with pytest.raises(Permanent):
        await killing
    await deleting
    assert world.pod.asked[-1] == "remove "


async def test_a_task_without_a_process_is_ended_by_a_signal_alone(world: World) -> None:
    await world.create_sandbox()
    await world.create_app()
    await world.service.kill(pb.KillRequest(id=APP, signal=9))
    assert await world.wait(APP) == 137
    assert [asked for asked in world.pod.asked if asked.startswith("signal")] == []


async def test_an_exit_is_never_told_before_its_start(world: World) -> None:
    await world.create_sandbox()
    await world.create_app()
    world.pod.end(APP, 0)
    await asyncio.sleep(0.02)
    await world.start(APP)
    told = await world.events(4)
    assert [type(event).__name__ for event in told] == ["TaskCreate", "TaskCreate", "TaskStart", "TaskExit"]


async def test_a_task_that_is_killed_while_it_starts_does_not_come_up(world: World) -> None:
    await world.create_sandbox()
    await world.create_app()
    gate = world.pod.block[f"start_container {APP}"] = asyncio.Event()
    starting = asyncio.create_task(world.start(APP))
    await asyncio.sleep(0.02)
    await world.service.kill(pb.KillRequest(id=APP, signal=9))
    assert await world.wait(APP) == 137
    gate.set()
    assert (await refused(starting)).status is StatusCode.FAILED_PRECONDITION
    await world.delete(APP)
    assert world.pod.asked[-1] == f"remove {APP}"


async def test_a_running_task_is_not_deleted_and_a_known_one_not_made_again(world: World) -> None:
    await world.create_sandbox()
    again = pb.CreateTaskRequest(id=POD, bundle=(await world.state(POD)).bundle)
    assert (await refused(world.service.create(again))).status is StatusCode.ALREADY_EXISTS
    await world.start(POD)
    assert (await refused(world.delete(POD))).status is StatusCode.FAILED_PRECONDITION
    assert (await refused(world.start(POD))).status is StatusCode.FAILED_PRECONDITION


async def test_a_container_of_another_pod_is_refused(world: World, bundle: Callable[..., Path]) -> None:
    stray = bundle("stray", container_type="container", sandbox_id="another")
    request = pb.CreateTaskRequest(id="stray", bundle=str(stray))
    assert (await refused(world.service.create(request))).status is StatusCode.INVALID_ARGUMENT
    assert world.pod.asked == []


async def test_only_a_sandboxs_own_id_names_it_and_there_are_no_containers_without_it(
    world: World, bundle: Callable[..., Path]
) -> None:
    sandbox = str(bundle("s", container_type="sandbox", sandbox_id=POD))
    container = str(bundle("c", container_type="container", sandbox_id=POD))
    without = await refused(world.service.create(pb.CreateTaskRequest(id=APP, bundle=container)))
    assert without.status is StatusCode.FAILED_PRECONDITION
    await world.create_sandbox()
    for id_, path in ((APP, sandbox), (POD + "2", sandbox)):
        crossed = await refused(world.service.create(pb.CreateTaskRequest(id=id_, bundle=path)))
        assert crossed.status is StatusCode.INVALID_ARGUMENT
    assert world.pod.asked == ["request_sandbox"]


async def test_a_container_of_a_sandbox_that_is_not_there_yet_or_has_ended_is_refused(
    world: World, bundle: Callable[..., Path]
) -> None:
    container = bundle(APP, container_type="container", sandbox_id=POD, image_name="registry/redis:7")
    world.pod.block["request_sandbox"] = gate = asyncio.Event()
    creating = asyncio.create_task(world.create_sandbox())
    while "request_sandbox" not in world.pod.asked:
        await asyncio.sleep(0)
    assert (await refused(world.create_app(container))).status is StatusCode.FAILED_PRECONDITION
    gate.set()
    await creating
    world.pod.end("", 0)
    await world.wait(POD)
    assert (await refused(world.create_app(container))).status is StatusCode.FAILED_PRECONDITION
    assert world.pod.asked == ["request_sandbox"]


async def test_a_task_is_not_started_while_it_is_being_created(world: World) -> None:
    await world.create_sandbox()
    world.pod.block[f"request_container {APP}"] = gate = asyncio.Event()
    creating = asyncio.create_task(world.create_app())
    while f"request_container {APP}" not in world.pod.asked:
        await asyncio.sleep(0)
    assert (await refused(world.start(APP))).status is StatusCode.FAILED_PRECONDITION
    gate.set()
    await creating
    assert await world.start(APP) == PID + 1


async def test_what_was_deleted_while_it_was_being_created_is_told_of_no_more(world: World) -> None:
    await world.create_sandbox()
    world.pod.block[f"request_container {APP}"] = gate = asyncio.Event()
    creating = asyncio.create_task(world.create_app())
    while f"request_container {APP}" not in world.pod.asked:
        await asyncio.sleep(0)
    await world.delete(APP)
    gate.set()
    assert (await refused(creating)).status is StatusCode.FAILED_PRECONDITION
    await world.start(POD)
    told = await world.events(3)
    assert [(type(event).__name__, event.container_id) for event in told] == [
        ("TaskCreate", POD),
        ("TaskDelete", APP),
        ("TaskStart", POD),
    ]


async def test_a_delete_that_waited_for_its_turn_does_not_delete_the_next_task_of_that_name(world: World) -> None:
    await world.create_sandbox()
    await world.create_app()
    bundle = Path((await world.state(APP)).bundle)
    gate = world.pod.block[f"remove {APP}"] = asyncio.Event()
    deleting = [asyncio.create_task(world.delete(APP)) for _ in range(2)]
    while f"remove {APP}" not in world.pod.asked:
        await asyncio.sleep(0)
    gate.set()
    await deleting[0]
    creating = asyncio.create_task(world.create_app(bundle))
    assert (await refused(deleting[1])).status is StatusCode.NOT_FOUND
    await creating
    assert (await world.state(APP)).status == process_pb2.CREATED
    assert world.pod.asked.count(f"remove {APP}") == 1


async def test_a_task_without_an_id_is_nobodys(world: World, bundle: Callable[..., Path]) -> None:
    await world.create_sandbox()
    path = str(bundle("nameless", container_type="container", sandbox_id=POD, container_name="redis", image_name="r"))
    nameless = await refused(world.service.create(pb.CreateTaskRequest(id="", bundle=path)))
    assert nameless.status is StatusCode.INVALID_ARGUMENT
    assert world.pod.asked == ["request_sandbox"]


async def test_there_are_64_signals_and_the_one_that_asks_ends_nothing(world: World) -> None:
    await world.create_sandbox()
    await world.create_app()
    await world.service.kill(pb.KillRequest(id=APP, signal=0))
    beyond = await refused(world.service.kill(pb.KillRequest(id=APP, signal=65)))
    assert beyond.status is StatusCode.INVALID_ARGUMENT
    assert (await world.state(APP)).status == process_pb2.CREATED


async def test_a_container_is_paused_and_goes_on_and_gets_other_limits(world: World) -> None:
    await world.create_sandbox()
    await world.create_app()
    assert (await refused(world.service.pause(pb.PauseRequest(id=APP)))).status is StatusCode.FAILED_PRECONDITION
    await world.start(APP)
    await world.service.pause(pb.PauseRequest(id=APP))
    assert (await world.state(APP)).status == process_pb2.PAUSED
    frozen = await refused(world.service.exec(pb.ExecProcessRequest(id=APP, exec_id="sh")))
    assert "is paused, and its enclave with it" in str(frozen)
    await world.service.resume(pb.ResumeRequest(id=APP))
    assert (await world.state(APP)).status == process_pb2.RUNNING
    limits = Any_(type_url="types.containerd.io/opencontainers/runtime-spec/1/LinuxResources", value=b"{}")
    await world.service.update(pb.UpdateTaskRequest(id=APP, resources=limits))
    other = await refused(world.service.update(pb.UpdateTaskRequest(id=APP, resources=Any_(type_url="x/Other"))))
    assert other.status is StatusCode.INVALID_ARGUMENT
    assert world.pod.asked[-3:] == [f"pause {APP}", f"unpause {APP}", f"limit {APP} {{}}"]


async def test_memory_that_ran_out_is_told_before_the_exit_that_it_caused(world: World) -> None:
    await world.create_sandbox()
    await world.create_app()
    await world.start(APP)
    before = len(await world.events(3))
    world.pod._exit(APP).set_result(Exit(137, 1, out_of_memory=True))
    told = (await world.events(before + 2))[before:]
    assert told[0] == events_pb2.TaskOOM(container_id=APP)
    assert told[1].exit_status == 137


async def test_a_containers_own_terminal_gets_another_size_where_it_has_one(world: World) -> None:
    await world.create_sandbox()
    await world.start(POD)
    bundle = world._bundles(APP, container_type="container", sandbox_id=POD, container_name="redis", image_name="r:7")
    await world.service.create(pb.CreateTaskRequest(id=APP, bundle=str(bundle), stdout="/fifo/out", terminal=True))
    resize = pb.ResizePtyRequest(id=APP, width=132, height=43)
    await world.service.resizepty(resize)
    assert not any("resize" in call for call in world.pod.asked), "it does not run yet"
    await world.start(APP)
    await world.service.resizepty(resize)
    await world.service.resizepty(pb.ResizePtyRequest(id=POD, width=132, height=43))
    assert [call for call in world.pod.asked if "resize" in call] == ["resize_exec  43 132"]


async def test_standard_input_stays_open_until_containerd_closes_it_or_its_reader_has_ended(
    world: World, tmp_path: Path
) -> None:
    await world.create_sandbox()
    await world.start(POD)
    for name in (APP, "other"):
        fifo = tmp_path / f"{name}-in"
        os.mkfifo(fifo)
        bundle = world._bundles(name, container_type="container", sandbox_id=POD, container_name=name, image_name="r:7")
        await world.service.create(pb.CreateTaskRequest(id=name, bundle=str(bundle), stdin=str(fifo)))
        with open(fifo, "rb", opener=lambda path, _: os.open(path, os.O_RDONLY | os.O_NONBLOCK)) as reader:
            os.set_blocking(reader.fileno(), False)
            containerd = os.open(fifo, os.O_WRONLY)
            os.write(containerd, b"typed")
            os.close(containerd)  # as one that restarts
            assert os.read(reader.fileno(), 100) == b"typed"
            with pytest.raises(BlockingIOError):
                os.read(reader.fileno(), 100)
            if name == APP:
                await world.service.closeio(pb.CloseIORequest(id=name, stdin=True))
            else:
                await world.service.kill(pb.KillRequest(id=name, signal=9))
            assert os.read(reader.fileno(), 100) == b""


async def test_a_checkpoint_is_refused_and_says_why(world: World) -> None:
    await world.create_sandbox()
    told = await refused(world.service.checkpoint(pb.CheckpointTaskRequest(id=POD)))
    assert told.status is StatusCode.UNIMPLEMENTED
    assert "an enclave cannot be checkpointed" in str(told)


async def test_the_shim_is_idle_only_when_its_last_task_is_deleted(world: World) -> None:
    await world.create_sandbox()
    await world.service.shutdown(pb.ShutdownRequest(id=POD))
    assert not world.service.idle.is_set()
    await world.delete(POD)
    await world.service.shutdown(pb.ShutdownRequest(id=POD))
    assert world.service.idle.is_set()


async def test_the_answer_to_delete_is_left_for_the_program_that_containerd_runs_next(world: World) -> None:
    await world.create_sandbox()
    bundle = Path((await world.state(POD)).bundle)
    reply = await world.delete(POD)
    assert pb.DeleteResponse.FromString((bundle / ANSWER).read_bytes()) == reply


async def test_the_answer_for_an_earlier_task_does_not_speak_for_the_next_one_in_its_bundle(world: World) -> None:
    await world.create_sandbox()
    await world.create_app()
    bundle = Path((await world.state(APP)).bundle)
    await world.delete(APP)
    assert (bundle / ANSWER).exists()
    await world.create_app(bundle)
    assert not (bundle / ANSWER).exists()


async def test_every_call_that_the_service_declares_is_answered_by_the_same_method_in_both_versions(
    world: World,
) -> None:
    declared = pb.DESCRIPTOR.services_by_name["Task"].methods
    methods = world.service.methods()
    assert set(methods) == {f"containerd.task.{v}.Task/{rpc.name}" for v in ("v2", "v3") for rpc in declared}
    for rpc in declared:
        assert methods[f"containerd.task.v2.Task/{rpc.name}"] == methods[f"containerd.task.v3.Task/{rpc.name}"]
