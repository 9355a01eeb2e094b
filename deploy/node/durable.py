"""Files and links that are there whole or not at all, also after a power cut.

Zone: host. May import: the standard library.

What is unfinished has a fixed name, so that the next run writes over what a killed one left, and `leftover` finds it.
"""

from __future__ import annotations

import os
import shutil
from pathlib import Path
from typing import Final

_UNFINISHED: Final = ".enclave-cc-unfinished"


def write(path: Path, content: bytes, mode: int = 0o644) -> None:
    """Replace `path`, with the mode and owner of a file that is there: written beside it, synced, renamed, synced."""
    unfinished = leftover(path)
    unfinished.unlink(missing_ok=True)
    descriptor = os.open(unfinished, os.O_WRONLY | os.O_CREAT | os.O_EXCL | os.O_NOFOLLOW | os.O_CLOEXEC, 0o600)
    with os.fdopen(descriptor, "wb") as file:
        file.write(content)
        if path.exists():
            now = path.stat()
            os.fchown(descriptor, now.st_uid, now.st_gid)
            mode = now.st_mode & 0o7777
        os.fchmod(descriptor, mode)
        file.flush()
        os.fsync(descriptor)
    unfinished.rename(path)
    sync_directory(path.parent)


def link(path: Path, target: str) -> None:
    """Let the symbolic link `path` lead to `target`, at once."""
    unfinished = leftover(path)
    unfinished.unlink(missing_ok=True)
    unfinished.symlink_to(target)
    unfinished.rename(path)
    sync_directory(path.parent)


def remove(path: Path) -> None:
    """Remove a file or link for good; fine when there is none."""
    leftover(path).unlink(missing_ok=True)
    path.unlink(missing_ok=True)
    if path.parent.is_dir():
        sync_directory(path.parent)


def remove_tree(path: Path) -> None:
    """Remove a folder and all below it; fine when there is none. It is out of the way before the first file goes."""
    going = leftover(path)
    if path.exists() and not going.exists():
        path.rename(going)
        sync_directory(path.parent)
    shutil.rmtree(going, ignore_errors=True)
    if path.exists():
        shutil.rmtree(path)


def leftover(path: Path) -> Path:
    """What a run that was killed may have left beside `path`."""
    return path.with_name(f".{path.name}{_UNFINISHED}")


def sync_directory(path: Path) -> None:
    """Make what was renamed or removed in `path` survive a power cut."""
    descriptor = os.open(path, os.O_RDONLY | os.O_DIRECTORY | os.O_CLOEXEC)
    try:
        os.fsync(descriptor)
    finally:
        os.close(descriptor)
