"""What one sees and which keys there are.

Zone: host. May import: `starlette`, `orchestrator.{faults,lifecycle}`, `orchestrator.console`.
"""

from __future__ import annotations

from typing import Final

from starlette.requests import Request
from starlette.responses import Response

from orchestrator.console.site import Site
from orchestrator.lifecycle import TRANSITIONS

KEYS: Final = (
    ("j", "next row of a list"),
    ("k", "row before"),
    ("l", "open the row; without one, the next page, message or entry"),
    ("h", "the page, message or entry before; where there is none, or from a row, back up"),
    ("/", "to the search field"),
    ("?", "this page"),
)
"""(key, what it does): `static/console.js` does it, one test holds both together."""


async def show(request: Request) -> Response:
    """GET /help."""
    return Site.of(request).page(request, "help.html", keys=KEYS, transitions=TRANSITIONS)
