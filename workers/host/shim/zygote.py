"""`python -m workers.host.shim.zygote`: a process a node that has imported everything and forks pods' shims from it.

With it a pod's shim serves some 300 ms sooner and shares its memory with all others. It holds no pod: when it is away
`start` forks from itself, and a zygote that dies takes no shim with it.

One connection, one shim: the order (sandbox, namespace, bundle and what of the environment it inherits, NUL between
them) and the listening socket as SCM_RIGHTS come in; the child itself answers one byte, so that an answer means a
living shim. Whoever may connect runs code as root: the socket is root's alone.
"""

from __future__ import annotations

import argparse
import gc
import os
import signal
import socket
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Final

from workers.host.shim.bundle_log import log, log_as
from workers.host.shim.rehearsal import rehearse
from workers.host.shim.serve import serve
from workers.host.shim.start import ALIVE, DEFAULT_ZYGOTE, INHERITED, detach
from workers.host.unix_socket import listening

_MAX_REQUEST: Final = 1 << 16
_SECONDS: Final = 2.0


@dataclass(frozen=True, slots=True)
class _Order:
    """What `start.hand_over` sends."""

    sandbox: str
    namespace: str
    bundle: str
    environment: dict[str, str]


def main(arguments: Sequence[str] | None = None) -> None:
    """Serve until SIGTERM."""
    parser = argparse.ArgumentParser(prog="python -m workers.host.shim.zygote", description="Forks pods' shims.")
    parser.add_argument("--address", type=Path, default=Path(DEFAULT_ZYGOTE), help="Unix socket to serve on")
    address = parser.parse_args(arguments).address
    log_as("zygote", 2)
    rehearse(address.with_suffix(".d"))
    listener = listening(address, backlog=64)
    signal.signal(signal.SIGCHLD, signal.SIG_IGN)  # the kernel reaps: whoever ends here is nobody's news
    gc.collect()
    gc.freeze()  # for good: a child's collector would copy every page that it touches
    log("info", "zygote serves", address=listener.getsockname())
    while True:
        connection, _ = listener.accept()
        with connection:
            try:
                connection.settimeout(_SECONDS)
                _fork(connection, listener)
            except (OSError, ValueError, TypeError) as error:
                log("warning", "no shim was forked", error=str(error))


def _fork(connection: socket.socket, own: socket.socket) -> None:
    payload, descriptors, _, _ = socket.recv_fds(connection, _MAX_REQUEST, 1)
    if not payload and not descriptors:
        return  # somebody looked whether we are here
    if len(descriptors) != 1:
        raise ValueError(f"expected one descriptor, got {len(descriptors)}")
    with socket.socket(fileno=descriptors[0]) as served:
        order = _parse(payload)
        if os.fork() == 0:
            try:
                _become(order, served, connection, own)
            finally:
                os._exit(0)


def _parse(payload: bytes) -> _Order:
    """Raises ValueError for what is no order."""
    sandbox, namespace, bundle, *environment = os.fsdecode(payload).split("\0")
    pairs = dict(entry.split("=", 1) for entry in environment)
    if not pairs.keys() <= set(INHERITED):
        raise ValueError(f"nobody inherits {sorted(pairs)}")
    return _Order(sandbox, namespace, bundle, pairs)


def _become(order: _Order, served: socket.socket, connection: socket.socket, own: socket.socket) -> None:
    own.close()
    signal.signal(signal.SIGCHLD, signal.SIG_DFL)
    os.environ.update(order.environment)
    detach()
    connection.sendall(ALIVE)
    connection.close()
    serve(served, sandbox=order.sandbox, namespace=order.namespace, bundle=order.bundle)


if __name__ == "__main__":
    main()
