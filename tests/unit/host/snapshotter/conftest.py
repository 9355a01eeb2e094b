from __future__ import annotations

import hashlib
import json
import tempfile
from collections.abc import Iterator
from pathlib import Path

import pytest

from orchestrator.faults import Code, Fault, Permanent
from workers.host.snapshotter.layers import LAYER_DIGEST, MANIFEST_DIGEST, SNAPSHOT_REFERENCE
from workers.host.snapshotter.snapshotter import Snapshotter

PLAIN = "application/vnd.oci.image.layer.v1.tar+gzip"
ENCRYPTED = f"{PLAIN}+encrypted"
NAMESPACE = "k8s.io"


class Blobs:
    """A content store in memory; `away` is the fault that it answers instead, while it is set."""

    def __init__(self) -> None:
        self.blobs: dict[str, bytes] = {}
        self.reads: list[tuple[str, str]] = []
        self.away: Fault | None = None

    def read(self, namespace: str, digest: str) -> bytes:
        self.reads.append((namespace, digest))
        if self.away is not None:
            raise self.away
        if digest not in self.blobs:
            raise Permanent(Code.IMAGE_NOT_FOUND, f"no blob {digest}")
        return self.blobs[digest]

    def put(self, document: object) -> str:
        raw = json.dumps(document).encode()
        digest = f"sha256:{hashlib.sha256(raw).hexdigest()}"
        self.blobs[digest] = raw
        return digest

    def image(self, *media_types: str, user: str = "") -> tuple[str, list[str]]:
        """A manifest with such layers: its digest and theirs."""
        layers = [
            f"sha256:{hashlib.sha256(f'{number} {user}'.encode()).hexdigest()}" for number in range(len(media_types))
        ]
        config = {"mediaType": "c", "digest": self.put({"config": {"User": user}}), "size": 1}
        described = [{"mediaType": m, "digest": d, "size": 1} for m, d in zip(media_types, layers, strict=True)]
        return self.put({"config": config, "layers": described}), layers


def extraction(manifest: str, layer: str, chain: str) -> dict[str, str]:
    """The labels by which a CRI pull prepares the extraction of a layer."""
    return {SNAPSHOT_REFERENCE: chain, MANIFEST_DIGEST: manifest, LAYER_DIGEST: layer}


@pytest.fixture
def content() -> Blobs:
    return Blobs()


@pytest.fixture
def root() -> Iterator[Path]:
    with tempfile.TemporaryDirectory(prefix="ecc-") as folder:
        yield Path(folder)


@pytest.fixture
def snapshotter(root: Path, content: Blobs) -> Iterator[Snapshotter]:
    made = Snapshotter(root, content)
    yield made
    made.close()
