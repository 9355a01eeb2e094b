"""Events to containerd, in order, over TTRPC at the address that containerd gave (`TTRPC_ADDRESS`).

Peer: containerd services/ttrpc/events; its shims keep events while containerd is being restarted, and so does this.
"""

from __future__ import annotations

from collections import deque
from time import time_ns
from typing import Final

from google.protobuf.any_pb2 import Any
from google.protobuf.empty_pb2 import Empty
from google.protobuf.message import Message

from orchestrator.faults import Temporary
from schemas.containerd import events_pb2, forward_pb2, types_pb2
from workers.host.shim.bundle_log import log
from workers.host.shim.loop import Event, Loop
from workers.host.shim.timestamp import timestamp
from workers.host.shim.ttrpc.failures import CallFailed
from workers.host.shim.ttrpc.loop_client import LoopClient

FORWARD: Final = "containerd.services.events.ttrpc.v1.Events/Forward"
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


class Publisher:
    """Publishes what `publish` was given, in that order, for as long as `run` runs."""

    def __init__(self, loop: Loop, address: str, namespace: str) -> None:
        """`address` of containerd's TTRPC socket; empty: containerd wants no events, and none are kept."""
        self._loop = loop
        self._address = address
        self._namespace = namespace
        self._kept: deque[types_pb2.Envelope] = deque()
        self._news = Event()
        self._told = Event()

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
        if len(self._kept) >= _KEPT:
            log("error", "event lost", topic=envelope.topic)
            return
        self._kept.append(envelope)
        self._news.set()

    async def run(self) -> None:
        """Forward for ever. What containerd has not acknowledged is sent again: it may see an event twice."""
        while True:
            await self._news.wait()
            try:
                client = LoopClient(self._loop, self._address)
            except Temporary:
                await self._loop.sleep(_PAUSE)
                continue
            try:
                while not client.closed.is_set():
                    while self._kept:
                        await self._forward(client, self._kept[0])
                        self._kept.popleft()
                    self._told.set()
                    self._news.clear()
                    await self._news.wait()
            except Temporary:
                await self._loop.sleep(_PAUSE)
            finally:
                client.close()

    async def drain(self) -> None:
        """Wait until everything has been forwarded, for at most five seconds."""
        try:
            async with self._loop.timeout(_SECONDS):
                while self._kept:
                    self._told.clear()
                    await self._told.wait()
        except TimeoutError:
            log("warning", "events not forwarded", left=len(self._kept))

    async def _forward(self, client: LoopClient, envelope: types_pb2.Envelope) -> None:
        request = forward_pb2.ForwardRequest(envelope=envelope)
        try:
            await client.call(FORWARD, request, Empty, seconds=_SECONDS, metadata={_NAMESPACE_HEADER: self._namespace})
        except CallFailed as failed:
            log("error", "event refused", topic=envelope.topic, diagnosis=failed.diagnostics())
