"""Altering an image where an attacker could: in the registry's own files.

Zone: host, as an attacker. May import: `deploy.local.layout`, the standard library.
"""

from __future__ import annotations

import json
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

from deploy.local.layout import Layout


def blob_path(layout: Layout, digest: str) -> Path:
    """Where docker-registry keeps a blob (storage/filesystem)."""
    algorithm, _, hexadecimal = digest.partition(":")
    blobs = layout.root / "registry/docker/registry/v2/blobs"
    return blobs / algorithm / hexadecimal[:2] / hexadecimal / "data"


def top_layer(layout: Layout, manifest_digest: str) -> str:
    """The digest of the image's highest layer: of files, as the lowest is not."""
    manifest = json.loads(blob_path(layout, manifest_digest).read_bytes())
    return str(manifest["layers"][-1]["digest"])


@contextmanager
def flipped_byte(path: Path) -> Iterator[int]:
    """One bit of the byte in the middle of a file is other than it was; put back at the end. Yields the offset."""
    offset = path.stat().st_size // 2
    _flip(path, offset)
    try:
        yield offset
    finally:
        _flip(path, offset)


def _flip(path: Path, offset: int) -> None:
    with path.open("r+b") as file:
        file.seek(offset)
        byte = file.read(1)[0]
        file.seek(offset)
        file.write(bytes([byte ^ 1]))
