"""Which of several operators decides: a Lease (coordination.k8s.io/v1), as other controllers hold one.

Whether a holder is away is judged by this process's own clock: its Lease has not changed for as long as it lasts.
No two clocks are compared. Each write of the Lease rests on the version that was read: of two that take it, one is
refused.
"""

from __future__ import annotations

import datetime as dt
import time
from collections.abc import Callable
from typing import Any, Final, cast

from httpx2 import HTTPStatusError
from lightkube import AsyncClient
from lightkube.models.coordination_v1 import LeaseSpec
from lightkube.models.meta_v1 import ObjectMeta
from lightkube.resources.coordination_v1 import Lease
from lightkube.types import PatchType

from deploy.operator import names

LASTS: Final = 15
"""Seconds after which a silent holder has lost its Lease."""
MARGIN: Final = 5
"""Seconds before that in which a holder that could not renew no longer acts."""
_TAKEN: Final = 409
_GONE: Final = 404


class Leader:
    """One operator's part in the election. `clock` is a monotonic one, in seconds."""

    def __init__(
        self, client: AsyncClient, namespace: str, identity: str, clock: Callable[[], float] = time.monotonic
    ) -> None:
        self._client = client
        self._namespace = namespace
        self._identity = identity
        self._clock = clock
        self._held_until = float("-inf")
        self._seen: tuple[str, float] | None = None

    @property
    def leads(self) -> bool:
        """Whether this operator may still act. Asked before each action."""
        return self._clock() < self._held_until

    async def renew(self) -> bool:
        """Take the Lease, or keep it, or see who has it. Raises httpx2.HTTPError; then `leads` runs out."""
        asked_at = self._clock()
        try:
            if await self._hold(asked_at):
                self._held_until = asked_at + LASTS - MARGIN
                return True
        except HTTPStatusError as error:
            if error.response.status_code != _TAKEN:
                raise
        self._held_until = float("-inf")
        return False

    async def give_up(self) -> None:
        """Let the next one begin at once. Raises httpx2.HTTPError."""
        if self.leads:
            self._held_until = float("-inf")
            patch = {"spec": {"holderIdentity": None}}
            await self._client.patch(Lease, names.LEASE, patch, namespace=self._namespace, patch_type=PatchType.MERGE)

    async def _hold(self, asked_at: float) -> bool:
        try:
            lease = await self._client.get(Lease, names.LEASE, namespace=self._namespace)
        except HTTPStatusError as error:
            if error.response.status_code != _GONE:
                raise
            metadata = ObjectMeta(name=names.LEASE, namespace=self._namespace)
            spec = cast("LeaseSpec", LeaseSpec.from_dict(self._spec()))
            await self._client.create(Lease(metadata=metadata, spec=spec))
            return True
        found: dict[str, Any] = lease.to_dict()
        spec_now: dict[str, Any] = found.get("spec") or {}
        holder, version = spec_now.get("holderIdentity") or "", f"{found['metadata'].get('resourceVersion')}"
        mark = f"{holder} {spec_now.get('renewTime')} {version}"
        if self._seen is None or self._seen[0] != mark:
            self._seen = (mark, asked_at)
        if holder not in {"", self._identity} and asked_at - self._seen[1] < LASTS:
            return False
        patch = {"metadata": {"resourceVersion": version}, "spec": self._spec()}
        await self._client.patch(Lease, names.LEASE, patch, namespace=self._namespace, patch_type=PatchType.MERGE)
        return True

    def _spec(self) -> dict[str, Any]:
        now = dt.datetime.now(dt.UTC).strftime("%Y-%m-%dT%H:%M:%S.%fZ")
        return {"holderIdentity": self._identity, "leaseDurationSeconds": LASTS, "renewTime": now}
