"""A terminal, of the workload or of a command beside it: the enclave keeps it, and copies between it and the streams
that the host gave.

Zone: enclave. May import: the standard library. Source: pty(7); OCI runtimes hand a terminal's master over at a console
socket (opencontainers/runc, docs/terminals.md).
"""

from __future__ import annotations

import fcntl
import os
import select
import socket
import struct
import termios
import threading
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from pathlib import Path
from typing import Final

_PIECE: Final = 16 * 1024
_HANDED_OVER_SECONDS: Final = 30.0


class ConsoleSocket:
    """Where crun hands a terminal over."""

    def __init__(self, path: Path) -> None:
        """Listens at `path`, at most 107 bytes long; `close` removes it."""
        self.path = path
        self._listener = socket.socket(socket.AF_UNIX)
        self._listener.bind(str(path))
        self._listener.listen(1)

    def master(self) -> int:
        """The terminal's master, once crun has handed it over. Raises OSError when none came."""
        self._listener.settimeout(_HANDED_OVER_SECONDS)
        connection, _ = self._listener.accept()
        with connection:
            connection.settimeout(_HANDED_OVER_SECONDS)
            _, descriptors, _, _ = socket.recv_fds(connection, 4096, 1, socket.MSG_CMSG_CLOEXEC)
        if len(descriptors) != 1:
            raise OSError("crun handed over no terminal")
        return descriptors[0]

    def close(self) -> None:
        """Nobody hands over any more."""
        self._listener.close()
        self.path.unlink(missing_ok=True)


@contextmanager
def console_socket(path: Path) -> Iterator[ConsoleSocket]:
    """A console socket for one command."""
    made = ConsoleSocket(path)
    try:
        yield made
    finally:
        made.close()


class Terminal:
    """One terminal, copied to and from by a thread until the last process that has it is gone."""

    def __init__(self, master: int, source: int, target: int) -> None:
        """Owns the three descriptors: the master, the host's input, the host's output."""
        self._master = master
        self._source = source
        self._target = target
        self._open = threading.Lock()
        self._copying = threading.Thread(target=self._copy, daemon=True)
        self._copying.start()

    def resize(self, rows: int, columns: int) -> None:
        """What programs see as its size; those in it are told (SIGWINCH)."""
        with self._open, suppress(OSError):
            fcntl.ioctl(self._master, termios.TIOCSWINSZ, struct.pack("HHHH", rows, columns, 0, 0))

    def drain(self, seconds: float) -> None:
        """Wait until everything that was written to it has been copied."""
        self._copying.join(seconds)

    def _copy(self) -> None:
        watched = [self._master, self._source]
        try:
            while True:
                readable, _, _ = select.select(watched, [], [])
                if self._source in readable:
                    piece = os.read(self._source, _PIECE)
                    _write(self._master, piece)
                    if not piece:  # nobody will type any more
                        watched.remove(self._source)
                if self._master in readable:
                    _write(self._target, os.read(self._master, _PIECE))
        except OSError:
            pass  # EIO: nobody has the terminal any more
        finally:
            with self._open:
                for descriptor in (self._master, self._source, self._target):
                    os.close(descriptor)
                self._master = -1


def _write(descriptor: int, piece: bytes) -> None:
    while piece:
        piece = piece[os.write(descriptor, piece) :]
