"""A launch as it was after its N-th message, and what that message changed.

Zone: host. May import: `starlette`, `orchestrator`, `orchestrator.console`.
"""

from __future__ import annotations

from starlette.requests import Request
from starlette.responses import Response

from orchestrator.console.pages.told import believe, read
from orchestrator.console.site import Site
from orchestrator.console.timeline import timeline
from orchestrator.story import changes, describe


async def show(request: Request) -> Response:
    """GET /launches/POD/replay?at=N: N counts messages from 1; without it, or beyond the last, the last."""
    site, pod = Site.of(request), request.path_params["pod"]
    whole = believe(pod, await read(site, pod))
    last, at = len(whole.history), request.query_params.get("at", "")
    now = min(int(at), last) if at.isascii() and at.isdecimal() and 0 < len(at) < 7 else last
    now = max(now, min(1, last))
    before, then = believe(pod, whole.history[: now - 1]), believe(pod, whole.history[:now])
    story = describe(then.launch, then.history)
    return site.page(
        request,
        "replay.html",
        pod=pod,
        story=story,
        launch=story.launch,
        broken=whole.broken,
        whole=describe(whole.launch, whole.history),
        at=now,
        last=last,
        told=story.facts[-1] if story.facts else None,
        changes=changes(before.launch, then.launch),
        timeline=timeline(story.steps, story.changed_ns),
    )
