"""Where a log's files lie: a folder, or anything that keeps named bytes.

Zone: host; readers anywhere. May import: the standard library.

What a store must promise, and tests/unit/orchestrator/audit/store_promises.py checks of any: a name holds its bytes
whole or does not exist; what was written before `flush` returned survives a power cut; `replace` is at once durable.
"""

from __future__ import annotations

import os
import shutil
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from typing import Final, Protocol

_SYNCING: Final = 8
"""Files synced side by side: a disk takes several in the time of one."""


class Store(Protocol):
    """Named bytes. Names are relative, with `/`; they come from this package's own formats, never from outside."""

    def read(self, name: str) -> bytes | None:
        """The bytes, or None when there is no such name."""

    def write(self, name: str, data: bytes) -> None:
        """Keep `data`; durable when `flush` has returned."""

    def flush(self) -> None:
        """Make everything written so far durable."""

    def replace(self, name: str, data: bytes) -> None:
        """Keep `data` in the place of what was there, durably. A reader sees the old bytes or the new."""

    def remove(self, folder: str) -> None:
        """Forget every name below `folder`; fine when there is none."""


class Folder:
    """A store in a directory. Files are readable by all who may enter it: a log is no secret to its own node."""

    def __init__(self, root: Path) -> None:
        self._root = root
        self._unsynced: list[Path] = []

    def read(self, name: str) -> bytes | None:
        """See Store."""
        try:
            return (self._root / name).read_bytes()
        except (FileNotFoundError, NotADirectoryError):
            return None

    def write(self, name: str, data: bytes) -> None:
        """See Store. Until the rename nobody sees the file; a file of the same name is replaced."""
        path = self._root / name
        unfinished = path.with_name(f".{path.name}.unfinished")
        try:
            unfinished.write_bytes(data)
        except FileNotFoundError:
            self._make(path.parent)
            unfinished.write_bytes(data)
        unfinished.rename(path)
        self._unsynced.append(path)

    def flush(self) -> None:
        """See Store."""
        written, self._unsynced = self._unsynced, []
        paths = [path for path in dict.fromkeys(written) if path.exists()]
        folders = dict.fromkeys(path.parent for path in paths)
        with ThreadPoolExecutor(_SYNCING) as threads:
            list(threads.map(_sync, paths))
            list(threads.map(_sync, folders))

    def replace(self, name: str, data: bytes) -> None:
        """See Store."""
        path = self._root / name
        self._make(path.parent)
        unfinished = path.with_name(f".{path.name}.unfinished")
        with unfinished.open("wb") as file:
            file.write(data)
            file.flush()
            os.fsync(file.fileno())
        unfinished.rename(path)
        _sync(path.parent)

    def remove(self, folder: str) -> None:
        """See Store."""
        shutil.rmtree(self._root / folder, ignore_errors=True)

    def _make(self, folder: Path) -> None:
        """Make a directory and what leads to it, each entry durable."""
        if folder.is_dir():
            return
        self._make(folder.parent)
        folder.mkdir(exist_ok=True)
        _sync(folder.parent)

    def names(self, folder: str) -> Iterator[str]:
        """Every name below `folder`, in no order; for whoever looks for what should not be there."""
        for path in (self._root / folder).rglob("*"):
            if path.is_file():
                yield str(path.relative_to(self._root))


def _sync(path: Path) -> None:
    try:
        descriptor = os.open(path, os.O_RDONLY | os.O_CLOEXEC)
    except FileNotFoundError:  # a partial tile that a full one has made superfluous
        return
    try:
        os.fsync(descriptor)
    finally:
        os.close(descriptor)
