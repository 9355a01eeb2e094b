"""Where a pod's shim listens, and who is its pod: found by `start` without asking anybody.

The socket lies beside containerd's own, in a directory that only root may enter; its name is a digest of everything
that makes the pod one pod, so two containerds, or two namespaces, never meet at one shim.
"""

# Importing pathlib would cost every start of a container 8 ms; json (for re), socket (for enum and selectors) and
# hashlib (for OpenSSL) another 15 together, and os 2. What they wrap is built into the interpreter.
# ruff: noqa: PTH123

from __future__ import annotations

import fcntl
import posix
from _sha256 import sha256  # type: ignore[import-not-found]  # built in up to Python 3.11
from _socket import AF_UNIX, socket

MAX_PATH = 107
"""Bytes of a Unix socket's path (sun_path, unix(7)), without its final zero."""
SANDBOX_ANNOTATION = "io.kubernetes.cri.sandbox-id"


_AS_WRITTEN = f'"{SANDBOX_ANNOTATION}":"'
"""How containerd writes it. Within a JSON string its quotes would be escaped: only a member's name can look so."""


def sandbox_of(bundle: str, container: str) -> str:
    """The pod that a bundle's container belongs to; itself where nothing says otherwise."""
    try:
        with open(f"{bundle}/config.json", encoding="utf-8") as file:
            text = file.read()
    except FileNotFoundError:
        return container
    _, found, rest = text.partition(_AS_WRITTEN)
    sandbox = rest[: rest.find('"')]
    if found and sandbox.isalnum() and _AS_WRITTEN not in rest:
        return sandbox
    import json  # noqa: PLC0415 - not for what containerd writes

    return str((json.loads(text).get("annotations") or {}).get(SANDBOX_ANNOTATION) or container)


def socket_path(containerd: str, namespace: str, sandbox: str) -> str:
    """The path of the socket of the pod's shim. Raises ValueError where the path would not fit an address."""
    digest = sha256(f"{containerd}\0{namespace}\0{sandbox}".encode()).hexdigest()[:32]
    path = f"{containerd.rpartition('/')[0]}/enclave-cc/{digest}"
    if len(path.encode()) > MAX_PATH:
        raise ValueError(f"{path} is longer than the {MAX_PATH} bytes of a socket's path")
    return path


def listen(path: str) -> socket | None:
    """A socket that listens at `path`; None where a living shim listens already. What a dead one left is replaced.

    Under a lock on the directory: of two starts at once, one must not take the other's socket for a dead one's.
    """
    folder = path.rpartition("/")[0]
    try:  # noqa: SIM105 - contextlib costs another 2 ms
        posix.mkdir(folder, 0o700)
    except FileExistsError:
        pass
    lock = posix.open(folder, posix.O_RDONLY | posix.O_CLOEXEC)
    try:
        fcntl.flock(lock, fcntl.LOCK_EX)
        if not remove_dead(path):
            return None
        listener = socket(AF_UNIX)
        listener.bind(path)
        posix.chmod(path, 0o600)
        listener.listen(64)
        return listener
    finally:
        posix.close(lock)


def remove_dead(path: str) -> bool:
    """Remove the socket of a shim that has died, if there is one; False where a living one listens at it."""
    probe = socket(AF_UNIX)
    try:
        probe.connect(path)
    except ConnectionRefusedError:
        posix.unlink(path)
    except FileNotFoundError:
        return True
    else:
        return False
    finally:
        probe.close()
    return True
