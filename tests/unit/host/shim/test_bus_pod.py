"""The seam over a real bus, with a shim's permissions; the node and the agent are played here."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator, Awaitable, Callable
from dataclasses import dataclass, replace
from pathlib import Path
from typing import TypeVar

import pytest

from orchestrator import events
from orchestrator.bus import Bus, Histories, subjects
from orchestrator.events import Fact
from orchestrator.faults import Code, Permanent, Temporary
from orchestrator.launch import Launch
from orchestrator.lifecycle import BY_NAME, State, Zone
from schemas import commands_pb2
from tests.simulators import guarded_bus, history
from tests.simulators.history import APP, POD, EventKey
from workers.host import node as configuration
from workers.host.node import Node
from workers.host.shim.bus_pod import BusPod, Connection
from workers.host.shim.pod import ContainerRequest, ExecRequest, Exit, SandboxRequest, Streams

T = TypeVar("T")
SANDBOX = SandboxRequest("/bundle/pod", "shop", "web", "u-1", "")
CONTAINER = ContainerRequest(APP, "/bundle/app", "redis", "registry/redis:7", "5b" * 32, Streams(stdout="/fifo/out"))


@dataclass
class Stage:
    """A bus, and everybody on it but the shim."""

    bus: Bus
    histories: Histories
    node: Callable[[], Node]
    key: EventKey

    async def say(self, body: events.Body, container: str = "", attempt: int = 1) -> None:
        """State a fact as its rightful author."""
        enclave = isinstance(body, history.ENCLAVE_FACTS)
        zone, sign = (Zone.ENCLAVE, self.key.sign) if enclave else (Zone.HOST, None)
        plain = isinstance(body, events.Exited | events.AgentLost)
        fact = Fact(POD, body, zone, "stage", container, 0 if plain else attempt)
        await self.histories.append(fact, sign=sign)

    async def until(self, look: Callable[[Launch], object]) -> Launch:
        async with asyncio.timeout(10):
            while not look(launch := await self.histories.launch(POD)):
                await asyncio.sleep(0.02)
        return launch

    async def attested(self) -> None:
        await self.say(events.SandboxCreated(POD, 4001, "/netns"))
        await self.say(history.agent_up())
        await self.say(history.attested(POD, self.key))

    async def sealed(self) -> None:
        await self.say(history.image_decrypted(), APP)
        await self.say(events.FsSealed("cd" * 32, 1, 2, "store"), APP)

    async def booted(self) -> None:
        await self.say(events.AppStarted(APP, 4003, history.APP_MEASUREMENT), APP)
        await self.say(events.ConfigDelivered("ef" * 32, "allowed", history.APP_MEASUREMENT), APP)
        await self.say(events.AppBooted(1, 7), APP)


@pytest.fixture
async def stage(tmp_path: Path) -> AsyncIterator[Stage]:
    async with guarded_bus.running(tmp_path) as guarded, await guarded.enter("worker") as bus:
        yield Stage(bus, Histories(bus), lambda: configuration.load(guarded.node_file), EventKey())


@pytest.fixture
async def pod(stage: Stage) -> AsyncIterator[BusPod]:
    pod = BusPod(POD, stage.node)
    running = asyncio.create_task(pod.run())
    yield pod
    await ended(running)


async def ended(running: asyncio.Task[None]) -> None:
    """Cancelled until it notices: Python 3.11's wait_for can swallow a cancellation (python/cpython#86296)."""
    while not running.done():
        running.cancel()
        await asyncio.wait([running], timeout=0.2)


async def bounded(call: Awaitable[T]) -> T:
    return await asyncio.wait_for(call, 15)


async def test_a_whole_launch_is_requests_answered_by_facts(stage: Stage, pod: BusPod) -> None:
    asking = asyncio.create_task(pod.request_sandbox(SANDBOX))
    requested = (await stage.until(lambda launch: launch.requested)).requested
    assert requested == events.PodRequested("node-a", "shop", "web", "u-1", "/bundle/pod", "")
    await stage.say(events.SandboxCreated(POD, 4001, "/netns"))
    assert await bounded(asking) == 4001
    waiting = asyncio.create_task(pod.attested())
    await stage.say(history.agent_up())
    assert not waiting.done()
    await stage.say(history.attested(POD, stage.key))
    await bounded(waiting)

    asking = asyncio.create_task(pod.request_container(CONTAINER))
    launch = await stage.until(lambda launch: APP in launch.containers)
    assert launch.containers[APP].requested.image == "registry/redis:7"
    assert launch.containers[APP].requested.stdout == "/fifo/out"
    await stage.sealed()
    await bounded(asking)

    starting = asyncio.create_task(pod.start_container(APP))
    await stage.until(lambda launch: launch.containers[APP].start_requested_ns)
    await stage.booted()
    assert await bounded(starting) == 4003

    ending = asyncio.create_task(pod.exit_of(APP))
    await stage.say(events.Exited(7, 1_000), APP)
    assert await bounded(ending) == Exit(7, 1_000)

    removing = asyncio.create_task(pod.remove(APP, "removed by containerd"))
    launch = await stage.until(lambda launch: launch.containers[APP].progress.state is State.STOPPING)
    assert launch.containers[APP].progress.stop_reason == "removed by containerd"
    await stage.say(events.TornDown(()), APP)
    await bounded(removing)


async def test_asking_twice_states_one_fact(stage: Stage, pod: BusPod) -> None:
    asked = [asyncio.create_task(pod.request_sandbox(SANDBOX)) for _ in range(3)]
    await stage.until(lambda launch: launch.requested)
    await stage.say(events.SandboxCreated(POD, 4001, "/netns"))
    assert [await bounded(ask) for ask in asked] == [4001] * 3
    assert len(await stage.histories.read(POD)) == 2


async def test_a_failed_launch_raises_its_own_diagnosis(stage: Stage, pod: BusPod) -> None:
    asking = asyncio.create_task(pod.request_sandbox(SANDBOX))
    await stage.until(lambda launch: launch.requested)
    await stage.attested()
    await bounded(asking)
    container = asyncio.create_task(pod.request_container(CONTAINER))
    await stage.until(lambda launch: APP in launch.containers)
    failed = history.step_failed("decrypt_image", code=Code.SIGNATURE_MISSING.value)
    fact = Fact(POD, failed, Zone.ENCLAVE, "agent", APP, 1)
    await stage.histories.append(fact, sign=stage.key.sign)
    with pytest.raises(Permanent) as refused:
        await bounded(container)
    assert refused.value.code is Code.SIGNATURE_MISSING
    assert refused.value.diagnosis.advice == "look at the worker's log"
    removing = asyncio.create_task(pod.remove(APP, "containerd gave up"))
    await stage.until(lambda launch: launch.containers[APP].progress.state is State.STOPPING)
    await stage.say(events.TornDown(()), APP)
    await bounded(removing)
    assert (await bounded(pod.exit_of(APP))).status == 255


async def test_a_launch_out_of_attempts_is_over_even_where_its_reason_may_pass(stage: Stage, pod: BusPod) -> None:
    asking = asyncio.create_task(pod.request_sandbox(SANDBOX))
    await stage.until(lambda launch: launch.requested)
    for attempt in range(1, BY_NAME["create_sandbox"].attempts + 1):
        failed = history.step_failed("create_sandbox", temporary=True, code=Code.RUNTIME.value)
        await stage.histories.append(Fact(POD, failed, Zone.HOST, "host-worker", attempt=attempt))
    with pytest.raises(Permanent) as refused:
        await bounded(asking)
    assert refused.value.code is Code.RUNTIME


async def test_removing_a_pod_or_container_that_was_never_asked_for_is_done_at_once(stage: Stage, pod: BusPod) -> None:
    await bounded(pod.remove("", "nothing"))
    await bounded(pod.remove(APP, "nothing"))
    assert await stage.histories.read(POD) == []


async def test_a_pod_that_is_gone_is_asked_for_nothing_more(stage: Stage, pod: BusPod) -> None:
    asking = asyncio.create_task(pod.request_sandbox(SANDBOX))
    await stage.until(lambda launch: launch.requested)
    await stage.attested()
    await bounded(asking)
    removing = asyncio.create_task(pod.remove("", "removed by containerd"))
    await stage.until(lambda launch: launch.progress.state is State.STOPPING)
    await stage.say(events.TornDown(()))
    await bounded(removing)
    for ask in (pod.request_container(CONTAINER), pod.request_sandbox(SANDBOX)):
        with pytest.raises(Permanent) as refused:
            await bounded(ask)
        assert refused.value.code is Code.STOPPED
    launch = await stage.histories.launch(POD)
    assert (launch.ignored, launch.containers) == ((), {})


async def test_a_container_of_a_pod_that_is_gone_needs_no_teardown_of_its_own(stage: Stage, pod: BusPod) -> None:
    asking = asyncio.create_task(pod.request_sandbox(SANDBOX))
    await stage.until(lambda launch: launch.requested)
    await stage.attested()
    await bounded(asking)
    container = asyncio.create_task(pod.request_container(CONTAINER))
    await stage.until(lambda launch: APP in launch.containers)
    await stage.say(events.AgentLost(137))
    with pytest.raises(Permanent) as lost:
        await bounded(container)
    assert lost.value.code is Code.AGENT_LOST
    await stage.say(events.TornDown(()))
    await bounded(pod.remove(APP, "its pod is gone"))
    assert (await bounded(pod.exit_of(APP))).status == 255


async def test_a_signal_is_a_request_to_the_node_and_its_refusal_a_fault(stage: Stage, pod: BusPod) -> None:
    seen: list[commands_pb2.SignalRequest] = []

    async def answer(raw: bytes) -> bytes:
        seen.append(commands_pb2.SignalRequest.FromString(raw))
        code = "" if len(seen) == 1 else Code.NOT_FOUND.value
        return commands_pb2.SignalReply(code=code, message="it has ended").SerializeToString()

    await stage.bus.serve(subjects.host_request("node-a", "signal"), answer)
    await bounded(pod.signal(APP, 15, everything=True))
    with pytest.raises(Permanent) as gone:
        await bounded(pod.signal("", 9, everything=False))
    assert gone.value.code is Code.NOT_FOUND
    assert [(s.runc_id, s.signal, s.all) for s in seen] == [(APP, 15, True), (POD, 9, False)]


async def test_commands_are_asked_of_the_node_again_while_it_is_away_and_end_with_their_container(
    stage: Stage, pod: BusPod
) -> None:
    seen: list[commands_pb2.ExecRequest] = []
    replies = [
        commands_pb2.ExecReply(pid=4711),
        commands_pb2.ExecReply(code="E-EXEC-001", message="denied", expected="e", got="g", advice="a"),
        commands_pb2.ExecReply(),
        commands_pb2.ExecReply(ended=True, status=7, exited_at_ns=5),
        commands_pb2.ExecReply(code="E-INPUT-002", message="the app enclave is not there"),
    ]

    async def answer(raw: bytes) -> bytes:
        seen.append(commands_pb2.ExecRequest.FromString(raw))
        return replies[len(seen) - 1].SerializeToString()

    request = ExecRequest(APP, "e1", ("/bin/id",), Streams(stdout="/fifo/out", terminal=True))
    starting = asyncio.create_task(pod.start_exec(request))
    await asyncio.sleep(0.3)  # the node is away: nobody has answered by now
    assert not starting.done()
    await stage.bus.serve(subjects.host_request("node-a", "exec"), answer)
    assert await bounded(starting) == 4711
    with pytest.raises(Permanent) as refused:
        await bounded(pod.start_exec(request))
    assert (refused.value.code, refused.value.diagnosis.expected) == (Code.EXEC_DENIED, "e")
    assert await bounded(pod.exit_of_exec(APP, "e1")) == Exit(7, 5)
    assert (await bounded(pod.exit_of_exec(APP, "e1"))).status == 137
    start = commands_pb2.ExecStart(args=["/bin/id"], stdout="/fifo/out", terminal=True)
    assert seen[0] == commands_pb2.ExecRequest(runc_id=APP, exec="e1", start=start)
    assert [asked.WhichOneof("ask") for asked in seen] == ["start", "start", "wait", "wait", "wait"]


async def test_a_bus_that_cannot_be_used_is_told_to_every_caller(stage: Stage) -> None:
    def unreadable() -> Node:
        raise Permanent(Code.INPUT, "the node's configuration cannot be read")

    pod = BusPod(POD, unreadable)
    running = asyncio.create_task(pod.run())
    for call in (pod.request_sandbox(SANDBOX), pod.attested(), pod.remove("", "x"), pod.signal("", 9, everything=True)):
        with pytest.raises(Permanent):
            await bounded(call)
    await running


async def test_a_node_that_does_not_answer_a_signal_is_a_temporary_fault(stage: Stage) -> None:
    pod = BusPod(POD, stage.node, patience=0.5)
    running = asyncio.create_task(pod.run())
    with pytest.raises(Temporary):
        await bounded(pod.signal(APP, 15, everything=False))
    await ended(running)


async def test_a_signal_waits_for_a_node_whose_worker_is_starting_anew(stage: Stage, pod: BusPod) -> None:
    signalling = asyncio.create_task(pod.signal(APP, 15, everything=False))
    await asyncio.sleep(0.5)
    assert not signalling.done()

    async def answer(_: bytes) -> bytes:
        return commands_pb2.SignalReply().SerializeToString()

    await stage.bus.serve(subjects.host_request("node-a", "signal"), answer)
    await bounded(signalling)


async def test_a_second_shim_of_a_pod_finds_everything_in_its_history(stage: Stage, pod: BusPod) -> None:
    asking = asyncio.create_task(pod.request_sandbox(SANDBOX))
    await stage.until(lambda launch: launch.requested)
    await stage.attested()
    await bounded(asking)
    second = BusPod(POD, stage.node)
    running = asyncio.create_task(second.run())
    assert await bounded(second.request_sandbox(replace(SANDBOX, bundle="/another"))) == 4001
    await bounded(second.attested())
    await ended(running)


async def test_a_pod_whose_shim_has_ended_is_remembered_by_nobody(stage: Stage) -> None:
    connection = Connection(stage.node(), stage.bus, stage.histories)

    async def reached() -> Connection:
        return connection

    await stage.say(history.pod_requested())
    pod = BusPod(POD, stage.node, reached=reached)
    running = asyncio.create_task(pod.run())
    await bounded(pod._until(lambda launch: launch.requested))
    await stage.histories.launch(POD)
    assert POD in stage.histories._launches
    await ended(running)
    assert POD not in stage.histories._launches
