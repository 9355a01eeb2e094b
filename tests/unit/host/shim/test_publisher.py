from __future__ import annotations

import asyncio
from pathlib import Path
from typing import Any

import pytest
from google.protobuf.empty_pb2 import Empty

from schemas.containerd import events_pb2, forward_pb2
from workers.host.shim.loop import Loop
from workers.host.shim.publisher import Publisher
from workers.host.shim.ttrpc.server import Method
from workers.host.shim.ttrpc.status import Refusal, StatusCode

FORWARD = "containerd.services.events.ttrpc.v1.Events/Forward"


class Exchange:
    """containerd's end: what arrives, and which events it refuses."""

    def __init__(self) -> None:
        self.seen: list[forward_pb2.ForwardRequest] = []
        self.refuse: set[int] = set()

    def methods(self) -> dict[str, Method]:
        async def forward(request: forward_pb2.ForwardRequest) -> Empty:
            self.seen.append(request)
            if len(self.seen) in self.refuse:
                raise Refusal(StatusCode.INVALID_ARGUMENT, "no")
            return Empty()

        return {FORWARD: Method(forward_pb2.ForwardRequest, forward)}

    def pids(self) -> list[int]:
        return [events_pb2.TaskStart.FromString(request.envelope.event.value).pid for request in self.seen]


async def published(address: str, *pids: int) -> None:
    """Publish a start of each and wait until all is told, as a shim does, in its own loop."""
    loop = Loop()
    publisher = Publisher(loop, address, "k8s.io")

    async def main() -> None:
        loop.create_task(publisher.run())
        for pid in pids:
            publisher.publish(events_pb2.TaskStart(container_id="c", pid=pid))
        await loop.sleep(0)
        await publisher.drain()

    await asyncio.to_thread(loop.run, main())


async def test_events_arrive_in_order_with_namespace_topic_and_type(serve: Any) -> None:
    exchange = Exchange()
    await published(serve(exchange.methods()), *range(1, 6))
    assert exchange.pids() == [1, 2, 3, 4, 5]
    envelope = exchange.seen[0].envelope
    assert (envelope.namespace, envelope.topic) == ("k8s.io", "/tasks/start")
    assert envelope.event.type_url == "containerd.events.TaskStart"


async def test_events_wait_for_a_containerd_that_is_being_restarted(serve: Any, short: Path) -> None:
    exchange = Exchange()
    publishing = asyncio.create_task(published(f"unix://{short / 'server.sock'}", 1, 2))
    await asyncio.sleep(0.1)
    serve(exchange.methods())
    await publishing
    assert exchange.pids() == [1, 2]


async def test_an_event_that_containerd_refuses_does_not_stop_the_next(serve: Any) -> None:
    exchange = Exchange()
    exchange.refuse = {1}
    await published(serve(exchange.methods()), 1, 2)
    assert exchange.pids() == [1, 2]


async def test_without_an_address_nothing_is_kept() -> None:
    await published("", *[1] * 10_000)


async def test_what_is_no_task_event_is_refused() -> None:
    with pytest.raises(KeyError):
        Publisher(Loop(), "unix:///nowhere", "k8s.io").publish(Empty())
