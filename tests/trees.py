"""A folder as one digest: every path, its kind, mode and content. Two equal digests are two equal folders."""

from __future__ import annotations

import hashlib
import os
from collections.abc import Collection
from pathlib import Path


def tree(folder: Path, without: Collection[str] = ()) -> dict[str, str]:
    """What each path below `folder` is; `without` names relative paths that are left out with all below them."""
    found: dict[str, str] = {}
    for top, names, files in os.walk(folder):
        here = Path(top).relative_to(folder)
        names[:] = sorted(name for name in names if str(here / name) not in without)
        for name in sorted({*names, *files} - {n for n in files if str(here / n) in without}):
            path = Path(top) / name
            found[str(here / name)] = _described(path)
    return found


def tree_hash(folder: Path, without: Collection[str] = ()) -> str:
    """Of `tree`."""
    return hashlib.sha256(repr(sorted(tree(folder, without).items())).encode()).hexdigest()


def _described(path: Path) -> str:
    if path.is_symlink():
        return f"link {path.readlink()}"
    mode = f"{path.lstat().st_mode:o}"
    return f"{mode} {hashlib.sha256(path.read_bytes()).hexdigest()}" if path.is_file() else mode
