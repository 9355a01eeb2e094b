"""Sockets in another network namespace.

Zone: host. May import: the standard library. Source: setns(2), network_namespaces(7): a socket stays in the namespace
in which it was made, whoever uses it.
"""

from __future__ import annotations

import ctypes
import os
import socket
from concurrent.futures import ThreadPoolExecutor
from typing import Final

CLONE_NEWNET: Final = 0x40000000
_libc: Final = ctypes.CDLL(None, use_errno=True)


def listen_in(netns: str, address: str, port: int) -> socket.socket:
    """A listening TCP socket in the namespace at path `netns`. Raises OSError, ValueError for a path that is none.

    The namespace is entered by a thread of its own, which ends: no other code ever runs there. Takes under a
    millisecond.
    """
    with ThreadPoolExecutor(1, "netns") as thread:
        return thread.submit(_enter_and_listen, netns, address, port).result()


def _enter_and_listen(netns: str, address: str, port: int) -> socket.socket:
    descriptor = os.open(netns, os.O_RDONLY | os.O_CLOEXEC)
    try:
        if _libc.setns(descriptor, CLONE_NEWNET) != 0:
            raise OSError(ctypes.get_errno(), os.strerror(ctypes.get_errno()), netns)
    finally:
        os.close(descriptor)
    # With its protocol named: asyncio sends at once only on sockets that say they are TCP, and what is accepted says
    # what the listener says. Else a small message behind another waits 40 ms for an acknowledgement.
    listener = socket.socket(socket.AF_INET, socket.SOCK_STREAM, socket.IPPROTO_TCP)
    try:
        listener.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
        listener.bind((address, port))
        listener.listen(64)
        listener.setblocking(False)
    except BaseException:
        listener.close()
        raise
    return listener
