"""The streams' configuration.

Zone: host. May import: `nats`, `orchestrator.bus.{connection,subjects}`.

Runtime credentials may create these but neither update nor delete nor purge them: an update can set `max_msgs` and
wipe every history. `max_bytes` with `discard: new` makes a full disk an error at once, where the default is a hang.
"""

from __future__ import annotations

from typing import Final

from nats.js import api
from nats.js.errors import BadRequestError, NotFoundError

from orchestrator.bus import subjects
from orchestrator.bus.connection import Bus, told_as_faults

DUPLICATE_WINDOW: Final = 120.0
"""Seconds in which a repeated Nats-Msg-Id is answered as stored already."""

COMMAND_AGE: Final = 3600.0
"""Seconds after which an unacknowledged command is dropped.

Four times the longest deadline: whoever awaited it has given up and asked again. Without a bound, what was meant for
a pod or a node that is gone would stay for ever, because a work queue forgets only what somebody acknowledged.
"""

STREAMS: Final = (
    api.StreamConfig(
        name=subjects.EVENTS,
        subjects=[subjects.HISTORIES],
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
        max_age=COMMAND_AGE,
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

_NAME_IN_USE: Final = 10058


async def ensure_streams(bus: Bus) -> None:
    """Create what is missing; a stream that exists is left as it is, whatever its configuration.

    Needs no right to create where nothing is missing. Raises Temporary(BUS_AWAY).
    """
    for config in STREAMS:
        with told_as_faults(f"the stream {config.name} is missing and could not be made"):
            try:
                await bus.stream.stream_info(str(config.name))
            except NotFoundError:
                await _create(bus, config)


async def _create(bus: Bus, config: api.StreamConfig) -> None:
    try:
        await bus.stream.add_stream(config)
    except BadRequestError as error:
        if error.err_code != _NAME_IN_USE:  # else another process was quicker
            raise
