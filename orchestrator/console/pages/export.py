"""One launch as a file, as `enclave-cc export` writes it.

Zone: host. May import: `starlette`, `orchestrator`, `orchestrator.console`.
"""

from __future__ import annotations

import asyncio
import time
from collections.abc import Sequence

from starlette.requests import Request
from starlette.responses import Response

from orchestrator.audit.bundle import Bundle
from orchestrator.audit.entry import rfc3339
from orchestrator.bus import subjects
from orchestrator.console.pages.attachment import attachment
from orchestrator.console.pages.told import believe, read
from orchestrator.console.site import Site
from orchestrator.faults import Permanent
from orchestrator.replay import bundle
from orchestrator.story import title


async def download(request: Request) -> Response:
    """GET /launches/POD/export: its history, what was decided, versions, and the proofs that the audit log has."""
    site, pod = Site.of(request), request.path_params["pod"]
    believed = believe(pod, await read(site, pod))
    stored = await site.histories.stored(pod)
    proofs = await asyncio.to_thread(_proofs, site, pod, [sequence for sequence, _ in stored])
    made = bundle.export(pod, subjects.history(pod), title(believed.launch), stored, rfc3339(time.time_ns()), proofs)
    return attachment(bundle.encode(made), f"{pod[:12]}.launch.jsonl", "application/jsonl")


def _proofs(site: Site, pod: str, sequences: Sequence[int]) -> dict[int, str]:
    """None where there is no log, or none that is believed; the page about the log says why."""
    try:
        return bundle.proofs_of(Bundle.parse(site.ledger.open_().proof_of(pod, sequences)))
    except Permanent:
        return {}
