"""The dispatcher on a real bus: every launch comes to its end, whoever dies, whatever is lost."""

from __future__ import annotations

import asyncio
import time
from collections.abc import AsyncIterator, Awaitable, Callable
from contextlib import asynccontextmanager, suppress
from typing import Any

import pytest
from nats.js.errors import NotFoundError

from orchestrator import events
from orchestrator.bus import Bus, Histories, WorkQueue, ensure_streams, subjects
from orchestrator.bus.facts import FactFeed
from orchestrator.dispatch import Dispatcher
from orchestrator.events import Command, Fact, Recorded, StepFailed
from orchestrator.faults import Code, Permanent, Temporary
from orchestrator.launch import Launch, awaited
from orchestrator.lifecycle import LAUNCH_STATES, State, Zone
from tests.nats import NatsServer, until
from tests.simulators import history
from tests.simulators.history import APP, NODE, POD, SIDECAR
from tests.simulators.node import Containerd, ToyNode

SECOND_NS = 1_000_000_000


@asynccontextmanager
async def at_work(*runs: Callable[[], Awaitable[None]]) -> AsyncIterator[list[asyncio.Task[None]]]:
    """Run them beside the test, and end them with it. One that dies of itself fails the test."""

    async def one(run: Callable[[], Awaitable[None]]) -> None:
        await run()

    tasks = [asyncio.create_task(one(run)) for run in runs]
    try:
        yield tasks
    finally:
        died = [task for task in tasks if task.done() and not task.cancelled()]
        for task in tasks:
            task.cancel()
        for task in tasks:
            with suppress(asyncio.CancelledError):
                await task
        assert died == []


async def reaches(containerd: Containerd, state: State, seconds: float = 20) -> Launch:
    async def there() -> bool:
        launch = await containerd.launch()
        return launch.state is state and not (state is State.APP_BOOTED and awaited(launch))

    await until(there, seconds)
    return await containerd.launch()


async def test_a_pod_with_two_containers_is_carried_through_all_seven_states(bus: Bus) -> None:
    node, containerd = ToyNode(bus), Containerd(bus, POD)
    async with at_work(Dispatcher(bus, "orchestrator/1").run, node.run):
        await containerd.run_pod()
        for container in (APP, SIDECAR):
            await containerd.run_container(container)
        launch = await reaches(containerd, State.APP_BOOTED)
    states = [p.state for p in (*launch.progress.passed, *launch.containers[APP].progress.passed)]
    assert states == list(LAUNCH_STATES)
    assert launch.ignored == ()
    assert node.done == {
        **dict.fromkeys(("create_sandbox", "launch_agent", "attest"), 1),
        **dict.fromkeys(("decrypt_image", "seal_fs", "start_app", "deliver_config", "boot_app"), 2),
    }


async def test_a_stopped_pod_is_torn_down_and_nothing_of_it_stays_in_memory(bus: Bus) -> None:
    containerd, dispatcher = Containerd(bus, POD), Dispatcher(bus, "orchestrator/1")
    async with at_work(dispatcher.run, ToyNode(bus).run):
        await containerd.run_pod()
        await containerd.run_container()
        await reaches(containerd, State.APP_BOOTED)
        await containerd.stop()
        launch = await reaches(containerd, State.GONE)

        async def forgotten() -> bool:
            return not dispatcher._launches and not dispatcher._commanded and not len(dispatcher._wheel)

        await until(forgotten)
    assert launch.containers[APP].progress.state is State.GONE
    assert dispatcher._histories._launches == {}


async def test_a_launch_that_waits_for_nothing_is_not_kept_in_memory(bus: Bus) -> None:
    containerd, dispatcher = Containerd(bus, POD), Dispatcher(bus, "orchestrator/1")
    async with at_work(dispatcher.run, ToyNode(bus).run):
        await containerd.run_pod()
        await containerd.run_container()
        await reaches(containerd, State.APP_BOOTED)

        async def forgotten() -> bool:
            return not dispatcher._launches

        await until(forgotten)
        await containerd.stop()  # and is read again when something comes
        await reaches(containerd, State.GONE)


async def test_two_orchestrators_carry_fifty_launches_and_no_step_is_told_twice(server: NatsServer) -> None:
    async with (
        await server.connect("one") as one,
        await server.connect("two") as two,
        await server.connect("node") as workers,
        await server.connect("shim") as shim,
    ):
        node = ToyNode(workers)
        pods = [Containerd(shim, f"{n:064x}") for n in range(50)]
        async with at_work(Dispatcher(one, "o/1").run, Dispatcher(two, "o/2").run, node.run):
            for pod in pods:
                await pod.run_pod()
                await pod.run_container()
            launches = [await reaches(pod, State.APP_BOOTED, 60) for pod in pods]
    assert all(launch.index == 11 and launch.ignored == () for launch in launches)


async def test_a_temporary_failure_is_tried_again_after_a_pause_and_then_given_up(bus: Bus) -> None:
    begun: list[float] = []

    async def fail(command: Command) -> None:
        if command.transition == "launch_agent":
            begun.append(time.monotonic())
            raise Temporary(Code.AGENT_NOT_STARTED, "no", expected="a", got="b", advice="c")

    containerd = Containerd(bus, POD)
    async with at_work(Dispatcher(bus, "o").run, ToyNode(bus, before=fail).run):
        await containerd.run_pod()
        launch = await reaches(containerd, State.FAILED)
        await until(lambda: torn_down(containerd))
    assert launch.failure is not None
    assert (launch.failure.diagnosis.code, launch.failure.attempt) == (Code.AGENT_NOT_STARTED, 2)
    assert len(begun) == 2
    assert begun[1] - begun[0] >= 0.5


def told_once(launch: Launch) -> bool:
    """Each of the seven states once, and nothing that was told in vain."""
    passed = [p.state for p in (*launch.progress.passed, *launch.containers[APP].progress.passed)]
    return passed == list(LAUNCH_STATES) and launch.ignored == ()


async def torn_down(containerd: Containerd) -> bool:
    return (await containerd.launch()).progress.torn_down


async def test_a_permanent_failure_is_not_tried_again(bus: Bus) -> None:
    async def fail(command: Command) -> None:
        if command.transition == "decrypt_image":
            raise Permanent(Code.SIGNATURE_WRONG, "no", expected="a", got="b", advice="c")

    node, containerd = ToyNode(bus, before=fail), Containerd(bus, POD)
    async with at_work(Dispatcher(bus, "o").run, node.run):
        await containerd.run_pod()
        await containerd.run_container()
        launch = await reaches(containerd, State.FAILED)
    assert node.done["decrypt_image"] == 1
    assert launch.containers[APP].progress.failure is not None


async def test_a_step_that_nobody_executes_is_failed_at_its_deadline_and_asked_again(bus: Bus) -> None:
    """No node runs; the pod was asked for so long ago that its first attempt is over."""
    containerd = Containerd(bus, POD)
    async with at_work(Dispatcher(bus, "orchestrator/1").run):
        await containerd.run_pod(at_ns=time.time_ns() - 31 * SECOND_NS)

        async def given_up() -> bool:
            return (await containerd.launch()).progress.attempt == 2

        await until(given_up)
        await until(lambda: queued(bus, subjects.host_command(NODE, "create_sandbox", POD)))
    failed = [r.fact for r in await containerd.histories.read(POD) if isinstance(r, Recorded)][1]
    assert isinstance(failed.body, StepFailed)
    assert (failed.body.code, failed.actor, failed.attempt) == (Code.DEADLINE, "orchestrator/1", 1)


async def queued(bus: Bus, subject: str) -> int:
    """How many commands wait on that subject."""
    info = await bus.stream.stream_info(subjects.COMMANDS, subjects_filter=subject)
    return (info.state.subjects or {}).get(subject, 0)


async def test_a_deadline_that_passed_while_no_orchestrator_ran_is_found_by_the_next(bus: Bus) -> None:
    containerd = Containerd(bus, POD)
    await containerd.run_pod(at_ns=time.time_ns() - 200 * SECOND_NS)
    feed = FactFeed(bus)
    async for fact in feed.deliveries():  # the fact itself was served by one who then died
        await fact.done()
        break
    async with at_work(Dispatcher(bus, "o").run):

        async def given_up() -> bool:
            return (await containerd.launch()).progress.attempt == 2

        await until(given_up)


async def test_of_two_orchestrators_one_tells_that_a_deadline_passed(server: NatsServer) -> None:
    async with await server.connect() as one, await server.connect() as two, await server.connect() as shim:
        pods = [Containerd(shim, f"{n:064x}") for n in range(20)]
        for pod in pods:
            await pod.run_pod(at_ns=time.time_ns() - 31 * SECOND_NS)
        async with at_work(Dispatcher(one, "o/1").run, Dispatcher(two, "o/2").run):
            for pod in pods:

                async def given_up(pod: Containerd = pod) -> bool:
                    return (await pod.launch()).index >= 2

                await until(given_up)
            await asyncio.sleep(0.5)
        launches = [await pod.launch() for pod in pods]
    assert [(launch.index, launch.ignored) for launch in launches] == [(2, ())] * 20


async def test_an_orchestrator_killed_between_the_command_and_its_acknowledgement_leaves_one_command(
    server: NatsServer,
) -> None:
    async with await server.connect() as bus:
        containerd = Containerd(bus, POD)
        async with await server.connect("first") as first:
            dispatcher = Dispatcher(first, "o/1")
            await containerd.run_pod()
            async for fact in FactFeed(first).deliveries():
                await dispatcher._take(fact)  # stores the command; dies before fact.done()
                break
        assert await queued(bus, subjects.host_command(NODE, "create_sandbox", POD))
        node = ToyNode(bus)
        async with at_work(Dispatcher(bus, "o/2").run, node.run):
            await reaches(containerd, State.ATTESTED)

            async def acknowledged() -> bool:
                info = await bus.stream.consumer_info(subjects.EVENTS, "dispatch")
                return not info.num_ack_pending and not info.num_pending

            await until(acknowledged)
    assert node.done["create_sandbox"] == 1


async def test_a_server_killed_in_the_middle_loses_and_doubles_nothing(server: NatsServer) -> None:
    async with await server.connect("o") as one, await server.connect("n") as two, await server.connect("s") as shim:
        node = ToyNode(two)
        pods = [Containerd(shim, f"{n:064x}") for n in range(20)]

        async def ask() -> None:
            for pod in pods:
                await pod.run_pod()
                await pod.run_container()
                await asyncio.sleep(0.05)

        async with at_work(Dispatcher(one, "o/1").run, node.run):
            asking = asyncio.create_task(ask())
            for _ in range(2):
                await asyncio.sleep(0.4)
                server.kill()
                await asyncio.to_thread(server.start)
            await asking
            launches = [await reaches(pod, State.APP_BOOTED, 60) for pod in pods]
    assert [told_once(launch) for launch in launches] == [True] * 20


async def test_orchestrators_and_workers_that_are_killed_again_and_again_finish_every_launch(
    server: NatsServer,
) -> None:
    async with await server.connect("shim") as shim:
        pods = [Containerd(shim, f"{n:064x}") for n in range(20)]
        for pod in pods:
            await pod.run_pod()
            await pod.run_container()
        agents = ToyNode(shim)  # agents keep their keys in memory: they live through it

        async with at_work(agents.run):
            for _ in range(6):
                async with await server.connect("o") as bus:
                    doomed = asyncio.create_task(Dispatcher(bus, "o").run())
                    await asyncio.sleep(0.15)
                    doomed.cancel()
                    with suppress(asyncio.CancelledError):
                        await doomed
            async with await server.connect("o") as bus, at_work(Dispatcher(bus, "o").run):
                launches = [await reaches(pod, State.APP_BOOTED, 60) for pod in pods]
    assert all(launch.index == 11 and launch.ignored == () for launch in launches)


async def test_a_queue_that_is_full_leaves_the_fact_for_later(bus: Bus) -> None:
    """As does one that is away: what the queue raises must not end the dispatcher."""
    await bus.stream.delete_stream(subjects.COMMANDS)
    containerd = Containerd(bus, POD)
    async with at_work(Dispatcher(bus, "o").run):
        await containerd.run_pod()

        async def kept() -> bool:
            return (await bus.stream.consumer_info(subjects.EVENTS, "dispatch")).num_ack_pending == 1

        await until(kept)
        await ensure_streams(bus)
        await until(lambda: queued(bus, subjects.host_command(NODE, "create_sandbox", POD)))


async def test_a_cancelled_dispatcher_ends_at_once_whatever_it_waits_for(server: NatsServer) -> None:
    """Before Python 3.12 a cancellation that comes together with an answer is forgotten by `asyncio.wait_for`."""
    async with await server.connect() as bus, await server.connect("node") as other:
        pods = [Containerd(other, f"{n:064x}") for n in range(40)]
        async with at_work(ToyNode(other).run):
            for number, pod in enumerate(pods):
                await pod.run_pod()
                running = asyncio.create_task(Dispatcher(bus, "o").run())
                await asyncio.sleep(0.002 * number)
                running.cancel()
                async with asyncio.timeout(30):
                    with suppress(asyncio.CancelledError):
                        await running


# --- what others may write ------------------------------------------------------------------------------------------


async def raw(bus: Bus, pod: str, body: events.Body, **fact: object) -> None:
    """A fact with a chain of its own making, stored unconditionally."""
    stated = Fact(pod, body, Zone.HOST, "stranger", **fact)  # type: ignore[arg-type]
    await bus.stream.publish(subjects.history(pod), events.encode(stated, 1, b"", None))


async def test_a_fact_for_a_pod_that_nobody_requested_stops_no_orchestrator(bus: Bus) -> None:
    await raw(bus, "1" * 64, events.AppBooted(1, 1), container=APP)  # forged: would fail the launch
    await raw(bus, "2" * 64, events.SandboxCreated("x", 1, "y"), attempt=1)
    await raw(bus, "3" * 64, events.StopRequested("x"))
    await raw(bus, "4" * 64, history.pod_requested("not a token"))
    containerd = Containerd(bus, POD)
    async with at_work(Dispatcher(bus, "o").run, ToyNode(bus).run):
        await containerd.run_pod()
        await reaches(containerd, State.ATTESTED)


async def test_a_fact_from_the_end_of_time_stops_no_orchestrator(bus: Bus) -> None:
    await raw(bus, "5" * 64, history.pod_requested(), at_ns=2**64 - 1)
    await raw(bus, "6" * 64, history.pod_requested(), at_ns=2**63 - 1)
    containerd = Containerd(bus, POD)
    async with at_work(Dispatcher(bus, "o").run, ToyNode(bus).run):
        await containerd.run_pod()
        await reaches(containerd, State.ATTESTED)


async def test_a_fact_that_names_another_pod_moves_neither(bus: Bus) -> None:
    """An agent may write to its own subject only; what it writes there says nothing about others."""
    containerd = Containerd(bus, POD)
    asked: list[str] = []

    async def hear(message: Any) -> None:
        asked.append(message.subject)

    await bus.client.subscribe("cmd.host.>", cb=hear)
    async with at_work(Dispatcher(bus, "o").run, ToyNode(bus).run):
        await containerd.run_pod()
        launch = await reaches(containerd, State.ATTESTED)
        stop = Fact(POD, events.StopRequested("forged"), Zone.HOST, "stranger")
        await bus.stream.publish(subjects.history("7" * 64), events.encode(stop, launch.index + 1, launch.head, None))
        await containerd.run_container()
        await reaches(containerd, State.APP_BOOTED)
    assert subjects.host_command(NODE, "start_app", POD) in asked
    assert subjects.host_command(NODE, "teardown", POD) not in asked


async def test_garbage_on_a_history_is_passed_over(bus: Bus) -> None:
    containerd = Containerd(bus, POD)
    async with at_work(Dispatcher(bus, "o").run, ToyNode(bus).run):
        for junk in (b"", b"{}", b"\xff" * 100):
            await bus.stream.publish(subjects.history(POD), junk)
        await containerd.run_pod()
        await bus.stream.publish(subjects.history(POD), b'{"stream":"EV", "seq":3}')
        await bus.stream.publish("ev.99.nobody", b"x")
        await containerd.run_container()
        launch = await reaches(containerd, State.APP_BOOTED)
    assert [entry.kind for entry in launch.ignored] == ["foreign"] * 4


async def test_a_broken_history_is_left_alone_and_the_others_go_on(bus: Bus) -> None:
    broken, whole = Containerd(bus, "8" * 64), Containerd(bus, POD)
    node = ToyNode(bus)
    await broken.run_pod()
    await raw(bus, "8" * 64, history.pod_requested())  # a second message 1
    async with at_work(Dispatcher(bus, "o").run, node.run):
        await whole.run_pod()
        await reaches(whole, State.ATTESTED)
    assert node.done["create_sandbox"] == 1
    with pytest.raises(Permanent, match="E-BUS-003"):
        await Histories(bus).launch("8" * 64)


async def test_late_and_doubled_facts_are_kept_and_change_nothing(bus: Bus) -> None:
    containerd = Containerd(bus, POD)
    async with at_work(Dispatcher(bus, "o").run, ToyNode(bus).run):
        await containerd.run_pod()
        before = await reaches(containerd, State.ATTESTED)
        late = Fact(POD, events.SandboxCreated("late", 9, "x"), Zone.HOST, "late", attempt=1)
        await containerd.histories.append(late)
        launch = await containerd.launch()
    assert launch.sandbox == before.sandbox
    assert launch.ignored[0].why == "create_sandbox attempt 1 was not awaited"


async def test_facts_given_again_after_the_pod_is_gone_ask_for_nothing(bus: Bus) -> None:
    containerd = Containerd(bus, POD)
    node = ToyNode(bus)
    async with at_work(Dispatcher(bus, "o").run, node.run):
        await containerd.run_pod()
        await reaches(containerd, State.ATTESTED)
        await containerd.stop()
        await reaches(containerd, State.GONE)
    await bus.stream.delete_consumer(subjects.EVENTS, "dispatch")  # so that everything is given once more
    await bus.stream.purge_stream(subjects.COMMANDS)
    await WorkQueue(bus).remove_consumer(subjects.host_consumer(NODE))
    dispatcher = Dispatcher(bus, "o/2")
    async with at_work(dispatcher.run):

        async def served() -> bool:
            try:
                info = await bus.stream.consumer_info(subjects.EVENTS, "dispatch")
            except NotFoundError:
                return False
            return not info.num_ack_pending and not info.num_pending

        await until(served)
        assert dispatcher._launches == {}
    assert (await bus.stream.stream_info(subjects.COMMANDS)).state.messages == 0
