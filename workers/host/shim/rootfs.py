"""The sandbox's root file system: containerd prepares its mounts, a shim makes them, at the bundle's `rootfs`.

Peer: containerd mount/mount_linux.go. Only of the pause container: a container's root exists in its enclave alone, and
what the snapshotter prepared for it is never looked at.
"""

from __future__ import annotations

import ctypes
import os
from collections.abc import Iterable, Sequence
from pathlib import Path
from typing import Final

from orchestrator.faults import Code, Permanent
from schemas.containerd import types_pb2

_LIBC: Final = ctypes.CDLL(None, use_errno=True)
_BIND: Final = 0x1000
_REMOUNT: Final = 0x20
_READ_ONLY: Final = 0x1
_DETACH: Final = 2
_FLAGS: Final = {
    "ro": _READ_ONLY,
    "rw": 0,
    "nosuid": 0x2,
    "nodev": 0x4,
    "noexec": 0x8,
    "bind": _BIND,
    "rbind": _BIND | 0x4000,
}
MAX_DATA: Final = 4095
"""Bytes of options that mount(2) takes: one page with its final zero."""


def mount(mounts: Iterable[types_pb2.Mount], target: Path) -> None:
    """Make the mounts at `target`, one over the other. Raises Permanent(SANDBOX_NOT_CREATED), with none left behind."""
    target.mkdir(mode=0o711, exist_ok=True)
    try:
        for wanted in mounts:
            _mount(wanted.type, wanted.source, target, wanted.options)
    except OSError as error:
        unmount(target)
        raise Permanent(
            Code.SANDBOX_NOT_CREATED,
            "the sandbox's root file system could not be mounted",
            expected=f"containerd's mounts at {target}",
            got=str(error),
            advice="see whether the snapshotter runs and its directories are there",
        ) from error


def unmount(target: Path) -> None:
    """Take away every mount at `target`; fine when there is none."""
    while _LIBC.umount2(os.fsencode(target), _DETACH) == 0:
        pass


def _mount(kind: str, source: str, target: Path, options: Sequence[str]) -> None:
    flags = 0
    for option in options:
        flags |= _FLAGS.get(option, 0)
    data = ",".join(option for option in options if option not in _FLAGS).encode()
    if len(data) > MAX_DATA:
        raise OSError(f"{len(data)} bytes of mount options, at most {MAX_DATA} fit")
    if flags & _BIND and flags & _READ_ONLY:
        # A bind mount takes no flags of its own when it is made, only afterwards: mount(2), "Remounting".
        _call(kind, source, target, flags & ~_READ_ONLY, b"")
        _call("", "", target, flags | _REMOUNT, data)
    else:
        _call(kind, source, target, flags, data)


def _call(kind: str, source: str, target: Path, flags: int, data: bytes) -> None:
    arguments = (source.encode(), os.fsencode(target), kind.encode(), ctypes.c_ulong(flags), data)
    if _LIBC.mount(*arguments) != 0:
        number = ctypes.get_errno()
        raise OSError(number, os.strerror(number), str(target))
