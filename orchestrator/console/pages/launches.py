"""The list of launches: filtered, paged, the newest first.

Zone: host. May import: `starlette`, `orchestrator.console`.
"""

from __future__ import annotations

from starlette.requests import Request
from starlette.responses import Response

from orchestrator.console.index import Group
from orchestrator.console.query import Query, select
from orchestrator.console.site import Site
from orchestrator.lifecycle import State


async def show(request: Request) -> Response:
    """GET /launches?state=&node=&namespace=&code=&text=&page=."""
    site, query = Site.of(request), Query.parse(request.query_params)
    index = site.index
    return site.page(
        request,
        "launches.html",
        query=query,
        result=select(index.newest_first(), query),
        groups=tuple(Group),
        states=tuple(state for state in State if index.states[state]),
        nodes=sorted(index.nodes),
        namespaces=sorted(index.namespaces),
        codes=sorted(index.codes),
    )
