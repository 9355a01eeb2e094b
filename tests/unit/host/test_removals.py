"""Removals that were written down while the bus was away: asked for once, of what the history knows."""

from __future__ import annotations

import asyncio
from contextlib import suppress
from pathlib import Path

from orchestrator import events
from orchestrator.bus import Bus, Histories
from orchestrator.events import Fact, Recorded, StopRequested
from orchestrator.lifecycle import Zone
from tests.nats import NatsServer, until
from tests.simulators import history
from tests.simulators.history import APP, POD
from workers.host.removals import Removals, note


async def stops(bus: Bus) -> list[tuple[str, str]]:
    """The container and the reason of each stop that was asked for."""
    read = [message.fact for message in await Histories(bus).read(POD) if isinstance(message, Recorded)]
    return [(fact.container, fact.body.reason) for fact in read if isinstance(fact.body, StopRequested)]


async def asked(run_dir: Path, bus: Bus) -> None:
    """Run until nothing is written down any more."""
    running = asyncio.create_task(Removals(run_dir, Histories(bus), "host-worker/test").run())

    async def nothing() -> bool:
        return not any((run_dir / "removals").iterdir())

    try:
        await until(nothing)
    finally:
        running.cancel()
        with suppress(asyncio.CancelledError):
            await running


async def requested(bus: Bus) -> None:
    histories = Histories(bus)
    for body in (history.pod_requested(), events.SandboxCreated(POD, 1, "/netns")):
        attempt = 1 if isinstance(body, events.SandboxCreated) else 0
        await histories.append(Fact(POD, body, Zone.HOST, "test", "", attempt))
    await histories.append(Fact(POD, history.container_requested(APP), Zone.HOST, "test", APP))


async def test_each_is_asked_for_once_whoever_was_killed_before_it_was_forgotten(bus: Bus, run_dir: Path) -> None:
    await requested(bus)
    for _ in range(2):
        note(run_dir, POD, APP, "removed by containerd")
        note(run_dir, POD, "", "the shim was lost")
        await asked(run_dir, bus)
    assert sorted(await stops(bus)) == [("", "the shim was lost"), (APP, "removed by containerd")]
    assert (await Histories(bus).launch(POD)).ignored == ()


async def test_what_the_history_does_not_know_is_not_asked_for(bus: Bus, run_dir: Path) -> None:
    note(run_dir, "f" * 64, "", "never requested")
    await asked(run_dir, bus)
    await requested(bus)
    note(run_dir, POD, "b" * 64, "no container of this pod")
    (run_dir / "removals/torn.json").write_text("{")
    await asked(run_dir, bus)
    assert await stops(bus) == []
    assert await Histories(bus).read("f" * 64) == []


async def test_while_the_bus_is_away_it_stays_written_down(bus: Bus, server: NatsServer, run_dir: Path) -> None:
    await requested(bus)
    server.kill()
    note(run_dir, POD, "", "removed by containerd")
    asking = asyncio.create_task(asked(run_dir, bus))
    await asyncio.to_thread(server.start)
    await asking
    assert await stops(bus) == [("", "removed by containerd")]
