"""A task's standard input, kept open: its process sees an end when containerd says so, not when containerd restarts.

Zone: host. May import: the standard library. Peer: containerd runtime/v2/runc, whose shim keeps a writing end of the
FIFO until CloseIO.
"""

from __future__ import annotations

import os
from contextlib import suppress


class KeptInput:
    """A writing end of containerd's FIFO, until `close`."""

    def __init__(self, path: str) -> None:
        """`path` is empty where there is no input; what cannot be opened here, the process cannot either, and tells."""
        self._descriptor = -1
        if path:
            with suppress(OSError, ValueError):  # a path with a NUL is a ValueError
                # Read-write: nobody need be reading yet.
                self._descriptor = os.open(path, os.O_RDWR | os.O_NONBLOCK | os.O_CLOEXEC)

    def close(self) -> None:
        """The input ends here, unless containerd still has it open. May be called again."""
        if self._descriptor >= 0:
            os.close(self._descriptor)
        self._descriptor = -1
