"""A manifest as bytes: the counterpart of `workers.enclave.image.manifest.parse_manifest`."""

from __future__ import annotations

import json
from typing import TYPE_CHECKING

from workers.enclave.image.manifest import OCI_MANIFEST

if TYPE_CHECKING:
    from workers.enclave.image.manifest import Descriptor, Manifest


def render_manifest(manifest: Manifest) -> bytes:
    """The same bytes for the same manifest: its digest depends on nothing else."""
    document: dict[str, object] = {
        "schemaVersion": 2,
        "mediaType": OCI_MANIFEST,
        "config": _descriptor(manifest.config),
        "layers": [_descriptor(layer) for layer in manifest.layers],
    }
    if manifest.annotations:
        document["annotations"] = dict(manifest.annotations)
    return json.dumps(document, separators=(",", ":")).encode()


def _descriptor(descriptor: Descriptor) -> dict[str, object]:
    document: dict[str, object] = {
        "mediaType": descriptor.media_type,
        "digest": descriptor.digest,
        "size": descriptor.size,
    }
    return document | ({"annotations": dict(descriptor.annotations)} if descriptor.annotations else {})
