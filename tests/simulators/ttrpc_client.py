"""The calling end in asyncio, one call at a time: for tests of what serves."""

from __future__ import annotations

import asyncio
from collections.abc import Mapping
from types import TracebackType
from typing import Final, Self, TypeVar

from google.protobuf.message import DecodeError, Message

from schemas.containerd import ttrpc_pb2
from workers.host.shim.ttrpc.failures import CallFailed, away
from workers.host.shim.ttrpc.frame import REQUEST, RESPONSE, Decoder, encode

__all__ = ["CallFailed", "Client"]
_CHUNK: Final = 1 << 16
_Reply = TypeVar("_Reply", bound=Message)


class Client:
    """A connection to a Unix socket. Use as an asynchronous context manager; not for concurrent calls."""

    def __init__(self, address: str) -> None:
        """`address` is a path, with or without `unix://`."""
        self._path = address.removeprefix("unix://")
        self._decoder = Decoder()
        self._stream = -1
        self._reader: asyncio.StreamReader | None = None
        self._writer: asyncio.StreamWriter | None = None

    async def __aenter__(self) -> Self:
        """Connect. Raises Temporary(RUNTIME) when nobody listens."""
        try:
            self._reader, self._writer = await asyncio.open_unix_connection(self._path)
        except OSError as error:
            raise away(self._path, type(error).__name__) from error
        return self

    async def __aexit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        """Disconnect."""
        if self._writer is not None:
            self._writer.close()

    async def call(
        self,
        method: str,
        request: Message,
        reply: type[_Reply],
        *,
        seconds: float = 0,
        metadata: Mapping[str, str] | None = None,
    ) -> _Reply:
        """Call `package.Service/Method`; 0 seconds is no limit.

        Raises CallFailed for a status, Temporary(RUNTIME) for a lost connection and for a limit that passed: the
        connection is then of no further use.
        """
        if self._reader is None or self._writer is None:
            raise away(self._path, "not connected")
        service, _, name = method.rpartition("/")
        pairs = [ttrpc_pb2.KeyValue(key=key, value=value) for key, value in (metadata or {}).items()]
        envelope = ttrpc_pb2.Request(
            service=service,
            method=name,
            payload=request.SerializeToString(),
            timeout_nano=int(seconds * 1e9),
            metadata=pairs,
        )
        self._stream += 2
        try:
            async with asyncio.timeout(seconds or None):
                self._writer.write(encode(self._stream, REQUEST, envelope.SerializeToString()))
                await self._writer.drain()
                response = await self._response(self._reader)
        except (OSError, DecodeError) as error:  # TimeoutError is an OSError
            raise away(self._path, type(error).__name__) from error
        if response.status.code:
            raise CallFailed(method, response.status.code, response.status.message)
        return reply.FromString(response.payload)

    async def _response(self, reader: asyncio.StreamReader) -> ttrpc_pb2.Response:
        while received := await reader.read(_CHUNK):
            for frame in self._decoder.feed(received):
                if frame.kind == RESPONSE and frame.stream == self._stream and frame.data is not None:
                    return ttrpc_pb2.Response.FromString(frame.data)
        raise ConnectionResetError(self._path)
