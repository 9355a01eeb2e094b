"""Network namespaces for tests: a pod's own network, without a pod. Loopback is up, nothing else is there."""

from __future__ import annotations

import asyncio
import ctypes
import fcntl
import functools
import os
import socket
import struct
from collections.abc import Callable, Coroutine
from concurrent.futures import ThreadPoolExecutor
from typing import Any, Self, TypeVar

CLONE_NEWNET = 0x40000000
SIOCSIFFLAGS, IFF_UP = 0x8914, 1
_libc = ctypes.CDLL(None, use_errno=True)
T = TypeVar("T")


def enter_new() -> None:
    """Give the calling thread, and threads that it starts, a network namespace of their own."""
    _done(_libc.unshare(CLONE_NEWNET))
    with socket.socket(socket.AF_INET, socket.SOCK_DGRAM) as any_socket:
        fcntl.ioctl(any_socket, SIOCSIFFLAGS, struct.pack("16sh14x", b"lo", IFF_UP))


def _done(result: int) -> None:
    if result != 0:
        raise OSError(ctypes.get_errno(), os.strerror(ctypes.get_errno()))


class Network:
    """A namespace that lives as long as the context; `path` is what names it, as containerd's paths do."""

    def __enter__(self) -> Self:
        with ThreadPoolExecutor(1) as thread:
            self._descriptor = thread.submit(self._make).result()
        self.path = f"/proc/{os.getpid()}/fd/{self._descriptor}"
        return self

    def __exit__(self, *_: object) -> None:
        os.close(self._descriptor)

    @staticmethod
    def _make() -> int:
        enter_new()
        return os.open("/proc/thread-self/ns/net", os.O_RDONLY | os.O_CLOEXEC)

    def inside(self, call: Callable[[], T]) -> T:
        """What `call` returns, called in the namespace."""

        def entered() -> T:
            _done(_libc.setns(self._descriptor, CLONE_NEWNET))
            return call()

        with ThreadPoolExecutor(1) as thread:
            return thread.submit(entered).result()

    def dial(self, port: int) -> socket.socket:
        """A connection to 127.0.0.1:`port` in there."""
        return self.inside(lambda: socket.create_connection(("127.0.0.1", port), timeout=10))

    async def connect(self, port: int) -> tuple[asyncio.StreamReader, asyncio.StreamWriter]:
        """As `dial`, for the event loop."""
        connection = await asyncio.to_thread(self.dial, port)
        connection.setblocking(False)
        return await asyncio.open_connection(sock=connection)


def in_network(test: Callable[..., Coroutine[Any, Any, None]]) -> Callable[..., None]:
    """Run an asynchronous test in an event loop inside its fixture `network`, where a pod's fixed ports are free."""

    @functools.wraps(test)
    def inside(*args: Any, **named: Any) -> None:
        named["network"].inside(lambda: asyncio.run(asyncio.wait_for(test(*args, **named), 60)))

    return inside


def in_own_network(test: Callable[..., Coroutine[Any, Any, None]]) -> Callable[..., None]:
    """Run an asynchronous test in an event loop whose sockets are all in a namespace of the test's own.

    For what listens on a pod's fixed ports: several such tests may run at once on one machine.
    """

    @functools.wraps(test)
    def isolated(*args: Any, **named: Any) -> None:
        def run() -> None:
            enter_new()
            asyncio.run(asyncio.wait_for(test(*args, **named), 60))

        with ThreadPoolExecutor(1) as thread:
            thread.submit(run).result()

    return isolated
