"""The files of snapshots, `ROOT/snapshots/<id>/{fs,work}`, and the mounts that show them.

A committed snapshot's `fs` is one overlayfs layer. The layout is that of containerd's own overlayfs snapshotter.
"""

from __future__ import annotations

import os
import shutil
from collections.abc import Iterable, Sequence
from pathlib import Path

from workers.host.snapshotter.snapshot import Kind, Mount, Snapshot, Usage


class Directories:
    """The directories under one root. Not locked: the caller's transaction is the lock."""

    def __init__(self, root: Path) -> None:
        """Creates the root, readable by root only: layers may hold other people's setuid programs."""
        self._snapshots = root / "snapshots"
        self._snapshots.mkdir(mode=0o700, parents=True, exist_ok=True)

    def fs(self, snapshot: Snapshot) -> Path:
        """The snapshot's own files."""
        return self._snapshots / str(snapshot.id) / "fs"

    def create(self, snapshot: Snapshot, below: Snapshot | None) -> None:
        """Make the empty directories of a new snapshot; the layer's root inherits the owner of the one below.

        Whatever already stands there belongs to a transaction that a crash has undone.
        """
        home = self._snapshots / str(snapshot.id)
        shutil.rmtree(home, ignore_errors=True)
        home.mkdir(mode=0o700)
        top = home / "fs"
        top.mkdir()
        top.chmod(0o755)
        if snapshot.kind is Kind.ACTIVE:
            (home / "work").mkdir(mode=0o711)
        if below is not None and not below.remote:
            owner = self.fs(below).stat()
            os.chown(top, owner.st_uid, owner.st_gid)

    def remove(self, snapshot_id: int) -> None:
        """Delete what a snapshot left; nothing where there is nothing. What resists is left to the next sweep."""
        shutil.rmtree(self._snapshots / str(snapshot_id), ignore_errors=True)

    def orphans(self, live: Iterable[int]) -> tuple[int, ...]:
        """Directories of no live snapshot: removed ones, and those of a transaction that a crash has undone."""
        kept = {str(number) for number in live}
        names = (entry.name for entry in os.scandir(self._snapshots))
        return tuple(int(name) for name in names if name not in kept and name.isdecimal())

    def mounts(self, snapshot: Snapshot, chain: Sequence[Snapshot]) -> tuple[Mount, ...]:
        """How to mount a view or an active snapshot on `chain`, its ancestors from the topmost down.

        On a remote ancestor only the snapshot's own directory is shown: what lies below is not on this host, and a
        root file system with layers missing must never look like a whole one.
        """
        active = snapshot.kind is Kind.ACTIVE
        if not chain or any(layer.remote for layer in chain):
            return (_bind(self.fs(snapshot), writable=active),)
        lower = ":".join(str(self.fs(layer)) for layer in chain)
        if active:
            work = self._snapshots / str(snapshot.id) / "work"
            options = ("index=off", f"workdir={work}", f"upperdir={self.fs(snapshot)}", f"lowerdir={lower}")
            return (Mount("overlay", "overlay", options),)
        if len(chain) == 1:
            return (_bind(self.fs(chain[0]), writable=False),)
        return (Mount("overlay", "overlay", ("index=off", f"lowerdir={lower}")),)

    def usage(self, snapshot: Snapshot) -> Usage:
        """What the snapshot's own files take. A file with several names counts once; one that goes meanwhile, not."""
        seen: set[tuple[int, int]] = set()
        size = 0
        pending = [self.fs(snapshot)]
        while pending:
            path = pending.pop()
            try:
                stat = path.lstat()
                is_directory = path.is_dir() and not path.is_symlink()
                children = list(path.iterdir()) if is_directory else []
            except FileNotFoundError:
                continue
            pending += children
            if (stat.st_dev, stat.st_ino) not in seen:
                seen.add((stat.st_dev, stat.st_ino))
                size += stat.st_blocks * 512
        return Usage(size, len(seen))


def _bind(source: Path, *, writable: bool) -> Mount:
    return Mount("bind", str(source), ("rbind", "rw" if writable else "ro"))
