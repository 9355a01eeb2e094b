"""Unix sockets that this node's programs listen on.

Zone: host. May import: the standard library.
"""

from __future__ import annotations

import os
import socket
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Final

ROOTS_ALONE: Final = 0o600


@contextmanager
def place_for(path: Path, mode: int = ROOTS_ALONE) -> Iterator[None]:
    """What binds a socket to `path` within it finds the place free, and makes it with `mode`, never with another.

    What a dead process left there is removed. The mask is the whole process's, so no other thread may make files
    meanwhile.
    """
    path.parent.mkdir(mode=0o711, parents=True, exist_ok=True)
    path.unlink(missing_ok=True)
    mask = os.umask(0o777 & ~mode)
    try:
        yield
    finally:
        os.umask(mask)


def listening(path: Path, *, backlog: int, mode: int = ROOTS_ALONE) -> socket.socket:
    """A stream socket at `path` with so many connections waiting at most."""
    listener = socket.socket(socket.AF_UNIX)
    with place_for(path, mode):
        listener.bind(str(path))
    listener.listen(backlog)
    return listener
