"""The streams' configuration.

Zone: host. May import: `nats`, `orchestrator.bus.{connection,subjects}`.

Runtime credentials may create these but neither update nor delete nor purge them: an update can set `max_msgs` and
wipe every history. `max_bytes` with `discard: new` makes a full disk an error at once, where the default is a hang.
"""

from __future__ import annotations

from typing import Final

from nats.js import api
from nats.js.errors import BadRequestError

from orchestrator.bus import subjects
from orchestrator.bus.connection import Bus

DUPLICATE_WINDOW: Final = 120.0
"""Seconds in which a repeated Nats-Msg-Id is answered as stored already."""

STREAMS: Final = (
    api.StreamConfig(
        name=subjects.EVENTS,
        subjects=["ev.*.*"],
        retention=api.RetentionPolicy.LIMITS,
        storage=api.StorageType.FILE,
        discard=api.DiscardPolicy.NEW,
        max_bytes=4 << 30,
        max_msg_size=256 << 10,
        allow_direct=True,
        deny_delete=True,
        deny_purge=True,
        duplicate_window=DUPLICATE_WINDOW,
    ),
    api.StreamConfig(
        name=subjects.COMMANDS,
        subjects=["cmd.>"],
        retention=api.RetentionPolicy.WORK_QUEUE,
        storage=api.StorageType.FILE,
        discard=api.DiscardPolicy.NEW,
        max_bytes=1 << 30,
        max_msg_size=64 << 10,
        duplicate_window=DUPLICATE_WINDOW,
    ),
    api.StreamConfig(
        name=subjects.DEAD_LETTERS,
        subjects=[
            f"$JS.EVENT.ADVISORY.CONSUMER.MAX_DELIVERIES.{subjects.COMMANDS}.>",
            f"$JS.EVENT.ADVISORY.CONSUMER.MSG_TERMINATED.{subjects.COMMANDS}.>",
        ],
        storage=api.StorageType.FILE,
        max_bytes=256 << 20,
    ),
)


async def ensure_streams(bus: Bus) -> None:
    """Create what is missing; a stream that exists is left as it is."""
    for config in STREAMS:
        try:
            await bus.stream.add_stream(config)
        except BadRequestError as error:
            if error.err_code != 10058:  # the name is in use with another configuration: keep that one
                raise
