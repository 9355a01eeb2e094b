"""The serving end: each request of each connection is a task; replies go out in the order in which they are ready.

- A method that the service does not have is answered UNIMPLEMENTED.
- The caller's timeout bounds the call: DEADLINE_EXCEEDED.
- A closed connection cancels nothing: what containerd asked is done even if containerd is being restarted; only the
  reply is dropped.
- A fault is answered by its status. Anything else that a method raises is a defect: INTERNAL with its type, no text,
  because an unforeseen message could quote what it was handling.
"""

from __future__ import annotations

import asyncio
import contextlib
from collections.abc import Awaitable, Callable, Mapping
from dataclasses import dataclass
from socket import socket
from typing import Any, Final

import structlog
from google.protobuf.message import DecodeError, Message

from orchestrator.faults import Fault
from schemas.containerd import ttrpc_pb2
from workers.host.shim.ttrpc.frame import MAX_DATA, REQUEST, RESPONSE, Decoder, Frame, encode
from workers.host.shim.ttrpc.status import StatusCode, status_of, words_of

_CHUNK: Final = 1 << 16
_log = structlog.get_logger()


@dataclass(frozen=True, slots=True)
class Method:
    """One RPC: the message it takes, and what answers it."""

    request: type[Message]
    answer: Callable[[Any], Awaitable[Message]]


class Server:
    """Serves `methods`, named `package.Service/Method`, to everyone who can connect to `listener`."""

    def __init__(self, listener: socket, methods: Mapping[str, Method]) -> None:
        """`listener` must be bound and listening; who may connect is the file system's business."""
        self._listener = listener
        self._methods = methods

    async def run(self) -> None:
        """Serve until cancelled; running calls are then cancelled too."""
        async with asyncio.TaskGroup() as tasks:

            def connected(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
                tasks.create_task(self._serve(reader, writer, tasks))

            server = await asyncio.start_unix_server(connected, sock=self._listener, limit=_CHUNK)
            async with server:
                await server.serve_forever()

    async def _serve(
        self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter, tasks: asyncio.TaskGroup
    ) -> None:
        decoder = Decoder()
        try:
            while received := await reader.read(_CHUNK):
                for frame in decoder.feed(received):
                    if frame.kind == REQUEST:
                        tasks.create_task(self._reply(frame, writer))
                await writer.drain()  # who does not read answers is not read from either
        except ConnectionError:
            pass
        finally:
            writer.close()

    async def _reply(self, frame: Frame, writer: asyncio.StreamWriter) -> None:
        response = (await self._answer(frame)).SerializeToString()
        if len(response) > MAX_DATA:
            response = _failure(StatusCode.RESOURCE_EXHAUSTED, "the reply does not fit a frame").SerializeToString()
        if not writer.is_closing():
            writer.write(encode(frame.stream, RESPONSE, response))
            with contextlib.suppress(ConnectionError):
                await writer.drain()

    async def _answer(self, frame: Frame) -> ttrpc_pb2.Response:
        if frame.data is None:
            return _failure(StatusCode.RESOURCE_EXHAUSTED, f"a request has at most {MAX_DATA} bytes")
        try:
            request = ttrpc_pb2.Request.FromString(frame.data)
            name = f"{request.service}/{request.method}"
            method = self._methods.get(name)
            if method is None or frame.flags:
                return _failure(StatusCode.UNIMPLEMENTED, f"{name} is not implemented")
            payload = method.request.FromString(request.payload)
        except DecodeError:
            return _failure(StatusCode.INVALID_ARGUMENT, "the request does not parse")
        return await _call(name, method, payload, request.timeout_nano)


async def _call(name: str, method: Method, payload: Message, timeout_nano: int) -> ttrpc_pb2.Response:
    try:
        async with asyncio.timeout(timeout_nano / 1e9 if timeout_nano > 0 else None):
            reply = await method.answer(payload)
    except Fault as fault:
        _log.info("refused", method=name, diagnosis=fault.diagnostics())
        return _failure(status_of(fault), words_of(fault))
    except TimeoutError:
        return _failure(StatusCode.DEADLINE_EXCEEDED, f"{name} was not done within {timeout_nano / 1e9:g} s")
    except Exception as error:  # noqa: BLE001 - whatever it is, the caller gets an answer
        _log.exception("defect", method=name)
        return _failure(StatusCode.INTERNAL, f"{name} met {type(error).__name__}, which it was not written for")
    return ttrpc_pb2.Response(payload=reply.SerializeToString())


def _failure(code: StatusCode, message: str) -> ttrpc_pb2.Response:
    return ttrpc_pb2.Response(status=ttrpc_pb2.Status(code=code, message=message))
