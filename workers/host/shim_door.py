"""The node's socket for its pods' shims: each connection is one pod's, and its questions go on to the bus.

Zone: host. May import: `workers.host`, `orchestrator.{bus,faults}`, `schemas`, asyncio.

One bus connection, as the role `shim`, serves all pods of the node: a shim of its own would cost each pod ten megabytes
(docs/adr/0015). Nothing is kept here that the history does not say; a shim whose worker was killed asks the next one.
What a shim asked and does not wait for any more, because it has ended, is waited for no longer.
"""

from __future__ import annotations

import asyncio
from collections.abc import Callable
from pathlib import Path
from typing import Final, TypeAlias

import structlog
from google.protobuf.message import Message

from orchestrator.bus import Histories, connect
from orchestrator.faults import Code, Permanent
from schemas import pod_pb2 as pb
from workers.host.node import Node
from workers.host.shim.bus_pod import BusPod, Connection
from workers.host.shim.line_pod import ASK
from workers.host.shim.pod import ContainerRequest, ExecRequest, Pod, SandboxRequest, Streams
from workers.host.shim.ttrpc.server import Method, converse
from workers.host.unix_socket import listening

_LOOK: Final = 1.0
"""Seconds between two looks whether the bus connection has ended for good."""
_FOR_EVER: Final = float("inf")
MakePod: TypeAlias = Callable[[str], Pod]
_log = structlog.get_logger()


async def serve_shims(node: Node) -> None:
    """Serve until cancelled, whether or not the bus is there. Raises Temporary when its connection ended for good."""
    reached: asyncio.Future[Connection] = asyncio.get_running_loop().create_future()

    async def reach() -> Connection:
        return await asyncio.shield(reached)

    async with asyncio.TaskGroup() as tasks:
        tasks.create_task(_stay_connected(node, reached))
        await serve_pods(node.shims, lambda pod: BusPod(pod, lambda: node, reached=reach))


async def _stay_connected(node: Node, reached: asyncio.Future[Connection]) -> None:
    async with await connect(node.credentials_of("shim"), f"shims/{node.name}", _FOR_EVER) as bus:
        reached.set_result(Connection(node, bus, Histories(bus)))
        while True:
            bus.check()
            await asyncio.sleep(_LOOK)


async def serve_pods(path: Path, make_pod: MakePod) -> None:
    """Serve whatever pods `make_pod` makes, at `path`, until cancelled."""
    async with asyncio.TaskGroup() as tasks:

        def connected(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
            tasks.create_task(_serve(reader, writer, make_pod))

        server = await asyncio.start_unix_server(connected, sock=listening(path, backlog=256))
        async with server:
            await server.serve_forever()


async def _serve(reader: asyncio.StreamReader, writer: asyncio.StreamWriter, make_pod: MakePod) -> None:
    """One shim, until it has ended; then nobody waits for its answers."""
    pods: dict[str, Pod] = {}

    async def ask(request: pb.PodRequest) -> Message:
        if request.pod not in pods:
            if pods or not request.pod:
                raise Permanent(Code.INPUT, "a connection is one pod's", expected="its id", got=request.pod[:128])
            pods[request.pod] = make_pod(request.pod)
            tasks.create_task(pods[request.pod].run())
        return await _Asked(pods[request.pod], request).answer()

    try:
        async with asyncio.TaskGroup() as tasks:
            await converse(reader, writer, {ASK: Method(pb.PodRequest, ask)}, tasks)
            raise _Ended  # noqa: TRY301 - out of the group, with all that it runs
    except* _Ended:
        pass
    except* Exception as group:  # noqa: BLE001 - told; a pod's defect must not stop the others
        await _log.aerror("defect", pod=[*pods], error=[type(error).__name__ for error in group.exceptions])


class _Ended(Exception):
    pass


class _Asked:
    """One request; each kind of it is the method of its name."""

    def __init__(self, pod: Pod, request: pb.PodRequest) -> None:
        self._pod = pod
        self._request = request
        self._container = request.container
        self._exec = request.exec

    async def answer(self) -> pb.PodReply:
        kind = self._request.WhichOneof("ask")
        if kind is None:
            raise Permanent(Code.INPUT, "nothing that this version knows is asked", got=str(self._request)[:200])
        reply: pb.PodReply | None = await getattr(self, kind)(getattr(self._request, kind))
        return reply or pb.PodReply()

    async def request_sandbox(self, asked: pb.RequestSandbox) -> pb.PodReply:
        return pb.PodReply(pid=await self._pod.request_sandbox(_sandbox(asked)))

    async def attested(self, _: pb.Attested) -> None:
        await self._pod.attested()

    async def request_container(self, asked: pb.RequestContainer) -> None:
        await self._pod.request_container(_container(self._container, asked))

    async def start_container(self, _: pb.StartContainer) -> pb.PodReply:
        return pb.PodReply(pid=await self._pod.start_container(self._container))

    async def exit_of(self, _: pb.ExitOf) -> pb.PodReply:
        if self._exec:
            ended = await self._pod.exit_of_exec(self._container, self._exec)
        else:
            ended = await self._pod.exit_of(self._container)
        return pb.PodReply(status=ended.status, exited_at_ns=ended.at_ns, out_of_memory=ended.out_of_memory)

    async def signal(self, asked: pb.SendSignal) -> None:
        if self._exec:
            await self._pod.signal_exec(self._container, self._exec, asked.number)
        else:
            await self._pod.signal(self._container, asked.number, everything=asked.everything)

    async def remove(self, asked: pb.Remove) -> None:
        await self._pod.remove(self._container, asked.reason)

    async def start_exec(self, asked: pb.StartExec) -> pb.PodReply:
        request = ExecRequest(self._container, self._exec, tuple(asked.args), _streams(asked.streams))
        return pb.PodReply(pid=await self._pod.start_exec(request))

    async def resize_exec(self, asked: pb.ResizeExec) -> None:
        await self._pod.resize_exec(self._container, self._exec, asked.rows, asked.columns)

    async def forget_exec(self, _: pb.ForgetExec) -> None:
        await self._pod.forget_exec(self._container, self._exec)

    async def pause(self, _: pb.Freeze) -> None:
        await self._pod.pause(self._container)

    async def unpause(self, _: pb.Thaw) -> None:
        await self._pod.unpause(self._container)

    async def limit(self, asked: pb.SetLimits) -> None:
        await self._pod.limit(self._container, asked.resources)


def _sandbox(asked: pb.RequestSandbox) -> SandboxRequest:
    return SandboxRequest(
        bundle=asked.bundle,
        namespace=asked.namespace,
        name=asked.name,
        uid=asked.uid,
        init_data_sha256=asked.init_data_sha256,
        hold_seconds=asked.hold_seconds if asked.HasField("hold_seconds") else None,
        prefetch=tuple(asked.prefetch),
    )


def _container(id_: str, asked: pb.RequestContainer) -> ContainerRequest:
    return ContainerRequest(id_, asked.bundle, asked.name, asked.image, asked.process_sha256, _streams(asked.streams))


def _streams(asked: pb.Streams) -> Streams:
    return Streams(asked.stdin, asked.stdout, asked.stderr, asked.terminal)
