"""Reading a history by direct get: one request, no consumer. For who follows, because it may lag behind.

Zone: host. May import: `nats`, the standard library.

Source: NATS ADR-31, "Batched requests". In a cluster any replica answers, so that what was just stored may be missing:
right for who will look again, and never the ground for saying that something did not happen. What it asks for is in
the request's body, where permissions cannot narrow it: an agent reads by its one consumer.
"""

from __future__ import annotations

import json
from typing import Final

import nats.js.errors

from orchestrator.bus.connection import Bus

_BATCH: Final = 256
_SECONDS: Final = 5.0
_END, _NOTHING = "204", "404"


async def read(bus: Bus, stream: str, subject: str, after: int) -> list[tuple[int, bytes]]:
    """The messages on exactly `subject` above `after`, as (stream sequence, bytes). Raises what the client raises."""
    found: list[tuple[int, bytes]] = []
    inbox = bus.client.new_inbox()
    subscription = await bus.client.subscribe(inbox)
    try:
        while True:
            wanted = {"seq": after + 1, "next_by_subj": subject, "batch": _BATCH}
            await bus.client.publish(f"$JS.API.DIRECT.GET.{stream}", json.dumps(wanted).encode(), reply=inbox)
            while True:
                message = await subscription.next_msg(_SECONDS)
                headers = message.headers or {}
                if "Status" in headers:
                    break
                after = int(headers["Nats-Sequence"])
                found.append((after, message.data))
            if headers["Status"] == _NOTHING or (headers["Status"] == _END and not int(headers["Nats-Num-Pending"])):
                return found
            if headers["Status"] != _END:
                raise nats.js.errors.ServiceUnavailableError
    finally:
        await subscription.unsubscribe()
