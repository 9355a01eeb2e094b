"""Commands beside a workload, as containerd asks for them: what is remembered, what the enclave is asked and tells."""

from __future__ import annotations

import asyncio
import json
from typing import Any

import pytest
from google.protobuf.any_pb2 import Any as Any_

from orchestrator.faults import Code, Permanent
from schemas.containerd import events_pb2, process_pb2
from schemas.containerd import task_pb2 as pb
from tests.simulators.memory_pod import PID
from tests.unit.host.shim.test_task import APP, POD, World, refused, world
from workers.host.shim.pod import Exit
from workers.host.shim.ttrpc.status import StatusCode

__all__ = ["world"]
EXEC = "e" * 64


def asked(exec_id: str = EXEC, container: str = APP, **process: Any) -> pb.ExecProcessRequest:
    spec = json.dumps({"args": ["/bin/id", "-u"], "user": {"uid": 7}, **process}).encode()
    return pb.ExecProcessRequest(
        id=container, exec_id=exec_id, stdout="/fifo/out", terminal=True, spec=Any_(type_url="Process", value=spec)
    )


async def running(world: World) -> None:
    await world.create_sandbox()
    await world.start(POD)
    await world.create_app()
    await world.start(APP)


async def test_a_commands_life_is_requests_to_the_enclave_and_events_to_containerd(world: World) -> None:
    await running(world)
    before = len(await world.events(4))
    await world.service.exec(asked())
    assert (await world.service.state(pb.StateRequest(id=APP, exec_id=EXEC))).status == process_pb2.CREATED
    assert (await world.service.start(pb.StartRequest(id=APP, exec_id=EXEC))).pid == PID + 2
    request = world.pod.execs[EXEC]
    assert (request.container, request.args, request.streams.stdout) == (APP, ("/bin/id", "-u"), "/fifo/out")
    state = await world.service.state(pb.StateRequest(id=APP, exec_id=EXEC))
    assert (state.exec_id, state.pid, state.status, state.terminal) == (EXEC, PID + 2, process_pb2.RUNNING, True)
    listed = await world.service.pids(pb.PidsRequest(id=APP))
    assert [process.pid for process in listed.processes] == [PID + 1, PID + 2]
    await world.service.resizepty(pb.ResizePtyRequest(id=APP, exec_id=EXEC, width=80, height=24))
    await world.service.closeio(pb.CloseIORequest(id=APP, exec_id=EXEC, stdin=True))
    await world.service.kill(pb.KillRequest(id=APP, exec_id=EXEC, signal=15))
    running_one = await refused(world.service.delete(pb.DeleteRequest(id=APP, exec_id=EXEC)))
    assert running_one.status is StatusCode.FAILED_PRECONDITION
    world.pod.end(EXEC, 143)
    waited = await asyncio.wait_for(world.service.wait(pb.WaitRequest(id=APP, exec_id=EXEC)), 30)
    assert (waited.exit_status, waited.exited_at.nanos) == (143, 1)
    gone = await refused(world.service.kill(pb.KillRequest(id=APP, exec_id=EXEC, signal=9)))
    assert gone.status is StatusCode.NOT_FOUND
    assert (await world.service.delete(pb.DeleteRequest(id=APP, exec_id=EXEC))).exit_status == 143
    unknown = await refused(world.service.state(pb.StateRequest(id=APP, exec_id=EXEC)))
    assert unknown.status is StatusCode.NOT_FOUND
    assert world.pod.asked[-4:] == [
        f"start_exec {EXEC}", f"resize_exec {EXEC} 24 80", f"signal_exec {EXEC} 15", f"forget_exec {EXEC}"
    ]  # fmt: skip
    told = (await world.events(before + 3))[before:]
    assert [type(event) for event in told] == [
        events_pb2.TaskExecAdded, events_pb2.TaskExecStarted, events_pb2.TaskExit
    ]  # fmt: skip
    assert (told[2].container_id, told[2].id, told[2].exit_status) == (APP, EXEC, 143)
    assert (await world.state(APP)).status == process_pb2.RUNNING


async def test_what_the_enclave_refuses_is_the_answer_and_has_ended(world: World) -> None:
    await running(world)
    before = len(await world.events(4))
    world.pod.fail[f"start_exec {EXEC}"] = Permanent(Code.EXEC_DENIED, "the launch policy does not admit this command")
    await world.service.exec(asked())
    with pytest.raises(Permanent, match="E-EXEC-001"):
        await world.service.start(pb.StartRequest(id=APP, exec_id=EXEC))
    waited = await asyncio.wait_for(world.service.wait(pb.WaitRequest(id=APP, exec_id=EXEC)), 30)
    assert waited.exit_status == 255
    assert (await refused(world.service.start(pb.StartRequest(id=APP, exec_id=EXEC)))).status is (
        StatusCode.FAILED_PRECONDITION
    )
    assert (await world.service.delete(pb.DeleteRequest(id=APP, exec_id=EXEC))).exit_status == 255
    await world.service.exec(asked("another"))
    await world.service.start(pb.StartRequest(id=APP, exec_id="another"))
    kinds = [type(event) for event in (await world.events(before + 3))[before:]]
    added, started = events_pb2.TaskExecAdded, events_pb2.TaskExecStarted
    assert kinds == [added, added, started], "no exit is told of what never ran"
    world.pod.end("another", 0)


async def test_one_that_was_never_started_is_ended_by_a_signal_alone(world: World) -> None:
    await running(world)
    await world.service.exec(asked())
    await world.service.kill(pb.KillRequest(id=APP, exec_id=EXEC, signal=9))
    waited = await asyncio.wait_for(world.service.wait(pb.WaitRequest(id=APP, exec_id=EXEC)), 30)
    assert waited.exit_status == 137
    assert f"start_exec {EXEC}" not in world.pod.asked


async def test_it_is_for_a_container_that_runs_once_an_id_and_in_words(world: World) -> None:
    await world.create_sandbox()
    await world.create_app()
    too_early = await refused(world.service.exec(asked()))
    assert too_early.status is StatusCode.FAILED_PRECONDITION
    await world.start(POD)
    await world.start(APP)
    assert (await refused(world.service.exec(asked(container=POD)))).status is StatusCode.FAILED_PRECONDITION
    for words in ([], None, "id", ["a\0b"], [7], ["\ud800"]):
        wordless = await refused(world.service.exec(asked(args=words)))
        assert wordless.status is StatusCode.INVALID_ARGUMENT
    await world.service.exec(asked())
    assert (await refused(world.service.exec(asked()))).status is StatusCode.ALREADY_EXISTS


async def test_a_container_takes_its_commands_with_it(world: World) -> None:
    await running(world)
    await world.service.exec(asked())
    await world.service.start(pb.StartRequest(id=APP, exec_id=EXEC))
    waiting = asyncio.create_task(world.service.wait(pb.WaitRequest(id=APP, exec_id=EXEC)))
    await asyncio.sleep(0)
    world.pod.end(APP, 0)
    await world.wait(APP)
    await world.delete(APP)
    assert (await asyncio.wait_for(waiting, 30)).exit_status == 137
    world.pod._exit(EXEC).set_result(Exit(0, 1))
