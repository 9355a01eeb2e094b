"""Whether somebody serves at a Unix socket: the file alone may be left from a process that died.

Zone: host. May import: the standard library.
"""

from __future__ import annotations

import contextlib
import socket
from collections.abc import Callable
from pathlib import Path


def serving(path: Path) -> Callable[[], bool]:
    """Ready when the socket takes connections; asks once, quickly, without raising."""

    def ready() -> bool:
        with contextlib.suppress(OSError), socket.socket(socket.AF_UNIX) as client:
            client.settimeout(1)
            client.connect(str(path))
            return True
        return False

    return ready
