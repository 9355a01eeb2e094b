"""The audit log: its checkpoint, its entries, and proofs to take away.

Zone: host. May import: `starlette`, `orchestrator.{audit,faults}`, `orchestrator.console`.
"""

from __future__ import annotations

import asyncio
import json
from typing import Final

from starlette.exceptions import HTTPException
from starlette.requests import Request
from starlette.responses import Response

from orchestrator.audit.search import statement
from orchestrator.console.ledger import Listed, Opened, Proven
from orchestrator.console.pages.attachment import attachment
from orchestrator.console.pages.told import read
from orchestrator.console.site import Site
from orchestrator.faults import Code, Permanent

FILTERS: Final = (("pod", "Pod"), ("kind", "Kind"), ("zone", "Zone"), ("code", "Fault"), ("actor", "By"))
"""Fields of an entry that the list can be asked for, each with its label."""

_LONGEST: Final = 200
_MOST_DIGITS: Final = 15


async def show(request: Request) -> Response:
    """GET /audit?before=&pod=&kind=&zone=&code=&actor=: entries, the newest first."""
    site = Site.of(request)
    asked = {name: request.query_params.get(name, "").strip()[:_LONGEST] for name, _ in FILTERS}
    before = request.query_params.get("before", "")
    conditions = {name: value for name, value in asked.items() if value}

    def look() -> tuple[Opened, Listed, int]:
        opened = site.ledger.open_()
        return opened, opened.newest(conditions, _number(before)), opened.last_sequence()

    try:
        opened, listed, last = await asyncio.to_thread(look)
    except Permanent as fault:
        absent = fault.code is Code.NOT_FOUND
        return site.page(request, "audit_none.html", 200 if absent else 500, diagnosis=fault.diagnosis, absent=absent)
    return site.page(
        request,
        "audit.html",
        opened=opened,
        listed=listed,
        behind=max(0, site.index.sequence - last),
        asked=asked,
        filters=FILTERS,
        before=before,
    )


async def show_entry(request: Request) -> Response:
    """GET /audit/N: one entry, proved."""
    site, index = Site.of(request), _index(request)
    opened, proven = await asyncio.to_thread(lambda: _proven(site, index))
    return site.page(
        request,
        "entry.html",
        opened=opened,
        proven=proven,
        entry=proven.found.entry,
        said=statement(proven.found.entry),
        leaf=json.dumps(json.loads(proven.found.leaf), indent=1, ensure_ascii=False),
    )


async def download_entry(request: Request) -> Response:
    """GET /audit/N/leaf: the entry's exact bytes, whose hash is the leaf."""
    site, index = Site.of(request), _index(request)
    proven = await asyncio.to_thread(lambda: site.ledger.open_().entry(index))
    return attachment(proven.found.leaf, f"{index}.json", "application/json")


async def download_proof(request: Request) -> Response:
    """GET /audit/N/proof: c2sp.org/tlog-proof@v1."""
    site, index = Site.of(request), _index(request)
    proven = await asyncio.to_thread(lambda: site.ledger.open_().entry(index))
    return attachment(proven.proof.encode(), f"{index}.tlog-proof", "text/plain")


async def download_launch(request: Request) -> Response:
    """GET /launches/POD/proof: the launch's bundle, which `enclave-cc audit verify` checks offline."""
    site, pod = Site.of(request), request.path_params["pod"]
    sequences = [message.sequence for message in await read(site, pod)]
    bundle = await asyncio.to_thread(lambda: site.ledger.open_().proof_of(pod, sequences))
    return attachment(bundle, f"launch-{pod[:12]}.proof.zip", "application/zip")


def _proven(site: Site, index: int) -> tuple[Opened, Proven]:
    opened = site.ledger.open_()
    return opened, opened.entry(index)


def _index(request: Request) -> int:
    number = _number(request.path_params["index"])
    if number is None:
        raise HTTPException(404, "No entry has this index.")
    return number


def _number(text: str) -> int | None:
    return int(text) if text.isascii() and text.isdecimal() and len(text) <= _MOST_DIGITS else None
