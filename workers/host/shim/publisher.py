"""Events to containerd, in order, over TTRPC at the address that containerd gave (`TTRPC_ADDRESS`).

Peer: containerd services/ttrpc/events; its shims keep events while containerd is being restarted, and so does this.
"""

from __future__ import annotations

import asyncio
from time import time_ns
from typing import Final

import structlog
from google.protobuf.any_pb2 import Any
from google.protobuf.empty_pb2 import Empty
from google.protobuf.message import Message

from orchestrator.faults import Temporary
from schemas.containerd import events_pb2, forward_pb2, types_pb2
from workers.host.shim.timestamp import timestamp
from workers.host.shim.ttrpc.client import CallFailed, Client

_FORWARD: Final = "containerd.services.events.ttrpc.v1.Events/Forward"
_NAMESPACE_HEADER: Final = "containerd-namespace-ttrpc"
_TOPICS: Final = {
    events_pb2.TaskCreate: "/tasks/create",
    events_pb2.TaskStart: "/tasks/start",
    events_pb2.TaskExit: "/tasks/exit",
    events_pb2.TaskDelete: "/tasks/delete",
    events_pb2.TaskOOM: "/tasks/oom",
    events_pb2.TaskExecAdded: "/tasks/exec-added",
    events_pb2.TaskExecStarted: "/tasks/exec-started",
    events_pb2.TaskPaused: "/tasks/paused",
    events_pb2.TaskResumed: "/tasks/resumed",
}
_KEPT: Final = 4096
_SECONDS: Final = 5.0
_PAUSE: Final = 0.5
_log = structlog.get_logger()


class Publisher:
    """Publishes what `publish` was given, in that order, for as long as `run` runs."""

    def __init__(self, address: str, namespace: str) -> None:
        """`address` of containerd's TTRPC socket; empty: containerd wants no events, and none are kept."""
        self._address = address
        self._namespace = namespace
        self._queue: asyncio.Queue[types_pb2.Envelope] = asyncio.Queue(_KEPT)

    def publish(self, event: Message) -> None:
        """Queue one of containerd's task events. Never waits; with containerd away for 4,096 events, it is lost."""
        if not self._address:
            return
        envelope = types_pb2.Envelope(
            timestamp=timestamp(time_ns()),
            namespace=self._namespace,
            topic=_TOPICS[type(event)],
            event=Any(type_url=event.DESCRIPTOR.full_name, value=event.SerializeToString()),
        )
        try:
            self._queue.put_nowait(envelope)
        except asyncio.QueueFull:
            _log.error("event lost", topic=envelope.topic)

    async def run(self) -> None:
        """Forward for ever. What containerd has not acknowledged is sent again: it may see an event twice."""
        envelope: types_pb2.Envelope | None = None
        while True:
            envelope = envelope or await self._queue.get()
            try:
                async with Client(self._address) as client:
                    while True:
                        await self._forward(client, envelope)
                        self._queue.task_done()
                        envelope = None
                        envelope = await self._queue.get()
            except Temporary:
                await asyncio.sleep(_PAUSE)

    async def drain(self) -> None:
        """Wait until everything has been forwarded, for at most five seconds."""
        try:
            async with asyncio.timeout(_SECONDS):
                await self._queue.join()
        except TimeoutError:
            _log.warning("events not forwarded", left=self._queue.qsize())

    async def _forward(self, client: Client, envelope: types_pb2.Envelope) -> None:
        request = forward_pb2.ForwardRequest(envelope=envelope)
        try:
            await client.call(_FORWARD, request, Empty, seconds=_SECONDS, metadata={_NAMESPACE_HEADER: self._namespace})
        except CallFailed as failed:
            _log.error("event refused", topic=envelope.topic, diagnosis=failed.diagnostics())
