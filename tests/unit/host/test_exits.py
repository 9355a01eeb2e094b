"""Exits: real containers that end, told on a real bus once, whoever was away meanwhile."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager, suppress
from dataclasses import dataclass
from pathlib import Path

import pytest

from orchestrator import events
from orchestrator.bus import Bus, Histories
from orchestrator.events import Body, Exited, Fact, Recorded
from orchestrator.launch import Launch
from orchestrator.lifecycle import State, Zone
from tests.busybox import Bundles
from tests.nats import NatsServer, until
from tests.simulators import history
from tests.simulators.history import APP, POD
from tests.simulators.stored import store
from workers.host.conmon import Streams
from workers.host.exits import LOOK, Exits
from workers.host.runc import Held, Role, Runc


@dataclass
class Stage:
    """A pod on the bus, and containers that are said to be its."""

    bus: Bus
    runc: Runc
    bundles: Bundles

    @property
    def histories(self) -> Histories:
        return Histories(self.bus)

    async def say(self, *bodies: Body, container: str = "", attempt: int = 1) -> None:
        for body in bodies:
            await self.histories.append(Fact(POD, body, Zone.HOST, "stage", container, attempt))

    async def requested(self) -> None:
        await self.say(history.pod_requested(), attempt=0)
        await self.say(events.SandboxCreated(POD, 1, "/netns"))

    async def agent_up(self) -> None:
        await self.requested()
        await self.say(history.agent_up())

    async def run(self, role: Role, script: str, container: str = "", attempt: int = 1) -> Held:
        """A started container of the pod's."""
        id_, bundle = self.bundles.shell(role, script)
        held = Held(id_, POD, container, role, attempt)
        await self.runc.create(held, bundle, Streams())
        await self.runc.start(id_)
        return held

    async def ended(self, held: Held) -> None:
        async def there() -> bool:
            return self.runc.exit_of(held.id) is not None

        await until(there)

    def exits(self) -> Exits:
        return Exits(self.runc, self.histories, "host-worker/test")

    @asynccontextmanager
    async def watched(self, exits: Exits | None = None) -> AsyncIterator[None]:
        running = asyncio.create_task((exits or self.exits()).run())
        try:
            yield
            assert not running.done()
        finally:
            running.cancel()
            with suppress(asyncio.CancelledError):
                await running

    async def told(self, kind: type) -> list[Body]:
        facts = [r.fact.body for r in await self.histories.read(POD) if isinstance(r, Recorded)]
        return [body for body in facts if isinstance(body, kind)]

    async def hears(self, kind: type) -> Body:
        async def heard() -> bool:
            return bool(await self.told(kind))

        await until(heard)
        return (await self.told(kind))[0]

    async def launch(self) -> Launch:
        return await self.histories.launch(POD)


@pytest.fixture
def stage(bus: Bus, runc: Runc, bundles: Bundles) -> Stage:
    return Stage(bus, runc, bundles)


async def test_a_containers_exit_becomes_a_fact_with_its_status_and_its_time(stage: Stage) -> None:
    await stage.requested()
    await stage.say(history.container_requested(), container=APP, attempt=0)
    async with stage.watched():
        held = await stage.run(Role.APP, "exit 7", APP)
        body = await stage.hears(Exited)
    code, at_ns = stage.runc.exit_of(held.id) or (0, 0)
    assert body == Exited(7, at_ns)
    assert code == 7
    container = (await stage.launch()).containers[APP]
    assert container.progress.exit == body


async def test_the_end_of_the_pause_container_is_the_pods(stage: Stage) -> None:
    await stage.requested()
    async with stage.watched():
        await stage.run(Role.PAUSE, "exit 0")
        await stage.hears(Exited)
    assert (await stage.launch()).progress.state is State.STOPPING


async def test_an_exit_that_nobody_watched_is_told_by_the_next_worker_and_once_by_all(stage: Stage) -> None:
    await stage.requested()
    held = await stage.run(Role.PAUSE, "exit 3")
    await stage.ended(held)
    first, second = stage.exits(), stage.exits()
    async with stage.watched(first), stage.watched(second):
        await asyncio.gather(first.tell(held), second.tell(held))
        await stage.hears(Exited)
        await asyncio.sleep(4 * LOOK)
    async with stage.watched():
        await asyncio.sleep(4 * LOOK)
    assert [body.code for body in await stage.told(Exited)] == [3]  # type: ignore[union-attr]


async def test_an_exit_that_the_bus_was_away_for_is_told_when_it_is_back(stage: Stage, server: NatsServer) -> None:
    await stage.requested()
    held = await stage.run(Role.PAUSE, "sleep 0.2; exit 4")
    async with stage.watched():
        server.kill()
        await stage.ended(held)
        await asyncio.sleep(0.3)
        await asyncio.to_thread(server.start)
        assert await stage.hears(Exited) is not None
    assert len(await stage.told(Exited)) == 1


async def test_what_has_not_ended_is_not_told(stage: Stage) -> None:
    await stage.requested()
    held = await stage.run(Role.PAUSE, "exec sleep 1000")
    exits = stage.exits()
    async with stage.watched(exits):
        await exits.tell(held)
        await asyncio.sleep(4 * LOOK)
    assert await stage.told(Exited) == []


async def test_an_agent_that_ends_while_its_pod_lives_is_lost(stage: Stage) -> None:
    await stage.agent_up()
    async with stage.watched():
        await stage.run(Role.AGENT, "exit 9")
        assert await stage.hears(events.AgentLost) == events.AgentLost(9)
    assert (await stage.launch()).progress.state is State.FAILED


async def test_an_agent_that_ends_before_it_is_said_to_be_up_is_told_only_once_it_is(stage: Stage) -> None:
    """Until then `launch_agent` finds it dead, and makes another."""
    await stage.requested()
    async with stage.watched():
        held = await stage.run(Role.AGENT, "exit 9")
        await stage.ended(held)
        await asyncio.sleep(4 * LOOK)
        assert await stage.told(events.AgentLost) == []
        await stage.say(history.agent_up())
        await stage.hears(events.AgentLost)


async def test_an_agents_end_is_not_news_once_the_pod_has_failed_or_stops(stage: Stage) -> None:
    await stage.agent_up()
    await stage.say(events.StopRequested("the test asked"), attempt=0)
    async with stage.watched():
        await stage.run(Role.AGENT, "exit 0")
        await asyncio.sleep(4 * LOOK)
    assert await stage.told(events.AgentLost) == []


class LateHistories(Histories):
    """Histories that are read when the test says so: something happens between a look at a file and this."""

    def __init__(self, bus: Bus) -> None:
        super().__init__(bus)
        self.asked, self.go_on = asyncio.Event(), asyncio.Event()

    async def launch(self, pod: str) -> Launch:
        self.asked.set()
        await self.go_on.wait()
        return await super().launch(pod)


async def test_the_end_of_an_earlier_attempts_agent_is_not_told_as_its_successors(stage: Stage) -> None:
    """It was found while the next attempt was made: by the time it could be told, a living agent is up."""
    await stage.requested()
    held = await stage.run(Role.AGENT, "exit 9")
    await stage.ended(held)
    late = LateHistories(stage.bus)
    telling = asyncio.create_task(Exits(stage.runc, late, "host-worker/test").tell(held))
    await late.asked.wait()
    await stage.runc.discard(held.id)
    await stage.run(Role.AGENT, "exec sleep 1000", attempt=2)
    await stage.say(history.agent_up())
    late.go_on.set()
    await telling
    assert await stage.told(events.AgentLost) == []
    assert (await stage.launch()).progress.live


async def test_an_exit_of_what_is_no_longer_recorded_is_nobodys(stage: Stage) -> None:
    await stage.requested()
    async with stage.watched():
        held = await stage.run(Role.PAUSE, "exec sleep 1000")
        await stage.runc.discard(held.id)
        await asyncio.sleep(4 * LOOK)
    assert await stage.told(Exited) == []


async def test_a_name_that_comes_again_after_it_was_forgotten_is_told_again(stage: Stage) -> None:
    await stage.requested()
    exits = stage.exits()
    async with stage.watched(exits):
        held = await stage.run(Role.PAUSE, "exit 1")
        await stage.hears(Exited)
        await stage.runc.delete(held.id)
        exits.forget(held.id)
        assert stage.runc.held() == stage.runc.ended() == []
        await stage.say(history.container_requested(), container=APP, attempt=0)
        again = await stage.run(Role.PAUSE, "exit 2")
        await stage.ended(again)
        await asyncio.sleep(4 * LOOK)
        assert again.id in exits._told


async def held(stage: Stage, *, resumed: bool) -> None:
    """The pod, attested, and a container that failed; with `resumed`, its attempts begin at 2."""
    made = history.History(POD)
    made.up_to_attested(hold_seconds=60)
    made.container()
    made.failed("decrypt_image", container=APP)
    if resumed:
        made.resume(APP)
    await store(stage.bus, made)


async def test_what_a_container_was_before_it_was_resumed_ends_for_nobody(stage: Stage) -> None:
    await held(stage, resumed=True)
    async with stage.watched():
        await stage.ended(await stage.run(Role.APP, "exit 3", APP, attempt=1))
        await asyncio.sleep(4 * LOOK)
    assert await stage.told(Exited) == []
    assert (await stage.launch()).ignored == ()


async def test_the_end_of_what_a_resumed_container_became_is_told_also_after_an_earlier_one(stage: Stage) -> None:
    """Both have one id. A kubelet waits for the second to end."""
    await held(stage, resumed=False)
    async with stage.watched():
        before = await stage.run(Role.APP, "exit 3", APP, attempt=1)
        await stage.hears(Exited)
        order = events.ResumeRequested("", "mended", "alice", history.OPERATOR.public)
        await stage.histories.append(Fact(POD, order, Zone.HOST, "stage", APP), sign=history.OPERATOR.sign)
        await stage.runc.discard(before.id)
        await stage.run(Role.APP, "exit 4", APP, attempt=2)

        async def heard() -> bool:
            return len(await stage.told(Exited)) == 2

        await until(heard)
    assert [body.code for body in await stage.told(Exited) if isinstance(body, Exited)] == [3, 4]


async def test_strange_files_among_the_exits_stop_nobody(stage: Stage, run_dir: Path) -> None:
    for name, text in (("unknown", "1"), (".hidden", "1"), ("garbage", "x"), ("empty", ""), ("negative", "-1")):
        (run_dir / "exits" / name).write_text(text)
    (run_dir / "exits" / "folder").mkdir()
    (run_dir / "held" / "garbage.json").write_text("{")
    await stage.requested()
    async with stage.watched():
        await stage.run(Role.PAUSE, "exit 5")
        assert (await stage.hears(Exited)).code == 5  # type: ignore[union-attr]
