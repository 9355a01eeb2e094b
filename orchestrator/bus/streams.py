"""The streams' configuration.

Zone: host. May import: `nats`, `orchestrator.bus.{connection,subjects}`.

Runtime credentials may create these but neither update nor delete nor purge them: an update can set `max_msgs` and
wipe every history. `max_bytes` with `discard: new` makes a full disk an error at once, where the default is a hang.
"""

from __future__ import annotations

from typing import Final

import structlog
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
        retention=api.RetentionPolicy.LIMITS,
        storage=api.StorageType.FILE,
        discard=api.DiscardPolicy.OLD,
        max_bytes=256 << 20,
    ),
)

_NAME_IN_USE: Final = 10058
_MATTERS: Final = ("retention", "storage", "discard", "max_age", "max_msgs", "deny_delete", "deny_purge", "sealed")
"""What makes a stream lose or alter messages, or take none. Sizes are the operator's to choose."""

_log = structlog.get_logger()


async def ensure_streams(bus: Bus, replicas: int = 1) -> None:
    """Create what is missing, each on so many of the bus's servers. A stream that exists is left as it is; where it
    could lose messages, that is logged.

    Needs no right to create where nothing is missing. Raises Temporary(BUS_AWAY).
    """
    for config in STREAMS:
        with told_as_faults(f"the stream {config.name} is missing and could not be made"):
            try:
                found = (await bus.stream.stream_info(str(config.name))).config
            except NotFoundError:
                await _create(bus, config.evolve(num_replicas=replicas))
            else:
                await _compare(config, found)


async def _compare(wanted: api.StreamConfig, found: api.StreamConfig) -> None:
    for member in _MATTERS:
        # What a configuration leaves unsaid, the server says as false, 0 or -1.
        ours, theirs = (getattr(config, member) or 0 for config in (wanted, found))
        if ours != (0 if theirs == -1 else theirs):
            await _log.awarning("stream differs", stream=wanted.name, member=member, expected=ours, got=theirs)


async def _create(bus: Bus, config: api.StreamConfig) -> None:
    try:
        await bus.stream.add_stream(config)
    except BadRequestError as error:
        if error.err_code != _NAME_IN_USE:  # else another process was quicker
            raise
