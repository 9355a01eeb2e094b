"""One launch on one page: everything that somebody asks at three in the morning.

Zone: host. May import: `starlette`, `orchestrator`, `orchestrator.console`.
"""

from __future__ import annotations

import asyncio
import time
from dataclasses import dataclass

from starlette.requests import Request
from starlette.responses import Response

from orchestrator.console.pages.told import Believed, believe, read
from orchestrator.console.roles import Role
from orchestrator.console.site import Site
from orchestrator.console.timeline import timeline
from orchestrator.faults import Diagnosis, Permanent
from orchestrator.story import describe
from orchestrator.verify import Verified, verify


async def show(request: Request) -> Response:
    """GET /launches/POD."""
    site, pod = Site.of(request), request.path_params["pod"]
    believed = believe(pod, await read(site, pod))
    story = describe(believed.launch, believed.history)
    row = site.index.rows.get(pod)
    orders = site.orders if request.state.identity.role >= Role.OPERATOR else None
    return site.page(
        request,
        "launch.html",
        pod=pod,
        story=story,
        places={told.index: place for place, told in enumerate(story.facts, 1)},
        launch=story.launch,
        broken=believed.broken,
        timeline=timeline(story.steps, time.time_ns()),
        verified=_verified(believed),
        logged=await _logged(site, [message.sequence for message in believed.history]),
        related=site.index.related(row) if row else (),
        possible=orders.possible(story.launch) if orders else None,
    )


@dataclass(frozen=True, slots=True)
class Logged:
    """How many of the launch's messages the audit log holds, by which checkpoint."""

    count: int
    origin: str
    size: int


async def _logged(site: Site, sequences: list[int]) -> Logged | None:
    """None where there is no log, or none that is believed; the page about the log says why."""

    def look() -> Logged:
        opened = site.ledger.open_()
        last = opened.last_sequence()
        count = sum(sequence <= last for sequence in sequences)
        return Logged(count, opened.accepted.checkpoint.origin, opened.size)

    try:
        return await asyncio.to_thread(look)
    except Permanent:
        return None


def _verified(believed: Believed) -> Verified | Diagnosis:
    """What the history proves by itself, or the first thing in it that does not hold."""
    if believed.broken is not None:
        return believed.broken
    try:
        return verify(believed.launch.pod, believed.history)
    except Permanent as fault:
        return fault.diagnosis
