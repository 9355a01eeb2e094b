"""The workers' loop on a real bus: what is asked is done, told once, and nothing that a step does ends the worker."""

from __future__ import annotations

import asyncio
import time
from collections.abc import AsyncIterator, Awaitable, Callable
from contextlib import asynccontextmanager, suppress

from orchestrator import events
from orchestrator.bus import Bus, Histories, WorkQueue, subjects
from orchestrator.events import Body, Command, Fact, StepFailed
from orchestrator.faults import Code, Diagnosis, Permanent, Temporary
from orchestrator.launch import Launch
from orchestrator.lifecycle import State, Zone
from tests.nats import NatsServer, until
from tests.simulators import history
from tests.simulators.history import NODE, POD
from workers.process import HEARTBEAT, Identity, Worker

CONSUMER = subjects.host_consumer(NODE)
SUBJECT = subjects.host_command(NODE, "create_sandbox", POD)
DONE = events.SandboxCreated(POD, 1, "/proc/1/ns/net")
SECOND_NS = 1_000_000_000
Do = Callable[[Command, Launch], Awaitable[Body]]


class Bench:
    """A requested pod, and a worker for its first step."""

    def __init__(self, bus: Bus) -> None:
        self.bus = bus
        self.histories = Histories(bus)
        self.queue = WorkQueue(bus)

    @asynccontextmanager
    async def worker(self, do: Do, bus: Bus | None = None, **more: Do) -> AsyncIterator[asyncio.Task[None]]:
        await self.queue.ensure_consumer(CONSUMER, subjects.host_commands(NODE))
        steps = {"create_sandbox": do, **more}
        worker = Worker(bus or self.bus, CONSUMER, Identity(Zone.HOST, "worker/test"), steps)
        task = asyncio.create_task(worker.run())
        try:
            yield task
            assert not task.done()
        finally:
            task.cancel()
            with suppress(asyncio.CancelledError, BaseExceptionGroup):
                await task

    async def request(self) -> None:
        await self.histories.append(Fact(POD, history.pod_requested(), Zone.HOST, "shim"))

    async def command(self, *, attempt: int = 1, seconds: float = 30, transition: str = "create_sandbox") -> None:
        deadline = time.time_ns() + int(seconds * SECOND_NS)
        await self.queue.publish(SUBJECT, Command(POD, "", transition, attempt, 1, deadline))

    async def copy(self) -> None:
        """The same command once more, past the duplicate window."""
        raw = Command(POD, "", "create_sandbox", 1, 1, time.time_ns() + 30 * SECOND_NS).encode()
        await self.bus.stream.publish(SUBJECT, raw)

    async def told(self, index: int = 2) -> Launch:
        async def there() -> bool:
            return (await self.histories.launch(POD)).index >= index

        await until(there)
        return await self.histories.launch(POD)

    async def queued(self) -> int:
        return (await self.bus.stream.stream_info(subjects.COMMANDS)).state.messages

    async def drained(self) -> None:
        async def empty() -> bool:
            return await self.queued() == 0

        await until(empty)

    async def failure(self) -> StepFailed:
        await self.told()
        body = (await self.histories.read(POD))[1].fact.body  # type: ignore[union-attr]
        assert isinstance(body, StepFailed)
        return body


async def done(_: Command, __: Launch) -> Body:
    return DONE


async def test_a_command_becomes_a_fact_and_is_acknowledged(bus: Bus) -> None:
    bench = Bench(bus)
    await bench.request()
    async with bench.worker(done):
        await bench.command()
        launch = await bench.told()
        await bench.drained()
    assert launch.sandbox == DONE
    assert launch.state is State.SANDBOX


async def test_a_command_whose_step_is_not_awaited_is_dropped_without_being_executed(bus: Bus) -> None:
    bench, begun = Bench(bus), []

    async def do(command: Command, _: Launch) -> Body:
        begun.append(command)
        return DONE

    async with bench.worker(do):
        await bench.command()  # of a pod that nobody requested
        await bench.drained()
        await bench.request()
        await bench.command(attempt=7)
        await bench.drained()
    assert begun == []
    assert (await bench.histories.launch(POD)).index == 1


async def test_a_step_done_twice_is_told_once(server: NatsServer) -> None:
    """The worker died after the step and before its acknowledgement; the next one does it again."""
    async with await server.connect() as bus, await server.connect() as doomed:
        bench = Bench(bus)
        await bench.request()
        blocked, twice = asyncio.Event(), []

        async def block(_: Command, __: Launch) -> Body:
            blocked.set()
            await asyncio.sleep(60)
            return DONE

        async def again(_: Command, __: Launch) -> Body:
            twice.append(1)
            return DONE

        async with bench.worker(block, doomed):
            await bench.command()
            await blocked.wait()
        async with bench.worker(again):
            launch = await bench.told()
            await bench.drained()
    assert twice == [1]
    assert launch.ignored == ()


async def test_a_fault_of_the_step_is_told_with_its_whole_diagnosis(bus: Bus) -> None:
    bench = Bench(bus)

    async def fail(_: Command, __: Launch) -> Body:
        raise Temporary(Code.SANDBOX_NOT_CREATED, "no runc", expected="runc", got="nothing", advice="install it")

    await bench.request()
    async with bench.worker(fail):
        await bench.command()
        failed = await bench.failure()
    expected = ("create_sandbox", "E-SANDBOX-001", "no runc", "runc", "nothing", "install it", True)
    assert tuple(getattr(failed, name) for name in failed.__slots__) == expected


async def test_a_defect_of_the_step_is_told_without_quoting_it_and_the_worker_lives(bus: Bus) -> None:
    bench = Bench(bus)

    async def fail(_: Command, __: Launch) -> Body:
        raise RuntimeError("key=00112233")

    await bench.request()
    async with bench.worker(fail):
        await bench.command()
        failed = await bench.failure()
    assert (failed.code, failed.got, failed.temporary) == (Code.INTERNAL, "RuntimeError", False)
    assert "00112233" not in repr(failed)


async def test_a_command_for_a_step_that_the_worker_does_not_know_is_a_defect(bus: Bus) -> None:
    bench = Bench(bus)
    await bench.request()
    async with bench.worker(done) as task:
        await bench.queue.publish(
            subjects.host_command(NODE, "teardown", POD), Command(POD, "", "teardown", 1, 1, 2**62)
        )
        await bench.drained()
        assert not task.done()


async def test_a_step_that_is_not_done_at_its_deadline_is_cancelled_and_told_so(bus: Bus) -> None:
    bench, cancelled = Bench(bus), asyncio.Event()

    async def slow(_: Command, __: Launch) -> Body:
        try:
            await asyncio.sleep(60)
        except asyncio.CancelledError:
            cancelled.set()
            raise
        return DONE

    await bench.request()
    async with bench.worker(slow):
        await bench.command(seconds=0.5)
        failed = await bench.failure()
    assert cancelled.is_set()
    assert (failed.code, failed.temporary, failed.got) == (Code.DEADLINE, True, "still at work")


async def test_a_timeout_within_a_step_is_not_taken_for_its_deadline(bus: Bus) -> None:
    bench = Bench(bus)

    async def fail(_: Command, __: Launch) -> Body:
        raise TimeoutError("a socket's")

    await bench.request()
    async with bench.worker(fail):
        await bench.command()
        failed = await bench.failure()
    assert (failed.code, failed.got) == (Code.INTERNAL, "TimeoutError")


async def test_a_step_whose_deadline_has_passed_is_not_begun(bus: Bus) -> None:
    bench, begun = Bench(bus), []

    async def do(command: Command, _: Launch) -> Body:
        begun.append(command)
        return DONE

    await bench.request()
    async with bench.worker(do):
        await bench.command(seconds=-5)
        failed = await bench.failure()
    assert begun == []
    assert (failed.code, failed.temporary) == (Code.DEADLINE, True)


async def test_a_diagnosis_that_quotes_bytes_that_are_no_text_is_told(bus: Bus) -> None:
    bench = Bench(bus)

    async def fail(_: Command, __: Launch) -> Body:
        raise Permanent(Code.IMAGE_MALFORMED, "a name", got=b"\xff\xfe".decode("utf-8", "surrogateescape"))

    await bench.request()
    async with bench.worker(fail):
        await bench.command()
        failed = await bench.failure()
    assert (failed.code, failed.got) == (Code.IMAGE_MALFORMED, "\\udcff\\udcfe")


async def test_a_result_that_cannot_be_recorded_fails_the_step_and_not_the_worker(bus: Bus) -> None:
    bench = Bench(bus)

    async def huge(_: Command, __: Launch) -> Body:
        return events.SandboxCreated(POD, 1, "x" * 300_000)

    await bench.request()
    async with bench.worker(huge):
        await bench.command()
        failed = await bench.failure()
        await bench.drained()
    assert failed.code == Code.INPUT


async def test_a_step_that_the_launch_left_behind_is_not_told(bus: Bus) -> None:
    bench, begun, go_on = Bench(bus), asyncio.Event(), asyncio.Event()

    async def wait(_: Command, __: Launch) -> Body:
        begun.set()
        await go_on.wait()
        return DONE

    await bench.request()
    async with bench.worker(wait):
        await bench.command()
        await begun.wait()
        await bench.histories.append(Fact(POD, events.StopRequested("meanwhile"), Zone.HOST, "shim"))
        go_on.set()
        await bench.drained()
    launch = await bench.histories.launch(POD)
    assert (launch.index, launch.sandbox, launch.state) == (2, None, State.STOPPING)


async def test_another_fact_that_came_meanwhile_does_not_keep_a_step_from_being_told(bus: Bus) -> None:
    bench, begun, go_on = Bench(bus), asyncio.Event(), asyncio.Event()

    async def wait(_: Command, __: Launch) -> Body:
        begun.set()
        await go_on.wait()
        return DONE

    await bench.request()
    async with bench.worker(wait):
        await bench.command()
        await begun.wait()
        await bench.histories.append(Fact(POD, history.container_requested(), Zone.HOST, "shim", history.APP))
        go_on.set()
        launch = await bench.told(3)
    assert launch.sandbox == DONE


async def test_a_long_step_is_kept_alive_and_executed_once(bus: Bus) -> None:
    bench, begun = Bench(bus), []

    async def long(_: Command, __: Launch) -> Body:
        begun.append(1)
        await asyncio.sleep(4 * HEARTBEAT)
        return DONE

    await bench.request()
    async with bench.worker(long):
        await bench.command()
        await bench.told()
        await bench.drained()
    assert begun == [1]


async def test_a_copy_of_a_command_at_work_is_dropped_and_the_command_itself_kept(bus: Bus) -> None:
    bench, begun, go_on = Bench(bus), asyncio.Event(), asyncio.Event()

    async def wait(_: Command, __: Launch) -> Body:
        begun.set()
        await go_on.wait()
        return DONE

    await bench.request()
    async with bench.worker(wait):
        await bench.command()
        await begun.wait()
        for _ in range(3):
            await bench.copy()

        async def one_left() -> bool:
            return await bench.queued() == 1

        await until(one_left)
        await asyncio.sleep(0.3)
        assert await bench.queued() == 1
        go_on.set()
        await bench.told()
        await bench.drained()


async def test_what_removes_a_pod_on_a_node_waits_for_what_is_being_made_there(bus: Bus) -> None:
    bench, made, go_on = Bench(bus), asyncio.Event(), asyncio.Event()
    order: list[str] = []

    async def make(_: Command, __: Launch) -> Body:
        made.set()
        await go_on.wait()
        order.append("made")
        return DONE

    async def remove(_: Command, __: Launch) -> Body:
        order.append("removed")
        return events.TornDown(())

    await bench.request()
    async with bench.worker(make, teardown=remove):
        await bench.command()
        await made.wait()
        await bench.histories.append(Fact(POD, events.StopRequested("the test asked"), Zone.HOST, "shim"))
        await bench.command(transition="teardown")
        await asyncio.sleep(0.3)
        assert order == []
        go_on.set()
        launch = await bench.told(3)
        await bench.drained()
    assert order == ["made", "removed"]
    assert launch.progress.state is State.GONE


async def test_a_worker_outlives_its_server_and_finishes_what_it_began(server: NatsServer) -> None:
    async with await server.connect() as bus:
        bench, begun, go_on = Bench(bus), asyncio.Event(), asyncio.Event()

        async def wait(_: Command, __: Launch) -> Body:
            begun.set()
            await go_on.wait()
            return DONE

        await bench.request()
        async with bench.worker(wait):
            await bench.command()
            await begun.wait()
            server.kill()
            go_on.set()
            await asyncio.sleep(0.3)
            await asyncio.to_thread(server.start)
            launch = await bench.told()
            await bench.drained()
    assert (launch.sandbox, launch.ignored) == (DONE, ())


async def test_a_cancelled_worker_ends_whatever_it_is_doing(bus: Bus) -> None:
    bench = Bench(bus)
    await bench.request()
    for pause in (0.0, 0.01, 0.05, 0.3):
        async with asyncio.timeout(10), bench.worker(done):
            await asyncio.sleep(pause)


def test_a_diagnosis_is_cut_to_what_a_fact_may_hold() -> None:
    failed = StepFailed.of("attest", Diagnosis(Code.INTERNAL, "ü" * 9000, "x" * 9000))
    assert (len(failed.message), len(failed.expected)) == (4096, 4096)
