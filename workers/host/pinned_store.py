"""The sealed store that an agent named, and nothing else that it puts in that place.

Zone: host. May import: `orchestrator.{events,faults}`, `schemas`, the standard library.

The name is the agent's, and the directory is one that it writes: a link there must not make the host mount a file of
the host's, nor a link that takes the store's place after we looked. So the file is opened first, and what runc mounted
is compared with it before the container's first instruction.
"""

from __future__ import annotations

import os
import stat
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path

from orchestrator.events import FsSealed
from orchestrator.faults import Code, Permanent
from schemas.places import STORE


@dataclass(frozen=True, slots=True)
class PinnedStore:
    """A store that is held open; `path` is where it was found."""

    path: Path
    descriptor: int

    def check_mounted(self, pid: int) -> None:
        """Raise Permanent(RUNTIME) unless it is what the created container of that process has for its store."""
        try:
            mounted = Path(f"/proc/{pid}/root{STORE}").lstat()
        except OSError as error:
            raise _unusable(self.path, str(error)) from error
        if not os.path.samestat(mounted, os.fstat(self.descriptor)):
            raise _unusable(self.path, "another file was mounted: it was replaced meanwhile")


@contextmanager
def pinned(directory: Path, sealed: FsSealed | None) -> Iterator[PinnedStore]:
    """The store that `sealed` names in the pod's `directory`. Raises Permanent(RUNTIME) for what is no file there."""
    path = directory / (sealed.store if sealed else "")
    descriptor = _open(directory, path)
    try:
        yield PinnedStore(path, descriptor)
    finally:
        os.close(descriptor)


def _open(directory: Path, path: Path) -> int:
    if path.parent != directory or path.name in ("", ".."):
        raise _unusable(path, "not directly in the pod's directory of stores")
    try:
        descriptor = os.open(path, os.O_PATH | os.O_NOFOLLOW | os.O_CLOEXEC)
    except (OSError, ValueError) as error:
        raise _unusable(path, str(error)) from error
    if not stat.S_ISREG(os.fstat(descriptor).st_mode):
        os.close(descriptor)
        raise _unusable(path, "no regular file")
    return descriptor


def _unusable(path: Path, got: str) -> Permanent:
    return Permanent(
        Code.RUNTIME,
        "the container's sealed store cannot be mounted",
        expected="the regular file that its agent sealed",
        got=f"{str(path)[:300]!r}: {got}",
        advice="see the agent's log, and whether the pod was removed meanwhile",
    )
