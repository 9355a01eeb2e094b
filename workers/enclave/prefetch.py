"""Images are decrypted ahead of their containers: those that the pod's annotation names, once the pod is attested.

Zone: enclave. May import: `workers.enclave`, `orchestrator.faults`.

The host says which, so this decides nothing: an image is sealed only if the owner's policy admits it, and judged again
for the container that wants it. What fails here fails again, and is told, when a container wants it.
"""

from __future__ import annotations

import asyncio
from collections.abc import Sequence

import structlog

from orchestrator.faults import Fault
from workers.enclave.image_source import ImageSource
from workers.enclave.sealed_images import SealedImages

_log = structlog.get_logger()


async def prefetch(references: Sequence[str], source: ImageSource, images: SealedImages) -> None:
    """One after the other, in the order of their containers."""
    for reference in references:
        try:
            await images.get(await asyncio.to_thread(source.plan, reference))
        except Fault as fault:
            await _log.awarning("not prefetched", reference=reference[:200], diagnosis=fault.diagnostics())
