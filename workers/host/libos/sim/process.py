"""What the kernel says of a process: the only witness the simulated CPU has.

A process is held by a pidfd and looked at by its number in /proc. Numbers are reused, so every look is followed by
`Process.alive`: while the pidfd says that the process lives, the number was its own all along.
"""

from __future__ import annotations

import contextlib
import errno
import os
import select
import socket
import struct
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Final, TypeAlias

from schemas.simulated_cpu import Refusal, Refused

if TYPE_CHECKING:
    from collections.abc import Iterator

# Linux 6.5, include/uapi/asm-generic/socket.h; Python 3.11 has no name for it.
_SO_PEERPIDFD: Final = 77
_MAX_ENVIRONMENT_BYTES: Final = 1 << 20

FileId: TypeAlias = tuple[int, int]
"""Device and inode: what a file is, whatever it is called, for as long as someone holds it."""

NamespaceId: TypeAlias = FileId
"""Those of a namespace's file."""


@dataclass(frozen=True, slots=True)
class Mount:
    """One line of mountinfo: where, on which device ("major:minor"), and from which directory of that file system."""

    point: str
    device: str
    root: str


class Process:
    """A living process. `close` it."""

    __slots__ = ("pid", "pidfd")

    def __init__(self, pid: int, pidfd: int) -> None:
        self.pid = pid
        self.pidfd = pidfd

    @classmethod
    def open(cls, pid: int) -> Process:
        """By its number in this daemon's pid namespace; `ProcessLookupError` when there is none."""
        return cls(pid, os.pidfd_open(pid))

    @classmethod
    def of_peer(cls, connection: socket.socket) -> Process:
        """The process that connected a Unix socket; `Refused` when it is already gone.

        The kernel hands out a pidfd taken at connect time since Linux 6.5; before, see `of_credentials`.
        """
        try:
            pidfd = connection.getsockopt(socket.SOL_SOCKET, _SO_PEERPIDFD)
        except OSError as error:
            if error.errno != errno.ENOPROTOOPT:
                raise Refused(Refusal.NOT_AN_ENCLAVE, "the caller is gone") from error
            return cls.of_credentials(connection)
        process = cls(_pid_of(pidfd), pidfd)
        if process.pid <= 0:
            process.close()
            raise Refused(Refusal.NOT_AN_ENCLAVE, "the caller is gone, or in a namespace that is not below this one")
        return process

    @classmethod
    def of_credentials(cls, connection: socket.socket) -> Process:
        """As `of_peer`, by the number that the kernel noted at connect time.

        Weaker: another process may have the number by now. To profit from it, it would have to be the first process
        of an enclave itself, and would get what that enclave may have anyway.
        """
        credentials = connection.getsockopt(socket.SOL_SOCKET, socket.SO_PEERCRED, struct.calcsize("3i"))
        with _gone_is_refused():
            return cls.open(struct.unpack("3i", credentials)[0])

    def alive(self) -> bool:
        """False from the moment the process is a zombie."""
        poll = select.poll()
        poll.register(self.pidfd, select.POLLIN)
        return not poll.poll(0)

    def close(self) -> None:
        """Let go of the pidfd."""
        os.close(self.pidfd)

    def open_pid_namespace(self) -> int:
        """A file descriptor that keeps the process's pid namespace, and with it its inode number, from being reused."""
        with _gone_is_refused():
            return os.open(f"/proc/{self.pid}/ns/pid", os.O_RDONLY | os.O_CLOEXEC)

    def pid_namespace(self) -> NamespaceId:
        """The pid namespace that the process is in."""
        with _gone_is_refused():
            return identity(Path(f"/proc/{self.pid}/ns/pid").stat())

    def number_in_its_namespace(self) -> int:
        """Its pid as it sees it itself."""
        with _gone_is_refused():
            status = Path(f"/proc/{self.pid}/status").read_text("utf-8", "replace")
        for line in status.splitlines():
            if line.startswith("NSpid:"):
                return int(line.split()[-1])
        raise Refused(Refusal.NOT_AN_ENCLAVE, "the kernel tells no NSpid")

    def root(self) -> os.stat_result:
        """Its root directory."""
        with _gone_is_refused():
            return Path(f"/proc/{self.pid}/root").stat()

    def program(self) -> os.stat_result:
        """The file it executes."""
        with _gone_is_refused():
            return Path(f"/proc/{self.pid}/exe").stat()

    def cmdline(self) -> bytes:
        """Its arguments, each with its NUL."""
        return self._read("cmdline")

    def environ(self) -> tuple[bytes, ...]:
        """The environment that it was started with, sorted; a name that appears twice stays twice."""
        raw = self._read("environ")
        return tuple(sorted(raw.removesuffix(b"\0").split(b"\0"))) if raw else ()

    def mounts(self) -> list[Mount]:
        """What it sees mounted, by paths below its own root."""
        with _gone_is_refused():
            text = Path(f"/proc/{self.pid}/mountinfo").read_text("utf-8", "surrogateescape")
        fields = [line.split(" ") for line in text.splitlines()]
        return [Mount(point=field[4], device=field[2], root=field[3]) for field in fields]

    def _read(self, name: str) -> bytes:
        with _gone_is_refused(), Path(f"/proc/{self.pid}/{name}").open("rb") as file:
            raw = file.read(_MAX_ENVIRONMENT_BYTES + 1)
        if len(raw) > _MAX_ENVIRONMENT_BYTES:
            raise Refused(Refusal.NOT_AS_MEASURED, f"its {name} is too long to be measured")
        return raw


def identity(status: os.stat_result) -> FileId:
    """Device and inode."""
    return status.st_dev, status.st_ino


def _pid_of(pidfd: int) -> int:
    """The number behind a pidfd; -1 when the process is gone, 0 when this /proc does not show it."""
    for line in Path(f"/proc/self/fdinfo/{pidfd}").read_text("ascii").splitlines():
        if line.startswith("Pid:"):
            return int(line.split()[1])
    return -1


@contextlib.contextmanager
def _gone_is_refused() -> Iterator[None]:
    try:
        yield
    except (FileNotFoundError, ProcessLookupError) as error:
        raise Refused(Refusal.NOT_AN_ENCLAVE, "the process is gone") from error
