"""News of one launch or of all, as an event stream.

Zone: host. May import: `starlette`, `orchestrator.console`.
"""

from __future__ import annotations

from starlette.requests import Request
from starlette.responses import PlainTextResponse, Response, StreamingResponse

from orchestrator.console.site import Site


async def listen(request: Request) -> Response:
    """GET /live?pod=&seen=SEQUENCE: see `orchestrator.console.live`.

    503 when too many listen: pages reload by themselves.
    """
    site = Site.of(request)
    if site.news.full:
        return PlainTextResponse("too many listeners\n", 503, {"Retry-After": "30"})
    asked = request.query_params
    # What came between a page and its listening, or while the browser was cut off, must not wait for the next fact.
    behind = asked.get("seen", "") != str(site.index.sequence)
    stream = site.news.listen(asked.get("pod", "")[:128], behind=behind)
    return StreamingResponse(stream, media_type="text/event-stream", headers={"X-Accel-Buffering": "no"})
