"""News of one launch or of all, as an event stream.

Zone: host. May import: `starlette`, `orchestrator.console`.
"""

from __future__ import annotations

from starlette.requests import Request
from starlette.responses import PlainTextResponse, Response, StreamingResponse

from orchestrator.console.site import Site


async def listen(request: Request) -> Response:
    """GET /live?pod=: see `orchestrator.console.live`. 503 when too many listen; the page then reloads by itself."""
    site = Site.of(request)
    if site.news.full:
        return PlainTextResponse("too many listeners\n", 503, {"Retry-After": "30"})
    stream = site.news.listen(request.query_params.get("pod", "")[:128])
    return StreamingResponse(stream, media_type="text/event-stream", headers={"X-Accel-Buffering": "no"})
