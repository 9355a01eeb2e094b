"""A lease that ends with its holder's connection: one of a name at a time.

Zone: host. May import: `nats`, `orchestrator.{faults}`, `orchestrator.bus`.

It is a push consumer that is never delivered anything: the server refuses to point one at another subscriber while
the first is there. When the holder dies its subscription goes, and the next may have the lease. A holder that was cut
off may lose it without knowing: ask `check` before each act that nobody else may do.
"""

from __future__ import annotations

import contextlib
import hashlib

import nats.errors
from nats.aio.msg import Msg
from nats.aio.subscription import Subscription
from nats.js import api
from nats.js.errors import BadRequestError, NotFoundError

from orchestrator.bus import subjects
from orchestrator.bus.connection import AWAY, Bus, told_as_faults
from orchestrator.faults import Code, Permanent

_FORGOTTEN_AFTER = 3600.0
"""Seconds after which the server drops the lease of a holder who died."""


class Lease:
    """The lease `purpose` on one connection. Take it with `take`, give it back with `release`."""

    def __init__(self, bus: Bus, purpose: str) -> None:
        self._bus = bus
        self._purpose = purpose
        self._name = f"lease-{hashlib.sha256(purpose.encode()).hexdigest()[:16]}"
        self._subscription: Subscription | None = None

    async def take(self) -> None:
        """Raises Permanent(AUDIT_LEASE) when somebody else holds it, Temporary(BUS_AWAY)."""
        with told_as_faults(f"the lease {self._purpose} could not be taken"):
            if self._subscription is None:
                self._subscription = await self._bus.client.subscribe(self._bus.client.new_inbox(), cb=_nothing)
            config = api.ConsumerConfig(
                name=self._name,
                durable_name=self._name,
                filter_subject=f"ev.0.{self._name}",  # nobody's history: nothing is ever delivered
                deliver_policy=api.DeliverPolicy.NEW,
                ack_policy=api.AckPolicy.NONE,
                deliver_subject=self._subscription.subject,
                inactive_threshold=_FORGOTTEN_AFTER,
            )
            try:
                await self._bus.stream.add_consumer(subjects.EVENTS, config)
            except BadRequestError as error:
                raise self._held_by_another() from error

    async def check(self) -> None:
        """Make sure that we hold it still. Raises Permanent(AUDIT_LEASE), Temporary(BUS_AWAY)."""
        with told_as_faults(f"the lease {self._purpose} could not be checked"):
            try:
                info = await self._bus.stream.consumer_info(subjects.EVENTS, self._name)
            except NotFoundError:
                await self.take()
                return
        if self._subscription is None or info.config.deliver_subject != self._subscription.subject:
            raise self._held_by_another()

    async def release(self) -> None:
        """Let the next one have it."""
        if self._subscription is not None:
            with contextlib.suppress(nats.errors.Error, *AWAY):
                await self._subscription.unsubscribe()
                await self._bus.stream.delete_consumer(subjects.EVENTS, self._name)
            self._subscription = None

    def _held_by_another(self) -> Permanent:
        return Permanent(
            Code.AUDIT_LEASE,
            f"somebody else holds the lease {self._purpose}",
            expected="one holder",
            got="another live connection that holds it",
            advice="see where else `enclave-cc audit run` runs for this log; two writers would fork it",
        )


async def _nothing(_: Msg) -> None:
    """Nothing is delivered to a lease."""
