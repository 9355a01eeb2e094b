"""Where a pod's shim listens, and who is its pod: found by `start` without asking anybody.

The socket lies beside containerd's own, in a directory that only root may enter; its name is a digest of everything
that makes the pod one pod, so two containerds, or two namespaces, never meet at one shim.
"""

# Importing pathlib would cost every start of a container 8 ms.
# ruff: noqa: PTH101, PTH103, PTH108, PTH120, PTH123

from __future__ import annotations

import fcntl
import hashlib
import json
import os
import socket

MAX_PATH = 107
"""Bytes of a Unix socket's path (sun_path, unix(7)), without its final zero."""
SANDBOX_ANNOTATION = "io.kubernetes.cri.sandbox-id"


def sandbox_of(bundle: str, container: str) -> str:
    """The pod that a bundle's container belongs to; itself where nothing says otherwise."""
    try:
        with open(f"{bundle}/config.json", encoding="utf-8") as file:
            annotations = json.load(file).get("annotations") or {}
    except FileNotFoundError:
        return container
    return str(annotations.get(SANDBOX_ANNOTATION) or container)


def socket_path(containerd: str, namespace: str, sandbox: str) -> str:
    """The path of the socket of the pod's shim. Raises ValueError where the path would not fit an address."""
    digest = hashlib.sha256(f"{containerd}\0{namespace}\0{sandbox}".encode()).hexdigest()[:32]
    path = f"{os.path.dirname(containerd)}/enclave-cc/{digest}"
    if len(path.encode()) > MAX_PATH:
        raise ValueError(f"{path} is longer than the {MAX_PATH} bytes of a socket's path")
    return path


def listen(path: str) -> socket.socket | None:
    """A socket that listens at `path`; None where a living shim listens already. What a dead one left is replaced.

    Under a lock on the directory: of two starts at once, one must not take the other's socket for a dead one's.
    """
    folder = os.path.dirname(path)
    os.makedirs(folder, mode=0o700, exist_ok=True)
    lock = os.open(folder, os.O_RDONLY | os.O_CLOEXEC)
    try:
        fcntl.flock(lock, fcntl.LOCK_EX)
        if not remove_dead(path):
            return None
        listener = socket.socket(socket.AF_UNIX)
        listener.bind(path)
        os.chmod(path, 0o600)
        listener.listen(64)
        return listener
    finally:
        os.close(lock)


def remove_dead(path: str) -> bool:
    """Remove the socket of a shim that has died, if there is one; False where a living one listens at it."""
    with socket.socket(socket.AF_UNIX) as probe:
        try:
            probe.connect(path)
        except ConnectionRefusedError:
            os.unlink(path)
        except FileNotFoundError:
            return True
        else:
            return False
    return True
