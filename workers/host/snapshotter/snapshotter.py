"""What containerd may ask of a snapshotter, on values; no gRPC here.

Peer: containerd, `snapshots.Snapshotter` (snapshots/snapshotter.go) and how the image unpacker uses it (unpacker.go).

Rules
- A layer is remote if its media type says encrypted, or if the snapshot it would lie on is remote.
- Preparing the extraction of a remote layer commits an empty snapshot under the request's own key, labelled with the
  chain ID that containerd waits for, and answers ALREADY_EXISTS: containerd then looks for that label (metadata
  snapshotter, createSnapshot) and fetches no blob. Asked again for the same chain ID on the same parent it finds the
  first one.
- In an image of which only the upper layers are encrypted, containerd fetches from the first layer that it must unpack
  upwards, ciphertext included, and then unpacks none of it. Wasteful, not unsafe; treating such an image's plain layers
  as remote would take them away from every other image that is built on them.
- A container of an encrypted image gets an empty root with the names of the image's user in it (`placeholders`).
- If the manifest cannot be read the answer is an error, never "pull it".
- Chain IDs are made of plaintext digests: an encrypted image and its unencrypted twin share them, and so, in one
  containerd, their snapshots. Whichever came first decides. If the encrypted one did, the twin finds remote layers:
  it gets an empty root, and runc refuses to start it; it never gets half an image. If the plain one did, the host had
  the plaintext all along, and the agent pulls and checks the encrypted image regardless. `enclave-cc publish` puts a
  layer of random bytes lowest, so its images share no chain ID with anything; those of other tools may.
"""

from __future__ import annotations

import threading
from collections import OrderedDict
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Final

import structlog

from workers.host.snapshotter.content import Content
from workers.host.snapshotter.directories import Directories
from workers.host.snapshotter.layers import (
    LAYER_DIGEST,
    MANIFEST_DIGEST,
    SNAPSHOT_REFERENCE,
    Layers,
    is_digest,
    parse_manifest,
    parse_user,
)
from workers.host.snapshotter.placeholders import write_accounts
from workers.host.snapshotter.snapshot import AlreadyExists, Invalid, Kind, Mount, Snapshot, Usage
from workers.host.snapshotter.store import Store

_LABELS: Final = "labels"
_REMEMBERED_MANIFESTS: Final = 256
_log = structlog.get_logger()


class Snapshotter:
    """Every method may be called from any thread. `root` holds everything that must survive."""

    def __init__(self, root: Path, content: Content) -> None:
        """Opens what an earlier process left at `root`, and sweeps what a crash left half done."""
        self._directories = Directories(root)
        self._store = Store(root / "snapshots.sqlite3")
        self._content = content
        self._manifests: OrderedDict[str, Layers] = OrderedDict()
        self._manifests_lock = threading.Lock()
        self.cleanup()

    def close(self) -> None:
        """Finish the running transaction."""
        self._store.close()

    def prepare(self, namespace: str, key: str, parent: str, labels: Mapping[str, str]) -> tuple[Mount, ...]:
        """A writable snapshot on `parent`. Raises a Refusal; AlreadyExists also for a layer that stays remote."""
        reference = labels.get(SNAPSHOT_REFERENCE, "")
        if reference and self._stays_remote(namespace, parent, labels):
            self._add_remote(key, parent, labels, reference)
            raise AlreadyExists(reference)
        below = self.stat(parent) if parent else None
        user = self._user(namespace, below) if below is not None and below.remote else None
        return self._create(key, parent, Kind.ACTIVE, labels, user)

    def view(self, key: str, parent: str, labels: Mapping[str, str]) -> tuple[Mount, ...]:
        """A read-only snapshot on `parent`. Raises a Refusal."""
        return self._create(key, parent, Kind.VIEW, labels)

    def mounts(self, key: str) -> tuple[Mount, ...]:
        """The mounts of a view or an active snapshot. Raises NotFound, Invalid (it is committed)."""
        with self._store.transaction() as store:
            snapshot = store.get(key)
            if snapshot.kind is Kind.COMMITTED:
                raise Invalid(f"snapshot {key} has no mounts", expected="a view or an active snapshot", got="committed")
            return self._directories.mounts(snapshot, store.ancestors(snapshot.parent))

    def commit(self, key: str, name: str, parent: str, labels: Mapping[str, str]) -> None:
        """Freeze an active snapshot under a new name. `parent`, if given, must be the one it has: we do not rebase."""
        with self._store.transaction() as store:
            active = store.get(key)
        usage = self._directories.usage(active) if active.kind is Kind.ACTIVE else Usage(0, 0)
        with self._store.transaction() as store:
            if parent and parent != active.parent:
                raise Invalid("a snapshot is not moved to another parent", expected=active.parent, got=parent)
            store.commit(key, name, labels, usage)

    def remove(self, key: str) -> None:
        """Forget a snapshot, then delete its files. Raises NotFound, Precondition (others stand on it)."""
        with self._store.transaction() as store:
            removed = store.remove(key)
        self._directories.remove(removed.id)

    def stat(self, key: str) -> Snapshot:
        """Raises NotFound."""
        with self._store.transaction() as store:
            return store.get(key)

    def update(self, name: str, labels: Mapping[str, str], paths: Sequence[str]) -> Snapshot:
        """Set labels: all of them, or with paths like `labels.KEY` those; an empty value removes one."""
        with self._store.transaction() as store:
            kept = dict(store.get(name).labels)
            for path in paths or (_LABELS,):
                if path == _LABELS:
                    kept = dict(labels)
                elif path.startswith(f"{_LABELS}."):
                    one = path.removeprefix(f"{_LABELS}.")
                    kept[one] = labels.get(one, "")
                else:
                    raise Invalid("only labels can be updated", expected="labels, labels.KEY", got=path)
            return store.label(name, {key: value for key, value in kept.items() if value})

    def list(self) -> tuple[Snapshot, ...]:
        """Every snapshot, parents first. containerd applies its filters to what it gets (metadata, Walk)."""
        with self._store.transaction() as store:
            return store.all()

    def usage(self, key: str) -> Usage:
        """What a snapshot's own files take; an active one is counted now. Raises NotFound."""
        snapshot = self.stat(key)
        return self._directories.usage(snapshot) if snapshot.kind is Kind.ACTIVE else snapshot.usage

    def cleanup(self) -> None:
        """Delete the files of no snapshot. The listing is taken while nobody can be between row and directory."""
        with self._store.transaction() as store:
            orphans = self._directories.orphans(store.ids())
        for number in orphans:
            self._directories.remove(number)

    def _create(
        self, key: str, parent: str, kind: Kind, labels: Mapping[str, str], user: str | None = None
    ) -> tuple[Mount, ...]:
        with self._store.transaction() as store:
            snapshot = store.create(key, parent, kind, labels)
            chain = store.ancestors(parent)
            self._directories.create(snapshot, chain[0] if chain else None)
            if user is not None:
                write_accounts(self._directories.fs(snapshot), user)
            return self._directories.mounts(snapshot, chain)

    def _add_remote(self, key: str, parent: str, labels: Mapping[str, str], reference: str) -> None:
        with self._store.transaction() as store:
            if store.find_remote(reference, SNAPSHOT_REFERENCE, parent) is None:
                store.create(key, parent, Kind.COMMITTED, labels, remote=True)
                _log.info("layer stays remote", layer=labels.get(LAYER_DIGEST, ""), chain=reference)

    def _stays_remote(self, namespace: str, parent: str, labels: Mapping[str, str]) -> bool:
        if parent and self.stat(parent).remote:
            return True
        manifest, layer = labels.get(MANIFEST_DIGEST, ""), labels.get(LAYER_DIGEST, "")
        if not manifest or not layer:
            # Not from a CRI pull: such a client unpacks what it has fetched itself, and cannot decrypt either.
            return False
        return self._layers(namespace, manifest).must_stay_remote(layer)

    def _user(self, namespace: str, layer: Snapshot) -> str:
        """The user that a remote layer's image names; empty where the layer names no image. Raises Fault."""
        manifest = layer.labels.get(MANIFEST_DIGEST)
        if manifest is None:
            return ""
        return parse_user(self._content.read(namespace, self._layers(namespace, manifest).config))

    def _layers(self, namespace: str, manifest: str) -> Layers:
        if not is_digest(manifest):
            raise Invalid("the manifest label is no digest", expected="sha256:<64 hex>", got=manifest[:80])
        with self._manifests_lock:
            if known := self._manifests.get(manifest):
                return known
        read = parse_manifest(self._content.read(namespace, manifest))
        with self._manifests_lock:
            self._manifests[manifest] = read
            while len(self._manifests) > _REMEMBERED_MANIFESTS:
                self._manifests.popitem(last=False)
        return read
