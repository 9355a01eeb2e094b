"""The snapshotter's memory: one SQLite file that a kill at any instruction leaves whole.

- One writer: every transaction holds one lock and one connection (`BEGIN IMMEDIATE`).
- `synchronous=FULL`: containerd's own database is synced at each commit; a snapshot that it knows and we have
  forgotten after a power loss could never be removed.
- The parent is a foreign key with RESTRICT: a snapshot that others stand on cannot be removed, whoever asks.
- AUTOINCREMENT: a number, and so a directory, is never given to a second snapshot.
"""

from __future__ import annotations

import json
import sqlite3
import threading
import time
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from pathlib import Path
from types import MappingProxyType
from typing import Final, TypeAlias

from workers.host.snapshotter.snapshot import AlreadyExists, Invalid, Kind, NotFound, Precondition, Snapshot, Usage

_SCHEMA: Final = """
CREATE TABLE IF NOT EXISTS snapshots (
    id INTEGER PRIMARY KEY AUTOINCREMENT,
    name TEXT NOT NULL UNIQUE,
    parent INTEGER REFERENCES snapshots (id) ON DELETE RESTRICT,
    kind INTEGER NOT NULL CHECK (kind IN (1, 2, 3)),
    remote INTEGER NOT NULL CHECK (remote IN (0, 1)),
    labels TEXT NOT NULL,
    created_ns INTEGER NOT NULL,
    updated_ns INTEGER NOT NULL,
    size INTEGER NOT NULL DEFAULT 0,
    inodes INTEGER NOT NULL DEFAULT 0
) STRICT;
CREATE INDEX IF NOT EXISTS children ON snapshots (parent);
PRAGMA user_version = 1;
"""
_SELECT: Final = """
SELECT s.id, s.name, p.name, s.kind, s.remote, s.labels, s.created_ns, s.updated_ns, s.size, s.inodes
FROM snapshots s LEFT JOIN snapshots p ON p.id = s.parent
"""
_Row: TypeAlias = tuple[int, str, str | None, int, int, str, int, int, int, int]


class Store:
    """Snapshots by name. Every method but `transaction` must be called inside `transaction()`."""

    def __init__(self, path: Path) -> None:
        """Opens or creates the database at `path`."""
        self._lock = threading.RLock()
        self._db = sqlite3.connect(path, isolation_level=None, check_same_thread=False)
        self._db.execute("PRAGMA journal_mode=WAL")
        self._db.execute("PRAGMA synchronous=FULL")
        self._db.execute("PRAGMA foreign_keys=ON")
        self._db.executescript(_SCHEMA)

    def close(self) -> None:
        """Wait for the running transaction, then close."""
        with self._lock:
            self._db.close()

    @contextmanager
    def transaction(self) -> Iterator[Store]:
        """All of it or nothing: leaving by an exception rolls back."""
        with self._lock:
            self._db.execute("BEGIN IMMEDIATE")
            try:
                yield self
            except BaseException:
                self._db.execute("ROLLBACK")
                raise
            self._db.execute("COMMIT")

    def get(self, name: str) -> Snapshot:
        """The snapshot of that name. Raises NotFound."""
        row = self._db.execute(f"{_SELECT} WHERE s.name = ?", (name,)).fetchone()
        if row is None:
            raise NotFound(name)
        return _snapshot(row)

    def ancestors(self, name: str) -> tuple[Snapshot, ...]:
        """The snapshot of that name and all below it, topmost first; none for the empty name. Raises NotFound."""
        found = []
        while name:
            found.append(self.get(name))
            name = found[-1].parent
        return tuple(found)

    def all(self) -> tuple[Snapshot, ...]:
        """Every snapshot, parents before children."""
        return tuple(_snapshot(row) for row in self._db.execute(f"{_SELECT} ORDER BY s.id"))

    def ids(self) -> frozenset[int]:
        """The numbers in use."""
        return frozenset(row[0] for row in self._db.execute("SELECT id FROM snapshots"))

    def find_remote(self, reference: str, reference_label: str, parent: str) -> Snapshot | None:
        """The remote snapshot whose label is `reference`, on that parent; None where there is none."""
        rows = self._db.execute(
            f"{_SELECT} WHERE s.remote = 1 AND p.name IS ? AND json_extract(s.labels, ?) = ?",
            (parent or None, f'$."{reference_label}"', reference),
        )
        return next((_snapshot(row) for row in rows), None)

    def create(
        self, name: str, parent: str, kind: Kind, labels: Mapping[str, str], *, remote: bool = False
    ) -> Snapshot:
        """Add a row. Raises AlreadyExists, NotFound (no such parent), Invalid (the parent is not committed)."""
        below = self.get(parent) if parent else None
        if below is not None and below.kind is not Kind.COMMITTED:
            raise Invalid(f"snapshot {parent} cannot be a parent", expected="a committed snapshot", got=below.kind.name)
        now = time.time_ns()
        try:
            self._db.execute(
                "INSERT INTO snapshots (name, parent, kind, remote, labels, created_ns, updated_ns)"
                " VALUES (?, ?, ?, ?, ?, ?, ?)",
                (name, below.id if below else None, kind, int(remote), json.dumps(dict(labels)), now, now),
            )
        except sqlite3.IntegrityError as error:
            raise AlreadyExists(name) from error
        return self.get(name)

    def commit(self, key: str, name: str, labels: Mapping[str, str], usage: Usage) -> None:
        """Turn the active snapshot `key` into the committed `name`. Raises NotFound, AlreadyExists, Precondition."""
        active = self.get(key)
        if active.kind is not Kind.ACTIVE:
            raise Precondition(f"snapshot {key} is not active")
        try:
            self._db.execute(
                "UPDATE snapshots SET name = ?, kind = ?, labels = ?, updated_ns = ?, size = ?, inodes = ?"
                " WHERE id = ?",
                (name, Kind.COMMITTED, json.dumps(dict(labels)), time.time_ns(), usage.size, usage.inodes, active.id),
            )
        except sqlite3.IntegrityError as error:
            raise AlreadyExists(name) from error

    def label(self, name: str, labels: Mapping[str, str]) -> Snapshot:
        """Replace all labels. Raises NotFound."""
        row = self.get(name)
        self._db.execute(
            "UPDATE snapshots SET labels = ?, updated_ns = ? WHERE id = ?",
            (json.dumps(dict(labels)), time.time_ns(), row.id),
        )
        return self.get(name)

    def remove(self, name: str) -> Snapshot:
        """Forget a snapshot and return what it was. Raises NotFound, Precondition (others stand on it)."""
        row = self.get(name)
        try:
            self._db.execute("DELETE FROM snapshots WHERE id = ?", (row.id,))
        except sqlite3.IntegrityError as error:
            raise Precondition(f"snapshot {name} has children") from error
        return row


def _snapshot(row: _Row) -> Snapshot:
    id_, name, parent, kind, remote, labels, created, updated, size, inodes = row
    kept = MappingProxyType(json.loads(labels))
    return Snapshot(id_, name, parent or "", Kind(kind), bool(remote), kept, created, updated, Usage(size, inodes))
