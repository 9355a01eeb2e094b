"""`start`: answer with the address of the pod's shim, after making one if there is none.

Peer: containerd runtime/v2/binary.go. containerd runs this in the bundle's directory, once for every container (once a
pod, where it was answered version 3: see `bootstrap`), reads both outputs to their end as the answer, and 1.x reads the
file `address` again after its own restart.

The serving process comes from the node's zygote, or is forked from this one where there is none. containerd does not
wait for what it still has to import: the socket, made here, listens already.
"""

# Importing pathlib would cost every start of a container 8 ms, and more of the standard library as much: see
# socket_address.
# ruff: noqa: PTH109, PTH123

from __future__ import annotations

import os
import sys
from _socket import AF_UNIX, SCM_RIGHTS, SOL_SOCKET, socket

from workers.host.shim.arguments import Arguments
from workers.host.shim.bootstrap import FIRST, answer, version_for
from workers.host.shim.caller import given, version_of
from workers.host.shim.socket_address import listen, sandbox_of, socket_path

TYPE_CHECKING = False  # typing costs a start as much as pathlib
if TYPE_CHECKING:
    from collections.abc import Callable

    from workers.host.shim.pod import Pod

ZYGOTE = "ENCLAVE_CC_SHIM_ZYGOTE"
"""Environment variable: the zygote's socket."""
DEFAULT_ZYGOTE = "/run/enclave-cc/zygote.sock"
ALIVE = b"\1"
INHERITED = ("TTRPC_ADDRESS", "ENCLAVE_CC_NODE_CONFIG")
_SECONDS = 2.0


def start(arguments: Arguments, make_pod: Callable[[str], Pod] | None = None) -> None:
    """Print the address; the process that serves it stays behind. Raises OSError, ValueError."""
    bundle = os.getcwd()
    sandbox = sandbox_of(bundle, arguments.id)
    path = socket_path(arguments.address, arguments.namespace, sandbox)
    listener = listen(path)
    address = f"unix://{path}"
    with open("address", "w", encoding="ascii") as file:
        file.write(address)
    version = FIRST
    if listener is not None:
        handed_over = make_pod is None and _hand_over(listener, sandbox, arguments.namespace, bundle)
        if not handed_over and os.fork() == 0:
            _serve(listener, arguments, sandbox, bundle, make_pod)
        version = version_for(arguments, given(), version_of)
    os.write(1, answer(address, version))


def detach() -> None:
    """Leave what the parent is part of; standard output too: containerd reads it to its end."""
    os.setsid()
    os.chdir("/")
    null = os.open(os.devnull, os.O_RDWR)
    for stream in (0, 1, 2):
        os.dup2(null, stream)
    os.close(null)


def _hand_over(listener: socket, sandbox: str, namespace: str, bundle: str) -> bool:
    """Whether the zygote has made a shim that serves `listener`; see `zygote`."""
    environment = [f"{name}={os.environ[name]}" for name in INHERITED if name in os.environ]
    order = os.fsencode("\0".join((sandbox, namespace, bundle, *environment)))
    descriptor = listener.fileno().to_bytes(4, sys.byteorder)
    zygote = socket(AF_UNIX)
    try:
        zygote.settimeout(_SECONDS)
        zygote.connect(os.environ.get(ZYGOTE, DEFAULT_ZYGOTE))
        zygote.sendmsg([order], [(SOL_SOCKET, SCM_RIGHTS, descriptor)])
        return zygote.recv(1) == ALIVE
    except OSError:
        return False
    finally:
        zygote.close()


def _serve(
    listener: socket,
    arguments: Arguments,
    sandbox: str,
    bundle: str,
    make_pod: Callable[[str], Pod] | None,
) -> None:
    """In the forked process, for ever."""
    try:
        detach()
        import socket as sockets  # noqa: PLC0415 - everything that start itself must not import

        from workers.host.shim.serve import serve  # noqa: PLC0415 - as above

        served = sockets.socket(fileno=listener.detach())
        serve(served, sandbox=sandbox, namespace=arguments.namespace, bundle=bundle, make_pod=make_pod)
    finally:
        os._exit(0)
