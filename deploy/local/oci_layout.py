"""An OCI image layout (image-spec v1.1) from one tar: the same bytes each time.

Zone: owner. May import: the standard library.
"""

from __future__ import annotations

import gzip
import hashlib
import json
import platform
import shutil
import time
from collections.abc import Mapping
from pathlib import Path
from typing import Final

SOURCE_DATE_EPOCH: Final = 1_750_000_000
"""The time that every file and image of ours claims to be from."""

_MEDIA: Final = "application/vnd.oci.image"
_MACHINES: Final = {"x86_64": "amd64", "aarch64": "arm64"}


def write(folder: Path, layer: Path, config: Mapping[str, object]) -> str:
    """Make `folder` the layout of an image with `layer` (a tar file) and `config` (`Entrypoint`, `Env`, ...).

    Returns the manifest's digest, `sha256:...`. The folder appears whole or not at all.
    """
    partial = folder.with_name(f"{folder.name}.partial")
    shutil.rmtree(partial, ignore_errors=True)
    blobs = partial / "blobs/sha256"
    blobs.mkdir(parents=True)
    diff_id, layer_blob = _compress(layer, blobs)
    created = time.strftime("%Y-%m-%dT%H:%M:%SZ", time.gmtime(SOURCE_DATE_EPOCH))
    image = {
        "created": created,
        "architecture": _MACHINES.get(platform.machine(), platform.machine()),
        "os": "linux",
        "config": dict(config),
        "rootfs": {"type": "layers", "diff_ids": [diff_id]},
        "history": [{"created": created, "created_by": "enclave-cc"}],
    }
    manifest = {
        "schemaVersion": 2,
        "mediaType": f"{_MEDIA}.manifest.v1+json",
        "config": {"mediaType": f"{_MEDIA}.config.v1+json", **_blob(blobs, _json(image))},
        "layers": [{"mediaType": f"{_MEDIA}.layer.v1.tar+gzip", **layer_blob}],
    }
    described = {"mediaType": manifest["mediaType"], **_blob(blobs, _json(manifest))}
    (partial / "index.json").write_bytes(_json({"schemaVersion": 2, "manifests": [described]}))
    (partial / "oci-layout").write_bytes(_json({"imageLayoutVersion": "1.0.0"}))
    shutil.rmtree(folder, ignore_errors=True)
    partial.rename(folder)
    return str(described["digest"])


def _compress(layer: Path, blobs: Path) -> tuple[str, dict[str, object]]:
    """Write the layer's blob; `(diff id, its digest and size)`. gzip without a time or a name in its header."""
    plain, partial = hashlib.sha256(), blobs / "layer"
    with (
        layer.open("rb") as tar,
        partial.open("wb") as out,
        gzip.GzipFile(filename="", fileobj=out, mode="wb", compresslevel=6, mtime=0) as packed,
    ):
        while chunk := tar.read(1 << 20):
            plain.update(chunk)
            packed.write(chunk)
    with partial.open("rb") as blob:
        digest = hashlib.file_digest(blob, "sha256").hexdigest()
    size = partial.stat().st_size
    partial.rename(blobs / digest)
    return f"sha256:{plain.hexdigest()}", {"digest": f"sha256:{digest}", "size": size}


def _blob(blobs: Path, content: bytes) -> dict[str, object]:
    digest = hashlib.sha256(content).hexdigest()
    (blobs / digest).write_bytes(content)
    return {"digest": f"sha256:{digest}", "size": len(content)}


def _json(value: object) -> bytes:
    return json.dumps(value, sort_keys=True, separators=(",", ":")).encode()
