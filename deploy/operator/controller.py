"""The loop: look, decide, carry out, look again. What wakes it says nothing about what changed.

A watch that is lost, an event that comes twice or never, a restart: the next look sees the same cluster. Without being
woken it looks every `RESYNC` seconds. While it acts it asks before each action whether it still leads.
"""

from __future__ import annotations

import asyncio
import time
from typing import Any, Final

import httpx2
import structlog

from deploy.operator.actions import Action, SetStatus
from deploy.operator.cluster import Cluster
from deploy.operator.desired import Desired, leaving, parse_desired
from deploy.operator.leader import Leader
from deploy.operator.reconcile import reconcile
from deploy.operator.status import broken
from orchestrator.faults import Permanent

RESYNC: Final = 15.0
TICK: Final = 4.0
"""Seconds between renewals of the Lease."""
SETTLE: Final = 0.1
"""Seconds after being woken: what changes together is looked at once."""
LOST: Final = 120.0
"""Seconds without a look or a renewal after which this process is of no use, and should be started anew."""
_LAST_DELAY: Final = 30.0

_log = structlog.get_logger("operator")


class Controller:
    """Decides for every EnclaveRuntime of a cluster, one after the other."""

    def __init__(self, cluster: Cluster, leader: Leader) -> None:
        self._cluster = cluster
        self._leader = leader
        self._woken = asyncio.Event()
        self._alive_at = time.monotonic()

    def wake(self) -> None:
        """Something may have changed."""
        self._woken.set()

    @property
    def silent(self) -> float:
        """Seconds since the API server last answered this loop."""
        return time.monotonic() - self._alive_at

    async def run(self) -> None:
        """Until cancelled. A server that does not answer is asked again, more and more slowly."""
        delay, looked_at = TICK, float("-inf")
        while True:
            try:
                if await self._leader.renew():
                    due = time.monotonic() - looked_at >= RESYNC
                    if self._woken.is_set() or due:
                        self._woken.clear()
                        looked_at = time.monotonic()
                        if await self.look():
                            self._woken.set()
                self._alive_at = time.monotonic()
                delay = TICK
            # KeyError: what lightkube makes of an error without a Content-Type, as a load balancer answers.
            except (httpx2.HTTPError, ExceptionGroup, KeyError) as error:
                _log.warning("the API server refused", error=f"{type(error).__name__}: {error}"[:500])
                self._woken.set()
                await asyncio.sleep(delay)
                delay = min(delay * 2, _LAST_DELAY)
                continue
            await self._wait()

    async def look(self) -> bool:
        """One look at everything, and what comes of it. Whether something was done, so that it looks again.

        Raises httpx2.HTTPError, or a group of them.
        """
        changed = False
        for resource in await self._cluster.resources():
            changed |= await self._reconcile(resource)
        return changed

    async def _reconcile(self, resource: dict[str, Any]) -> bool:
        metadata = resource["metadata"]
        try:
            desired = parse_desired(resource)
        except Permanent as fault:
            desired = leaving(metadata["name"], int(metadata.get("generation", 0)))
            observed = await self._cluster.observe(resource, desired)
            if "deletionTimestamp" not in metadata:
                status = broken(fault.diagnosis, observed, desired.generation)
                return status != observed.status and await self._perform((SetStatus(status),), resource, desired)
        else:
            observed = await self._cluster.observe(resource, desired)
        return await self._perform(reconcile(observed, desired), resource, desired)

    async def _perform(self, actions: tuple[Action, ...], resource: dict[str, Any], desired: Desired) -> bool:
        for action in actions:
            if not self._leader.leads:
                return True
            done = await self._cluster.perform(action, resource, desired)
            if not isinstance(action, SetStatus):
                what = {name: getattr(action, name) for name in ("node", "name") if hasattr(action, name)}
                _log.info(type(action).__name__, runtime=desired.name, done=done, **what)
        return bool(actions)

    async def _wait(self) -> None:
        try:
            async with asyncio.timeout(TICK):
                await self._woken.wait()
                await asyncio.sleep(SETTLE)
        except TimeoutError:
            return
