"""The two doors of a pod: how an agent whose network reaches nothing reaches the bus, the registry and the KBS.

Zone: host. May import: `workers.host.{netns,relay}`, `orchestrator.faults`, `schemas`, h11, the standard library.

- 127.0.0.1:61440 in the pod's network namespace: plain forward to nats-server; TLS goes through end to end.
- 127.0.0.1:61441: HTTP. `CONNECT host:port` to what the node's configuration lists (TLS end to end again), and two
  questions: `POST /enroll` with the agent's public user key, once a pod, answered by a user JWT for its own subjects;
  `GET /containers/<id>/process`, the OCI configuration that the CRI proposes for a container. A fault is answered with
  503 when it is worth asking again, with 404 when not, and a body `{"code", "message"}`.

Nothing that passes here is trusted by the agent: what it needs to trust it checks by certificates, digests and policy.
"""

from __future__ import annotations

import asyncio
import json
import re
from collections.abc import Awaitable, Callable
from dataclasses import dataclass
from typing import Final

import h11
import structlog

from orchestrator.faults import Code, Fault, Permanent
from schemas import strict_json
from schemas.places import BUS_DOOR, HTTP_DOOR
from workers.host.netns import listen_in
from workers.host.relay import close, relay

MAX_HEAD: Final = 16 * 1024
MAX_BODY: Final = 4096
PATIENCE: Final = 10.0
"""Seconds for a request to arrive, for an answer to leave, for a connection to what lies beyond."""

CONNECTIONS: Final = 128
"""At once, through both doors: an agent has a dozen. A workload in the pod must not use up the node's descriptors."""

_AUTHORITY: Final = re.compile(rb"([A-Za-z0-9.-]{1,253}):([0-9]{1,5})")
_PROCESS: Final = re.compile(rb"/containers/([A-Za-z0-9_-]{1,128})/process")
_log = structlog.get_logger()


@dataclass(frozen=True, slots=True)
class Answers:
    """Who answers the two questions. Both take the pod; both may raise Fault, told to the asker by its code."""

    enroll: Callable[[str, str], Awaitable[dict[str, str]]]
    process: Callable[[str, str], Awaitable[dict[str, object]]]


class Door:
    """Both doors of one pod. `open` may be called again after `close`."""

    def __init__(
        self,
        pod: str,
        bus: tuple[str, int],
        reachable: frozenset[str],
        answers: Answers,
        patience: float = PATIENCE,
    ) -> None:
        self._pod = pod
        self._bus = bus
        self._reachable = reachable
        self._answers = answers
        self._patience = patience
        self._is_open = False
        self._servers: list[asyncio.Server] = []
        self._connections: set[asyncio.Task[None]] = set()

    async def open(self, netns: str) -> None:
        """Listen in the network namespace at path `netns`; both ports or, when it fails or is cancelled, none.

        Raises OSError when the namespace is gone or a port is taken, ValueError for a path that is none.
        """
        self._is_open = True
        try:
            for port, serve in ((BUS_DOOR, self._forward), (HTTP_DOOR, self._converse)):
                listener = listen_in(netns, "127.0.0.1", port)
                # Not serving yet: nothing is awaited between making a server and remembering it.
                server = await asyncio.start_server(self._tracked(serve), sock=listener, start_serving=False)
                self._servers.append(server)
                await server.start_serving()
        except BaseException:
            await self.close()
            raise

    async def close(self) -> None:
        """Stop listening and end every connection, whatever is still on its way."""
        self._is_open = False
        for server in self._servers:
            server.close()
        self._servers.clear()
        for task in tuple(self._connections):
            task.cancel()
        await asyncio.gather(*self._connections, return_exceptions=True)

    def _tracked(
        self, serve: Callable[[asyncio.StreamReader, asyncio.StreamWriter], Awaitable[None]]
    ) -> Callable[[asyncio.StreamReader, asyncio.StreamWriter], Awaitable[None]]:
        async def connection(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
            task = asyncio.current_task()
            # A connection may have been accepted just before the door was closed.
            if task is None or not self._is_open or len(self._connections) >= CONNECTIONS:
                writer.transport.abort()
                return
            self._connections.add(task)
            task.add_done_callback(self._connections.discard)
            try:
                await serve(reader, writer)
                await close(writer)
            except (OSError, h11.ProtocolError) as error:
                await _log.adebug("door", pod=self._pod, error=type(error).__name__)
            finally:
                writer.transport.abort()

        return connection

    async def _forward(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        async with asyncio.timeout(self._patience):
            far = await asyncio.open_connection(*self._bus)
        await relay((reader, writer), far)

    async def _converse(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        connection = h11.Connection(h11.SERVER, max_incomplete_event_size=MAX_HEAD)
        async with asyncio.timeout(self._patience):
            request, body = await _request(connection, reader)
        if request.method == b"CONNECT":
            await self._connect(connection, request, reader, writer)
            return
        try:
            document = await self._answer(request, body)
            status = 200
        except Fault as fault:
            # The status says what the asker may do about it: ask again, or not.
            document, status = {"code": fault.code.value, "message": str(fault)}, 503 if fault.temporary else 404
        payload = json.dumps(document).encode()
        head = h11.Response(
            status_code=status,
            headers=[
                ("Content-Type", "application/json"),
                ("Content-Length", str(len(payload))),
                ("Connection", "close"),
            ],
        )
        writer.write(_bytes(connection, head) + _bytes(connection, h11.Data(data=payload)))
        writer.write(_bytes(connection, h11.EndOfMessage()))
        async with asyncio.timeout(self._patience):
            await writer.drain()

    async def _answer(self, request: h11.Request, body: bytes) -> dict[str, object]:
        if request.method == b"POST" and request.target == b"/enroll":
            nkey = _member(body, "nkey")
            return {**await self._answers.enroll(self._pod, nkey)}
        match = _PROCESS.fullmatch(request.target)
        if request.method == b"GET" and match:
            return await self._answers.process(self._pod, match[1].decode())
        raise Permanent(
            Code.NOT_FOUND,
            "the door does not know this question",
            expected="POST /enroll, GET /containers/<id>/process or CONNECT",
            got=f"{request.method.decode()} {request.target[:200].decode(errors='replace')}",
            advice="agent and host worker are of different versions",
        )

    async def _connect(
        self,
        connection: h11.Connection,
        request: h11.Request,
        reader: asyncio.StreamReader,
        writer: asyncio.StreamWriter,
    ) -> None:
        match = _AUTHORITY.fullmatch(request.target)
        if match is None or request.target.decode() not in self._reachable:
            writer.write(_bytes(connection, h11.Response(status_code=403, headers=[("Content-Length", "0")])))
            await writer.drain()
            return
        try:
            async with asyncio.timeout(self._patience):
                far = await asyncio.open_connection(match[1].decode(), int(match[2]))
        except OSError:
            writer.write(_bytes(connection, h11.Response(status_code=502, headers=[("Content-Length", "0")])))
            await writer.drain()
            return
        writer.write(_bytes(connection, h11.Response(status_code=200, headers=[])))
        early, _ = connection.trailing_data
        if early:
            far[1].write(early)
        await relay((reader, writer), far)


async def _request(connection: h11.Connection, reader: asyncio.StreamReader) -> tuple[h11.Request, bytes]:
    request: h11.Request | None = None
    body = b""
    while True:
        event = connection.next_event()
        if event is h11.NEED_DATA:
            connection.receive_data(await reader.read(16 * 1024))
        elif isinstance(event, h11.Request):
            request = event
        elif isinstance(event, h11.Data):
            body += event.data
            if len(body) > MAX_BODY:
                raise h11.RemoteProtocolError("a body longer than any of ours")
        elif isinstance(event, h11.EndOfMessage) and request is not None:
            return request, body
        else:
            raise h11.RemoteProtocolError("the connection ended in the middle of a request")


def _bytes(connection: h11.Connection, event: h11.Event) -> bytes:
    return connection.send(event) or b""


def _member(body: bytes, name: str) -> str:
    try:
        return strict_json.text(strict_json.parse_object(body), name)
    except strict_json.Malformed as malformed:
        raise Permanent(
            Code.INPUT,
            "the request's body cannot be used",
            expected=f'JSON with a string "{name}"',
            got=f"{len(body)} other bytes: {malformed}",
            advice="agent and host worker are of different versions",
        ) from malformed
