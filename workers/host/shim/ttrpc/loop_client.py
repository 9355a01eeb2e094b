"""The calling end in a shim's own loop: any number of calls at once on one connection."""

from __future__ import annotations

from collections.abc import Mapping
from contextlib import suppress
from socket import AF_UNIX, socket
from typing import Final, TypeVar

from google.protobuf.message import DecodeError, Message

from orchestrator.faults import Code, Permanent
from schemas.containerd import ttrpc_pb2
from workers.host.shim.loop import READ, WRITE, Event, Future, Loop
from workers.host.shim.ttrpc.failures import CallFailed, away
from workers.host.shim.ttrpc.frame import REQUEST, RESPONSE, Decoder, encode

_CHUNK: Final = 1 << 16
_Reply = TypeVar("_Reply", bound=Message)


class LoopClient:
    """A connection to a Unix socket, open from the beginning. `close` it; `closed` happens when it is."""

    def __init__(self, loop: Loop, address: str) -> None:
        """`address` is a path, with or without `unix://`. Raises Temporary(RUNTIME) when nobody listens."""
        self._loop = loop
        self._path = address.removeprefix("unix://")
        self._decoder = Decoder()
        self._stream = -1
        self._unsent = bytearray()
        self._calls: dict[int, Future[ttrpc_pb2.Response]] = {}
        self.closed = Event()
        self._socket = socket(AF_UNIX)
        try:
            self._socket.setblocking(False)
            self._socket.connect(self._path)
        except OSError as error:
            self._socket.close()
            raise away(self._path, type(error).__name__) from error
        loop.watch(self._socket.fileno(), READ, self._ready)

    def close(self) -> None:
        """Disconnect; running calls raise Temporary(RUNTIME)."""
        if self.closed.is_set():
            return
        self._loop.unwatch(self._socket.fileno())
        self._socket.close()
        self.closed.set()
        for call in list(self._calls.values()):
            call.set_error(away(self._path, "disconnected"))

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

        Raises CallFailed for a status, Temporary(RUNTIME) for a lost connection and for a limit that passed,
        Permanent(INPUT) for a request that fits no frame.
        """
        if self.closed.is_set():
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
        stream, answer = self._stream, Future[ttrpc_pb2.Response]()
        try:
            frame = encode(stream, REQUEST, envelope.SerializeToString())
        except ValueError as error:
            raise Permanent(Code.INPUT, f"{method} does not take so much", got=str(error)) from error
        self._calls[stream] = answer
        self._send(frame)
        try:
            async with self._loop.timeout(seconds or None):
                response = await answer
        except TimeoutError as error:
            raise away(self._path, type(error).__name__) from error
        finally:
            del self._calls[stream]
        if response.status.code:
            raise CallFailed(method, response.status.code, response.status.message)
        try:
            return reply.FromString(response.payload)
        except DecodeError as error:
            raise away(self._path, type(error).__name__) from error

    def _send(self, data: bytes) -> None:
        self._unsent += data
        self._go_on()

    def _go_on(self) -> None:
        try:
            with suppress(BlockingIOError):
                del self._unsent[: self._socket.send(self._unsent)]
        except OSError:
            self.close()
            return
        self._loop.watch(self._socket.fileno(), READ | WRITE if self._unsent else READ, self._ready)

    def _ready(self, events: int) -> None:
        if events & ~WRITE:
            self._read()
        if events & WRITE and not self.closed.is_set():
            self._go_on()

    def _read(self) -> None:
        try:
            received = self._socket.recv(_CHUNK)
            frames = list(self._decoder.feed(received))
            answers = [
                (frame.stream, ttrpc_pb2.Response.FromString(frame.data))
                for frame in frames
                if frame.kind == RESPONSE and frame.data is not None
            ]
        except BlockingIOError:
            return
        except (OSError, DecodeError):
            received, answers = b"", []
        for stream, response in answers:
            if stream in self._calls:
                self._calls[stream].set_result(response)
        if not received:
            self.close()
