"""Orders on a real bus: resumed and forked launches have what every launch has, whoever dies meanwhile."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator, Awaitable, Callable
from contextlib import asynccontextmanager
from dataclasses import replace

import pytest

from orchestrator.audit.entry import Entry, Message
from orchestrator.bus import Bus, Histories, subjects
from orchestrator.bus.operator_key import OperatorKey
from orchestrator.dispatch import Dispatcher
from orchestrator.events import Body, Command, ForkedFrom, Recorded, ResumeRequested, StopRequested
from orchestrator.faults import Code, Permanent
from orchestrator.forking import plan
from orchestrator.launch import Launch, awaited
from orchestrator.lifecycle import LAUNCH_STATES, State
from orchestrator.orders import Operator
from orchestrator.resumption import resumable
from tests.nats import NatsServer, until
from tests.simulators import history
from tests.simulators.history import APP, OPERATOR, POD, SIDECAR, EventKey
from tests.simulators.node import Containerd, ToyNode
from tests.unit.orchestrator.test_dispatch import at_work, reaches

FORK = "f0" * 32
HOLD = 60


def operator(bus: Bus, key: EventKey = OPERATOR) -> Operator:
    return Operator(Histories(bus), OperatorKey(key.public, key.sign), "alice", "the key broker is back")


async def resume(by: Operator, pod: str, container: str = "") -> Launch | None:
    def can(launch: Launch) -> bool:
        try:
            return bool(resumable(launch, container))
        except Permanent:
            return False

    body = ResumeRequested("", by.reason, by.by, by.key.public)
    return await by.order(pod, body, container, allowed=can)


async def fork(by: Operator, pod: str, index: int, as_: str = FORK, *overrides: str) -> ForkedFrom:
    facts = [message for message in await by.histories.read(pod) if isinstance(message, Recorded)]
    order = ForkedFrom(pod, index, facts[index - 1].digest, overrides, by.reason, by.by, by.key.public)
    await by.order(as_, order, allowed=lambda launch: launch.index == 0)
    return order


class Weather:
    """Fails steps for good until it clears up."""

    def __init__(self, *transitions: str) -> None:
        self.bad = set(transitions)

    async def __call__(self, command: Command) -> None:
        if command.transition in self.bad:
            raise Permanent(Code.KEY_DENIED, "no", expected="a", got="b", advice="c")


async def is_held(containerd: Containerd) -> bool:
    launch = await containerd.launch()
    return any(step.transition.name == "hold" for step in awaited(launch))


# --- resume -----------------------------------------------------------------------------------------------------------


async def test_a_held_container_is_resumed_in_the_same_pod_and_boots(bus: Bus) -> None:
    weather, containerd = Weather("decrypt_image"), Containerd(bus, POD)
    node = ToyNode(bus, before=weather)
    async with at_work(Dispatcher(bus, "o").run, node.run):
        await containerd.run_pod(hold_seconds=HOLD)
        await containerd.run_container()
        await until(lambda: is_held(containerd))
        weather.bad.clear()
        assert await resume(operator(bus), POD, APP) is not None
        launch = await reaches(containerd, State.APP_BOOTED)
    assert launch.ignored == ()
    assert node.done["teardown"] == 0
    assert node.done["launch_agent"] == 1
    assert node.done["decrypt_image"] == 2


async def test_a_held_pod_is_resumed_with_its_failed_step(bus: Bus) -> None:
    weather, containerd = Weather("attest"), Containerd(bus, POD)
    node = ToyNode(bus, before=weather)
    async with at_work(Dispatcher(bus, "o").run, node.run):
        await containerd.run_pod(hold_seconds=HOLD)
        await until(lambda: is_held(containerd))
        weather.bad.clear()
        await resume(operator(bus), POD)
        await containerd.run_container()
        launch = await reaches(containerd, State.APP_BOOTED)
    assert (node.done["create_sandbox"], node.done["launch_agent"], node.done["attest"]) == (1, 1, 2)
    assert launch.ignored == ()


async def test_a_hold_that_nobody_used_ends_in_a_teardown_and_an_order_after_it_is_too_late(bus: Bus) -> None:
    containerd = Containerd(bus, POD)
    async with at_work(Dispatcher(bus, "o").run, ToyNode(bus, before=Weather("attest")).run):
        await containerd.run_pod(hold_seconds=1)
        launch = await reaches(containerd, State.GONE)
    assert launch.progress.stop_reason == "held for 1 s after its failure, and nobody resumed it"
    assert await resume(operator(bus), POD) is None


async def test_the_end_of_a_hold_is_not_lost_with_the_orchestrator(bus: Bus) -> None:
    containerd = Containerd(bus, POD)
    async with at_work(ToyNode(bus, before=Weather("attest")).run):
        async with at_work(Dispatcher(bus, "o/1").run):
            await containerd.run_pod(hold_seconds=2)
            await until(lambda: is_held(containerd))
        async with at_work(Dispatcher(bus, "o/2").run):
            assert (await reaches(containerd, State.GONE)).ignored == ()


async def test_of_two_operators_at_once_one_resumes(bus: Bus) -> None:
    weather, containerd = Weather("attest"), Containerd(bus, POD)
    async with at_work(Dispatcher(bus, "o").run, ToyNode(bus, before=weather).run):
        await containerd.run_pod(hold_seconds=HOLD)
        await until(lambda: is_held(containerd))
        weather.bad.clear()
        told = await asyncio.gather(*(resume(operator(bus), POD) for _ in range(4)))
        launch = await reaches(containerd, State.ATTESTED)
    assert sum(answer is not None for answer in told) == 1
    assert launch.ignored == ()


async def test_many_failed_launches_are_resumed_while_orchestrators_workers_and_the_server_die(
    server: NatsServer,
) -> None:
    weather = Weather("create_sandbox", "attest", "decrypt_image", "boot_app")
    async with (
        await server.connect("shim") as shim,
        await server.connect("alice") as alice,
        agents_at_home(server, weather) as home,
    ):
        pods = [Containerd(shim, f"{number:064x}") for number in range(24)]
        async with at_work(
            reborn(server, lambda bus: Dispatcher(bus, "o/1").run(), 0.9),
            reborn(server, lambda bus: Dispatcher(bus, "o/2").run(), 1.3),
            reborn(server, lambda bus: MortalWorker(bus, home).run(), 1.7),
        ):
            for number, pod in enumerate(pods):
                weather.bad = {("create_sandbox", "attest", "decrypt_image", "boot_app")[number % 4]}
                await pod.run_pod(hold_seconds=HOLD)
                if number % 4 > 1:
                    await pod.run_container()
                await until(lambda pod=pod: is_held(pod), 60)
            weather.bad.clear()
            by = operator(alice)
            for number, pod in enumerate(pods):
                await resume(by, pod.pod, APP if number % 4 > 1 else "")
                if number == 10:
                    server.kill()
                    server.start()
                if number % 4 <= 1:
                    await pod.run_container()
            launches = [await reaches(pod, State.APP_BOOTED, 90) for pod in pods]
        histories = [await Histories(shim).read(pod.pod) for pod in pods]
    for launch, messages in zip(launches, histories, strict=True):
        container = launch.containers[APP]
        passed = (*launch.progress.passed, *container.progress.passed)
        assert [entry.state for entry in passed] == list(LAUNCH_STATES)
        assert launch.ignored == ()
        orders = [m for m in messages if isinstance(m, Recorded) and isinstance(m.fact.body, ResumeRequested)]
        assert len(orders) == 1


class MortalWorker(ToyNode):
    """A host worker whose agents outlive it, as processes do: they live with `home`."""

    def __init__(self, bus: Bus, home: ToyNode) -> None:
        super().__init__(bus, before=home._before)
        self._home = home

    def _host(self) -> dict[str, Callable[[Command, Launch], Awaitable[Body]]]:
        home = self._home._host()
        return super()._host() | {name: home[name] for name in ("launch_agent", "teardown")}


@asynccontextmanager
async def agents_at_home(server: NatsServer, weather: Weather | None = None) -> AsyncIterator[ToyNode]:
    async with await server.connect("agents") as bus:
        home = ToyNode(bus, before=weather)
        try:
            yield home
        finally:
            for agent in home._agents.values():
                agent.cancel()
            await asyncio.gather(*home._agents.values(), return_exceptions=True)


def reborn(server: NatsServer, make: Callable[[Bus], Awaitable[None]], seconds: float) -> Callable[[], Awaitable[None]]:
    """Runs it, on a connection of its own, and cuts it off in the middle of whatever it does, again and again."""

    async def run() -> None:
        while True:
            try:
                async with asyncio.timeout(seconds), await server.connect("mortal") as bus:
                    await make(bus)
            except TimeoutError:
                continue

    return run


# --- fork -------------------------------------------------------------------------------------------------------------


async def test_a_fork_launches_anew_what_was_asked_for_and_leaves_the_other_alone(bus: Bus) -> None:
    containerd, forked = Containerd(bus, POD), Containerd(bus, FORK)
    node = ToyNode(bus)
    async with at_work(Dispatcher(bus, "o").run, node.run):
        await containerd.run_pod(hold_seconds=HOLD)
        await containerd.run_container()
        before = await reaches(containerd, State.APP_BOOTED)
        await fork(operator(bus), POD, before.index, FORK, "image=127.0.0.1:5000/redis:8", "hold=0")
        launch = await reaches(forked, State.APP_BOOTED)
    assert await containerd.launch() == before
    (container,) = launch.containers.values()
    assert container.id != APP
    assert container.requested.image == "127.0.0.1:5000/redis:8"
    assert (container.requested.stdout, container.requested.bundle) == ("", history.container_requested().bundle)
    assert launch.requested is not None
    assert (launch.requested.name, launch.requested.hold_seconds) == ("redis-0.fork", 0)
    assert launch.attested.event_public_key != before.attested.event_public_key
    assert all(count == 2 for transition, count in node.done.items())


async def test_a_fork_inherits_what_was_asked_for_up_to_its_fact_and_is_started(bus: Bus) -> None:
    containerd, forked = Containerd(bus, POD), Containerd(bus, FORK)
    async with at_work(Dispatcher(bus, "o").run, ToyNode(bus).run):
        await containerd.run_pod(hold_seconds=HOLD)
        await reaches(containerd, State.ATTESTED)
        await containerd.run_container()
        await reaches(containerd, State.APP_BOOTED)
        await containerd.say(history.container_requested(SIDECAR), SIDECAR)
        facts = [m for m in await containerd.histories.read(POD) if isinstance(m, Recorded)]
        asked = next(fact.index for fact in facts if fact.fact.container == SIDECAR)
        await fork(operator(bus), POD, 4)
        launch = await reaches(forked, State.ATTESTED)
        assert launch.containers == {}
        await fork(operator(bus), POD, asked, "f1" * 32)
        both = Containerd(bus, "f1" * 32)

        async def done() -> bool:
            states = [c.progress.state for c in (await both.launch()).containers.values()]
            return states == [State.APP_BOOTED] * 2

        await until(done)


@pytest.mark.parametrize("case", ["stranger", "digest", "gone", "override"])
async def test_an_order_to_fork_that_may_not_be_followed_is_stopped_with_the_reason(bus: Bus, case: str) -> None:
    containerd, forked = Containerd(bus, POD), Containerd(bus, FORK)
    async with at_work(Dispatcher(bus, "o").run, ToyNode(bus).run):
        await containerd.run_pod(hold_seconds=HOLD)
        await reaches(containerd, State.ATTESTED)
        by = operator(bus, EventKey() if case == "stranger" else OPERATOR)
        if case == "gone":
            await containerd.stop()
            await reaches(containerd, State.GONE)
        if case == "digest":
            order = ForkedFrom(POD, 4, bytes(32), (), "why", "alice", by.key.public)
            await by.order(FORK, order, allowed=lambda _: True)
        else:
            await fork(by, POD, 4, FORK, *(["cpu=9"] if case == "override" else []))
        launch = await reaches(forked, State.GONE)
    code = {"stranger": Code.NOT_ALLOWED, "override": Code.INPUT}.get(case, Code.REPLAY_FORK)
    assert launch.progress.stop_reason.startswith(f"refused: {code}: ")
    assert launch.requested is None
    assert awaited(launch) == ()


async def test_forks_are_made_once_while_orchestrators_and_workers_die(server: NatsServer) -> None:
    async with (
        await server.connect("shim") as shim,
        await server.connect("alice") as alice,
        agents_at_home(server) as home,
    ):
        containerd = Containerd(shim, POD)
        forks = [Containerd(shim, f"{number:064x}") for number in range(12)]
        async with at_work(
            reborn(server, lambda bus: Dispatcher(bus, "o/1").run(), 0.7),
            reborn(server, lambda bus: Dispatcher(bus, "o/2").run(), 1.1),
            reborn(server, lambda bus: MortalWorker(bus, home).run(), 1.7),
        ):
            await containerd.run_pod(hold_seconds=HOLD)
            await containerd.run_container()
            parent = await reaches(containerd, State.APP_BOOTED, 60)
            for forked in forks:
                await fork(operator(alice), POD, parent.index, forked.pod)
            launches = [await reaches(forked, State.APP_BOOTED, 90) for forked in forks]
        for forked, launch in zip(forks, launches, strict=True):
            kinds = [type(m.fact.body).__name__ for m in await containerd.histories.read(forked.pod)]
            assert launch.ignored == ()
            for kind in ("ForkedFrom", "PodRequested", "ContainerRequested", "StartRequested"):
                assert kinds.count(kind) == 1


# --- the audit log ----------------------------------------------------------------------------------------------------


async def test_an_order_is_an_entry_of_the_audit_log_with_who_and_why(bus: Bus) -> None:
    weather, containerd = Weather("attest"), Containerd(bus, POD)
    async with at_work(Dispatcher(bus, "o").run, ToyNode(bus, before=weather).run):
        await containerd.run_pod(hold_seconds=HOLD)
        await until(lambda: is_held(containerd))
        weather.bad.clear()
        await resume(operator(bus), POD)
    stored = await containerd.histories.stored(POD)
    entries = [Entry.of(Message(sequence, subjects.history(POD), raw)) for sequence, raw in stored]
    (order,) = (entry for entry in entries if entry.kind == "resume-requested")
    assert (order.actor, order.signed) == ("operator/alice", True)
    told = order.check()
    assert isinstance(told, Recorded)
    assert told.fact.body.reason == "the key broker is back"


# --- what a fork is asked for -----------------------------------------------------------------------------------------


@pytest.mark.parametrize("override", ["hold=3601", "hold=x", "hold=", "image", "=x", "image.other=a", "x" * 600 + "=1"])
def test_an_override_that_overrides_nothing_is_refused(override: str) -> None:
    made = history.History()
    made.up_to_attested(hold_seconds=HOLD)
    made.container()
    last = made.records()[-1]
    order = ForkedFrom(POD, 5, last.digest, (override,), "why", "alice", OPERATOR.public)
    with pytest.raises(Permanent) as refused:
        plan(FORK, order, made.records())
    assert refused.value.code is Code.INPUT


def test_a_container_that_is_gone_is_not_asked_for_again() -> None:
    made = history.History()
    made.up_to_attested(hold_seconds=HOLD)
    made.up_to_booted()
    made.container(SIDECAR)
    order = ForkedFrom(POD, 12, made.records()[-1].digest, (), "why", "alice", OPERATOR.public)
    assert len(plan(FORK, order, made.records()).containers) == 2
    made.stop(APP)
    made.torn_down(APP)
    made.stop(SIDECAR)
    assert plan(FORK, order, made.records()).containers == ()
    assert plan(FORK, replace(order, index=4, digest=made.records()[3].digest), made.records()).containers == ()


def test_a_fork_of_a_fork_keeps_one_suffix() -> None:
    made = history.History()
    made.requested(hold_seconds=HOLD)
    order = ForkedFrom(POD, 1, made.records()[0].digest, (), "why", "alice", OPERATOR.public)
    once = plan(FORK, order, made.records()).pod
    assert once.name == "redis-0.fork"
    again = history.History("aa" * 32)
    again.say(once)
    order = ForkedFrom("aa" * 32, 1, again.records()[0].digest, (), "why", "alice", OPERATOR.public)
    assert plan(FORK, order, again.records()).pod.name == "redis-0.fork"


def test_stopping_a_fork_is_a_stop_like_any_other() -> None:
    made = history.History()
    made.forked()
    made.requested(hold_seconds=HOLD)
    assert made.say(StopRequested("seen enough")).progress.stop_reason == "seen enough"
