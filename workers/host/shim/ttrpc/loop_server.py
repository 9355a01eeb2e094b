"""The serving end in a shim's own loop: a request runs at once, up to where it waits; replies go out as they are ready.

A closed connection cancels nothing: what containerd asked is done even if containerd is being restarted; only the reply
is dropped. Who does not read answers is not read from either.
"""

from __future__ import annotations

from collections.abc import Mapping
from socket import socket
from typing import Final

from workers.host.shim.loop import READ, WRITE, Loop, Task
from workers.host.shim.ttrpc.answers import Log, Method, reply
from workers.host.shim.ttrpc.frame import REQUEST, Decoder, Frame

_CHUNK: Final = 1 << 16


class LoopServer:
    """Serves `methods`, named `package.Service/Method`, to everyone who can connect to `listener`, from now on."""

    def __init__(self, loop: Loop, listener: socket, methods: Mapping[str, Method], log: Log) -> None:
        """`listener` must be bound and listening; who may connect is the file system's business."""
        self._loop = loop
        self._listener = listener
        self._methods = methods
        self._log = log
        listener.setblocking(False)
        self._listen()

    def close(self) -> None:
        """Take no more connections; those that are there go on."""
        self._loop.unwatch(self._listener.fileno())

    def _listen(self) -> None:
        self._loop.watch(self._listener.fileno(), READ, self._accept)

    def _accept(self, _: int) -> None:
        try:
            connected, _ = self._listener.accept()
        except BlockingIOError:  # it has gone already
            return
        except OSError:  # there is no descriptor left for it now
            self._loop.unwatch(self._listener.fileno())
            self._loop.call_later(1, self._listen)
            return
        _Connection(self._loop, connected, self._methods, self._log)


class _Connection:
    __slots__ = ("_decoder", "_log", "_loop", "_methods", "_socket", "_unsent")

    def __init__(self, loop: Loop, connected: socket, methods: Mapping[str, Method], log: Log) -> None:
        self._loop = loop
        self._socket = connected
        self._methods = methods
        self._log = log
        self._decoder = Decoder()
        self._unsent = bytearray()
        connected.setblocking(False)
        loop.watch(connected.fileno(), READ, self._read)

    def _read(self, _: int) -> None:
        try:
            received = self._socket.recv(_CHUNK)
        except BlockingIOError:
            return
        except OSError:
            received = b""
        if not received:
            self._close()
            return
        for frame in self._decoder.feed(received):
            if frame.kind == REQUEST:
                Task(self._loop, self._reply(frame)).step()

    async def _reply(self, frame: Frame) -> None:
        self._send(await reply(frame, self._methods, self._loop.timeout, self._log))

    def _send(self, data: bytes) -> None:
        if self._socket.fileno() < 0:
            return
        if self._unsent:
            self._unsent += data
            return
        sent = self._try(data)
        if sent < len(data):
            self._unsent += data[sent:]
            self._loop.watch(self._socket.fileno(), WRITE, self._go_on)

    def _go_on(self, _: int) -> None:
        del self._unsent[: self._try(self._unsent)]
        if not self._unsent and self._socket.fileno() >= 0:
            self._loop.watch(self._socket.fileno(), READ, self._read)

    def _try(self, data: bytes | bytearray) -> int:
        """How much was sent; all of it where nobody will read it."""
        try:
            return self._socket.send(data)
        except BlockingIOError:
            return 0
        except OSError:
            self._close()
            return len(data)

    def _close(self) -> None:
        self._unsent.clear()
        if self._socket.fileno() >= 0:
            self._loop.unwatch(self._socket.fileno())
            self._socket.close()
