"""seal_fs: the sealed store gets its directory tree and its last tag, and the container its own name for it.

Zone: enclave. May import: `workers.enclave`, `orchestrator.{events,faults,launch}`.
"""

from __future__ import annotations

import asyncio
from pathlib import Path

from orchestrator.events import Command, FsSealed
from orchestrator.faults import Code, Permanent
from orchestrator.launch import Launch
from schemas.places import STORES, store_name
from workers.enclave.work import Works


class SealFs:
    """The transition image-decrypted -> fs-sealed of a container."""

    def __init__(self, works: Works, stores: Path = Path(STORES)) -> None:
        self._works = works
        self._stores = stores

    async def __call__(self, command: Command, launch: Launch) -> FsSealed:  # noqa: ARG002 - every step is called so
        """Raises Permanent(SEAL_FAILED) and what `SealedImage.given_as` raises."""
        work = self._works.get(command.container)
        if work is None:
            raise Permanent(
                Code.SEAL_FAILED,
                "this agent has not decrypted the container's image",
                expected="a store begun by decrypt_image",
                got="none in this enclave's memory",
                advice="the agent was replaced since; create the pod again",
            )
        if work.sealed is None:
            path = self._stores / store_name(command.container, command.attempt)
            work.sealed = await asyncio.to_thread(work.image.given_as, path)
        sealed = work.sealed
        return FsSealed(root_hash=sealed.root_hash.hex(), files=sealed.files, bytes=sealed.size, store=sealed.path.name)
