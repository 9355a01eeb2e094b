"""`start`: answer with the address of the pod's shim, after making one if there is none.

Peer: containerd runtime/v2/binary.go. containerd runs this in the bundle's directory, once for every container, reads
standard output to its end as the address, and reads the file `address` again after its own restart.

The serving process is forked, not executed: it shares this one's memory, and containerd does not wait for what it
still has to import, because the socket listens already.
"""

# Importing pathlib would cost every start of a container 8 ms.
# ruff: noqa: PTH109, PTH123

from __future__ import annotations

import os
import socket

from workers.host.shim.arguments import Arguments
from workers.host.shim.socket_address import listen, sandbox_of, socket_path

TYPE_CHECKING = False  # typing costs a start as much as pathlib
if TYPE_CHECKING:
    from collections.abc import Callable

    from workers.host.shim.pod import Pod


def start(arguments: Arguments, make_pod: Callable[[str], Pod] | None = None) -> None:
    """Print the address; the process that serves it stays behind. Raises OSError, ValueError."""
    bundle = os.getcwd()
    sandbox = sandbox_of(bundle, arguments.id)
    path = socket_path(arguments.address, arguments.namespace, sandbox)
    listener = listen(path)
    address = f"unix://{path}"
    with open("address", "w", encoding="ascii") as file:
        file.write(address)
    if listener is not None and os.fork() == 0:
        _serve(listener, arguments, sandbox, bundle, make_pod)
    os.write(1, address.encode())


def _serve(
    listener: socket.socket,
    arguments: Arguments,
    sandbox: str,
    bundle: str,
    make_pod: Callable[[str], Pod] | None,
) -> None:
    """In the forked process, for ever. Standard output must be closed: containerd reads it to its end."""
    try:
        os.setsid()
        os.chdir("/")
        null = os.open(os.devnull, os.O_RDWR)
        for stream in (0, 1, 2):
            os.dup2(null, stream)
        from workers.host.shim.serve import serve  # noqa: PLC0415 - everything that start itself must not import

        serve(listener, sandbox=sandbox, namespace=arguments.namespace, bundle=bundle, make_pod=make_pod)
    finally:
        os._exit(0)
