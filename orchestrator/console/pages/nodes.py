"""Nodes, and the processes that stated facts.

Zone: host. May import: `starlette`, `orchestrator.console`.
"""

from __future__ import annotations

from collections import Counter
from dataclasses import dataclass

from starlette.requests import Request
from starlette.responses import Response

from orchestrator.console.index import Group, Row
from orchestrator.console.site import Site
from orchestrator.console.tally import Node


@dataclass(frozen=True, slots=True)
class Seen:
    """A node as its facts show it: launches by group, and the pods that run there now, the newest first."""

    node: Node
    groups: Counter[Group]
    running: tuple[Row, ...]


async def show(request: Request) -> Response:
    """GET /nodes."""
    site = Site.of(request)
    groups: dict[str, Counter[Group]] = {}
    running: dict[str, list[Row]] = {}
    for row in site.index.newest_first():
        groups.setdefault(row.node, Counter())[row.group] += 1
        if row.group in (Group.RUNNING, Group.LAUNCHING):
            running.setdefault(row.node, []).append(row)
    nodes = [
        Seen(node, groups.get(name, Counter()), tuple(running.get(name, ())))
        for name, node in sorted(site.index.tally.nodes.items())
    ]
    workers = sorted(site.index.tally.workers.values(), key=lambda worker: (worker.role, worker.where, -worker.last_ns))
    return site.page(request, "nodes.html", nodes=nodes, workers=workers, all_groups=tuple(Group))
