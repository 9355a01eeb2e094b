"""`start`: answer with the address of the pod's shim, after making one if there is none.

Peer: containerd runtime/v2/binary.go. containerd runs this in the bundle's directory, once for every container (once a
pod, where it was answered version 3: see `bootstrap`), reads both outputs to their end as the answer, and 1.x reads the
file `address` again after its own restart.

The serving process comes from the node's zygote, or is forked from this one where there is none. containerd does not
wait for what it still has to import: the socket, made here, listens already.
"""

# Importing pathlib would cost every start of a container 8 ms, and more of the standard library as much: see
# socket_address.
# ruff: noqa: PTH123

from __future__ import annotations

import posix
import sys
from _socket import AF_UNIX, SCM_RIGHTS, SOL_SOCKET, socket

from workers.host.shim.arguments import Arguments
from workers.host.shim.bootstrap import FIRST, answer, version_for
from workers.host.shim.caller import given, version_of
from workers.host.shim.socket_address import listen, sandbox_of, socket_path

ZYGOTE = "ENCLAVE_CC_SHIM_ZYGOTE"
"""Environment variable: the zygote's socket."""
DEFAULT_ZYGOTE = "/run/enclave-cc/zygote.sock"
ALIVE = b"\1"
INHERITED = ("TTRPC_ADDRESS", "ENCLAVE_CC_NODE_CONFIG")
_SECONDS = 2.0


def start(arguments: Arguments) -> None:
    """Print the address; the process that serves it stays behind. Raises OSError, ValueError."""
    bundle = posix.getcwd()
    sandbox = sandbox_of(bundle, arguments.id)
    path = socket_path(arguments.address, arguments.namespace, sandbox)
    listener = listen(path)
    address = f"unix://{path}"
    with open("address", "wb") as file:  # as bytes: the codec ascii would be another import
        file.write(address.encode())
    version = FIRST
    if listener is not None:
        handed_over = _hand_over(listener, sandbox, arguments.namespace, bundle)
        if not handed_over and posix.fork() == 0:
            _serve(listener, arguments, sandbox, bundle)
        version = version_for(arguments, given(), version_of)
    posix.write(1, answer(address, version))


def detach() -> None:
    """Leave what the parent is part of; standard output too: containerd reads it to its end."""
    posix.setsid()
    posix.chdir("/")
    null = posix.open("/dev/null", posix.O_RDWR)
    for stream in (0, 1, 2):
        posix.dup2(null, stream)
    posix.close(null)


def _hand_over(listener: socket, sandbox: str, namespace: str, bundle: str) -> bool:
    """Whether the zygote has made a shim that serves `listener`; see `zygote`."""
    inherited = (name.encode() for name in INHERITED)
    environment = (name + b"=" + posix.environ[name] for name in inherited if name in posix.environ)
    order = b"\0".join((*map(_encoded, (sandbox, namespace, bundle)), *environment))
    descriptor = listener.fileno().to_bytes(4, sys.byteorder)
    zygote = socket(AF_UNIX)
    try:
        zygote.settimeout(_SECONDS)
        zygote.connect(posix.environ.get(ZYGOTE.encode(), DEFAULT_ZYGOTE.encode()))
        zygote.sendmsg([order], [(SOL_SOCKET, SCM_RIGHTS, descriptor)])
        return zygote.recv(1) == ALIVE
    except OSError:
        return False
    finally:
        zygote.close()


def _encoded(path: str) -> bytes:
    """As os.fsencode does it on every Linux."""
    return path.encode(errors="surrogateescape")


def _serve(listener: socket, arguments: Arguments, sandbox: str, bundle: str) -> None:
    """In the forked process, for ever."""
    try:
        detach()
        import socket as sockets  # noqa: PLC0415 - everything that start itself must not import

        from workers.host.shim.serve import serve  # noqa: PLC0415 - as above

        served = sockets.socket(fileno=listener.detach())
        serve(served, sandbox=sandbox, namespace=arguments.namespace, bundle=bundle)
    finally:
        posix._exit(0)  # noqa: SLF001 - os._exit, where it comes from
