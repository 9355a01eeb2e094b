"""What the host has for the workload (config maps, secrets, hosts, resolv.conf): copied once, measured, checked.

Zone: enclave. May import: `workers.enclave.{launch_policy,rootfs}`, `schemas`, `orchestrator.faults`, the standard
library.

The host may change its files at any moment, also between two reads, so the workload never sees them: it sees a copy in
enclave memory, and the digest is that of the copy's bytes. A later change of a config map is for the next start.

1. Nothing is opened outside the offered place, whatever links there say; only files and directories are taken.
2. What a kubelet keeps there for itself (`..data` and the directory that it leads to) is passed over, and the links to
   it are followed: a key of a config map is a file. If `..data` leads elsewhere afterwards, all is read again.
3. Sizes and numbers are bounded before anything is held.
4. The digest is the one that the policy names, where it names one.

The digest of a mount is the SHA-256 of this JSON, without blanks, in UTF-8: an array with an entry for everything in
the tree, sorted by path, `[path, "d", mode]` or `[path, "f", mode, "hex SHA-256 of the content"]`. Paths are relative,
`""` for the mount itself; modes are four octal digits, of which the first is 0. Owners and times are no part of it.
"""

from __future__ import annotations

import ctypes
import hashlib
import json
import os
import stat
import struct
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass, field
from pathlib import Path
from typing import Final

from orchestrator.faults import Code, Permanent
from schemas.places import offered_at
from workers.enclave.launch_policy.approved import ApprovedMount

MOST_MOUNTS: Final = 32
MOST_ENTRIES: Final = 4096
MOST_BYTES: Final = 16 << 20
"""For all mounts of a container: they are held in its memory. A config map holds at most one MiB."""

_DEEPEST: Final = 16
_TRIES: Final = 5
_MARKER: Final = "..data"

# Linux: include/uapi/asm-generic/unistd.h, linux/openat2.h.
_SYS_OPENAT2: Final = 437
_RESOLVE_NO_XDEV, _RESOLVE_NO_MAGICLINKS, _RESOLVE_BENEATH = 0x01, 0x02, 0x08
_LIBC: Final = ctypes.CDLL(None, use_errno=True)


@dataclass(frozen=True, slots=True)
class Taken:
    """One mount's copy: `sha256` in hex, as the module's head says."""

    destination: str
    sha256: str
    copy: Path

    def __str__(self) -> str:
        return f"{self.destination}@sha256:{self.sha256}"


def take(
    mounts: Sequence[ApprovedMount], place: Path, source_of: Callable[[str], str] = offered_at
) -> tuple[Taken, ...]:
    """Copy what the host offers for `mounts` below `place`, which is made; the path of each copy is its own.

    Raises:
        Permanent: CONFIG_HOST_DATA.
    """
    if len(mounts) > MOST_MOUNTS:
        raise _refused("the container", f"at most {MOST_MOUNTS} mounts of host data", str(len(mounts)))
    place.mkdir(mode=0o700, parents=True)
    room = _Room()
    return tuple(
        _take(mount, Path(source_of(mount.destination)), place / str(n), room) for n, mount in enumerate(mounts)
    )


@dataclass(slots=True)
class _Room:
    """What may still be held."""

    entries: int = MOST_ENTRIES
    bytes: int = MOST_BYTES

    def take(self, where: str, size: int) -> None:
        self.entries -= 1
        self.bytes -= size
        if self.entries < 0 or self.bytes < 0:
            expected = f"at most {MOST_ENTRIES} files and {MOST_BYTES >> 20} MiB in all mounts of host data"
            raise _refused(where, expected, "more")


@dataclass(frozen=True, slots=True)
class _Entry:
    mode: int
    uid: int
    gid: int
    content: bytes | None

    def line(self, path: str) -> list[str]:
        if self.content is None:
            return [path, "d", f"{self.mode:04o}"]
        return [path, "f", f"{self.mode:04o}", hashlib.sha256(self.content).hexdigest()]


@dataclass(slots=True)
class _Reading:
    """One reading of one offered place. `room` is its own: a reading that is done again takes nothing."""

    where: str
    top: Path
    room: _Room
    found: dict[str, _Entry] = field(default_factory=dict)

    def read(self) -> dict[str, _Entry]:
        """Everything, by its path. Raises FileNotFoundError for what went away or was never there."""
        with _opened(None, os.fsencode(self.top), 0) as top:
            self._visit(top, top, "")
        return self.found

    def _visit(self, top: int, file: int, path: str) -> None:
        status = os.fstat(file)
        entry = status.st_mode & 0o777, status.st_uid, status.st_gid
        if stat.S_ISREG(status.st_mode):
            self.room.take(self.where, status.st_size)
            content = _whole(file, status.st_size)
            self.found[path] = _Entry(*entry, content)
        elif stat.S_ISDIR(status.st_mode):
            self.room.take(self.where, 0)
            self.found[path] = _Entry(*entry, None)
            if path.count("/") >= _DEEPEST:
                raise _refused(self.where, f"at most {_DEEPEST} directories in each other", path[:200])
            for name in sorted(os.listdir(file)):
                if not name.startswith(".."):
                    self._descend(top, f"{path}/{name}" if path else name)
        else:
            raise _refused(self.where, "files and directories", f"another kind of file at {path[:200]!r}")

    def _descend(self, top: int, path: str) -> None:
        try:
            name = path.encode()
        except UnicodeEncodeError:
            raise _refused(self.where, "names in UTF-8", ascii(path[:200])) from None
        try:
            with _opened(top, name, _RESOLVE_BENEATH | _RESOLVE_NO_MAGICLINKS | _RESOLVE_NO_XDEV) as file:
                self._visit(top, file, path)
        except FileNotFoundError:
            raise
        except OSError as error:
            got = f"{path[:200]!r}: {error.strerror}"
            raise _refused(self.where, "what can be read within the mount", got) from error


def _take(mount: ApprovedMount, source: Path, copy: Path, room: _Room) -> Taken:
    where = f"mount {mount.destination}"
    entries = _settled(where, source, room)
    lines = [entries[path].line(path) for path in sorted(entries)]
    digest = hashlib.sha256(json.dumps(lines, ensure_ascii=False, separators=(",", ":")).encode()).hexdigest()
    if mount.sha256 not in {"", digest}:
        raise _refused(where, f"sha256:{mount.sha256}, as the launch policy says", f"sha256:{digest}")
    _write(entries, copy)
    return Taken(mount.destination, digest, copy)


def _settled(where: str, source: Path, room: _Room) -> dict[str, _Entry]:
    """One state of the host's files, by a kubelet's own way to replace them (Kubernetes: volume/util/atomic_writer)."""
    for _ in range(_TRIES):
        before, tried = _marker(source), _Room(room.entries, room.bytes)
        try:
            entries = _Reading(where, source, tried).read()
        except OSError as error:
            if _marker(source) == before:
                raise _refused(where, "what can be read", error.strerror or "an error") from error
            continue
        if _marker(source) == before:
            room.entries, room.bytes = tried.entries, tried.bytes
            return entries
    raise _refused(where, "what stays as it is while it is read", f"it was replaced {_TRIES} times")


def _marker(source: Path) -> str:
    try:
        return str((source / _MARKER).readlink())
    except OSError:
        return ""


def _write(entries: dict[str, _Entry], copy: Path) -> None:
    for path, entry in sorted(entries.items()):
        place = copy / path if path else copy
        if entry.content is None:
            place.mkdir(mode=0o700)
        else:
            place.touch(mode=0o600)
            place.write_bytes(entry.content)
    # From the leaves: a directory's mode may keep even its maker out.
    for path, entry in sorted(entries.items(), reverse=True):
        place = copy / path if path else copy
        os.chown(place, entry.uid, entry.gid)
        place.chmod(entry.mode)


@contextmanager
def _opened(directory: int | None, path: bytes, resolve: int) -> Iterator[int]:
    """openat2(2). A FIFO or a device that somebody put there is opened without waiting for it."""
    how = struct.pack("=QQQ", os.O_RDONLY | os.O_NONBLOCK | os.O_CLOEXEC | os.O_NOCTTY, 0, resolve)
    at = -100 if directory is None else directory  # AT_FDCWD
    file = _LIBC.syscall(_SYS_OPENAT2, at, path, how, len(how))
    if file < 0:
        number = ctypes.get_errno()
        raise OSError(number, os.strerror(number), os.fsdecode(path))
    try:
        yield file
    finally:
        os.close(file)


def _whole(file: int, size: int) -> bytes:
    """`size` bytes; what has grown since is cut, what has shrunk is short: either has the digest of what is taken."""
    parts = []
    while size > 0 and (part := os.read(file, size)):
        parts.append(part)
        size -= len(part)
    return b"".join(parts)


def _refused(where: str, expected: str, got: str) -> Permanent:
    return Permanent(
        Code.CONFIG_HOST_DATA,
        f"the host's data for {where} cannot be admitted",
        expected=expected,
        got=got,
        advice="what is large or written to is a volume: name it in the launch policy's rule, or change the pod",
    )
