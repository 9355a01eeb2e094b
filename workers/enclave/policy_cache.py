"""The owner's launch policy, fetched once a pod, when it is first needed, and again when a container is resumed.

Zone: enclave. May import: `workers.enclave`, `orchestrator.faults`.
"""

from __future__ import annotations

import asyncio
from functools import partial

from schemas.sgx import ReportBody
from workers.enclave.kbs.client import KbsClient
from workers.enclave.kbs.uri import ResourceUri
from workers.enclave.launch_policy.document import LaunchPolicy
from workers.enclave.patience import answered
from workers.enclave.tee.judge import OnlyMeasurements


class LaunchPolicies:
    """Fetches the policy at `uri` and judges app enclaves by it. `debug`: this agent may be debugged itself."""

    def __init__(self, kbs: KbsClient, uri: str, *, debug: bool) -> None:
        self._kbs = kbs
        self._uri = ResourceUri.parse(uri)
        self._debug = debug
        self._lock = asyncio.Lock()
        self._policy: LaunchPolicy | None = None

    async def get(self) -> LaunchPolicy:
        """Raises what KbsClient.get_resource raises, Permanent(CONFIG_POLICY)."""
        async with self._lock:
            if self._policy is None:
                self._policy = await self._fetch()
            return self._policy

    async def renew(self) -> None:
        """Fetch it again, if it was: its owner may have mended it. Until the new one is here the old one stands.

        Raises as `get`.
        """
        async with self._lock:
            if self._policy is not None:
                self._policy = await self._fetch()

    async def _fetch(self) -> LaunchPolicy:
        return LaunchPolicy.parse(await answered(partial(self._kbs.get_resource, self._uri)))

    def judge(self, peer: ReportBody, /) -> None:
        """Whether an app enclave may be talked to; `get` must have succeeded before. Called in threads."""
        listed = frozenset(bytes.fromhex(m) for m in self._policy.boot_measurements) if self._policy else frozenset()
        OnlyMeasurements(listed, allow_debug=self._debug)(peer)
