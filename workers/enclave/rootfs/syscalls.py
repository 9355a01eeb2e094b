"""mount(2) and umount2(2) as they are, and the mount table.

Zone: enclave. May import: the standard library.

util-linux's mount is not used: for a regular file it goes through a loop device without a word, which an enclave's
container neither has nor may have.
"""

from __future__ import annotations

import ctypes
import os
import pathlib
import re
from dataclasses import dataclass

MS_RDONLY = 1
MS_NOSUID = 2
MS_NODEV = 4
MS_NOEXEC = 8
MS_PRIVATE = 1 << 18
MNT_DETACH = 2
UMOUNT_NOFOLLOW = 8

_LIBC = ctypes.CDLL(None, use_errno=True)
_OCTAL = re.compile(r"\\([0-7]{3})")


@dataclass(frozen=True, slots=True)
class MountPoint:
    """A line of /proc/self/mountinfo: `device` is `major:minor`."""

    path: pathlib.Path
    device: str
    filesystem: str


def mount(source: str, target: pathlib.Path, filesystem: str | None, flags: int = 0, options: str = "") -> None:
    """Raises `OSError` with the kernel's errno."""
    result = _LIBC.mount(
        os.fsencode(source),
        os.fsencode(target),
        filesystem.encode() if filesystem else None,
        ctypes.c_ulong(flags),
        options.encode() if options else None,
    )
    _check(result, target)


def unmount(target: pathlib.Path, flags: int = 0) -> None:
    """Takes the topmost mount off `target`, which is never followed if it is a link. Raises `OSError`."""
    _check(_LIBC.umount2(os.fsencode(target), flags | UMOUNT_NOFOLLOW), target)


def mount_points() -> list[MountPoint]:
    """The mounts of this process's namespace, in order of mounting. Raises `OSError` where /proc is not there."""
    lines = pathlib.Path("/proc/self/mountinfo").read_text(errors="surrogateescape").splitlines()
    return [_mount_point(line) for line in lines]


def _mount_point(line: str) -> MountPoint:
    """proc(5): id parent major:minor root mount-point options [optional...] - type source super-options."""
    before, _, after = line.partition(" - ")
    fields = before.split(" ")
    path = _OCTAL.sub(lambda escape: chr(int(escape[1], 8)), fields[4])
    return MountPoint(pathlib.Path(path), fields[2], after.split(" ")[0])


def _check(result: int, target: pathlib.Path) -> None:
    if result:
        number = ctypes.get_errno()
        raise OSError(number, os.strerror(number), str(target))
