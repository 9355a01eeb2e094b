"""An image of ours to a registry: its blobs, its manifest under its digest, the signatures, and last the tag.

Zone: owner. May import: `deploy.publish`, `deploy.payload.oci_layout`, `workers.enclave.image`, `orchestrator.faults`.

Interrupted anywhere, pushing again is right: nobody meets it by name before everything that it needs is there.
"""

from __future__ import annotations

from pathlib import Path
from typing import Final

from deploy.publish.cosign_key import SigningKey
from deploy.publish.push import RegistryWriter
from deploy.publish.sign import sign
from orchestrator.faults import Code, Permanent
from workers.enclave.image.manifest import LONGEST_MANIFEST, OCI_MANIFEST, Index, Manifest, digest_of, parse_manifest
from workers.enclave.image.reference import Reference
from workers.enclave.image.registry import Registry

_OCI_INDEX: Final = "application/vnd.oci.image.index.v1+json"
_CHUNK: Final = 1 << 20


def push(layout: Path, target: Reference, registry: Registry, key: SigningKey | None) -> str:
    """Push the layout's one image as `target`, which has a tag; the digest of its manifest.

    With a key, manifest and index are signed: a node names the one, a tag leads to the other.

    Raises:
        Permanent: IMAGE_REFERENCE, IMAGE_MALFORMED, IMAGE_ALTERED, IMAGE_NOT_FOUND (the registry refuses).
        Temporary: IMAGE_REGISTRY_AWAY.
    """
    if target.tag is None:
        raise Permanent(Code.IMAGE_REFERENCE, "push to a tag", expected="host/path:tag", got=str(target))
    outer = _index((layout / "index.json").read_bytes())
    raw_index = _blob(layout, outer.platforms[0].descriptor.digest)
    manifests = [entry.descriptor.digest for entry in _index(raw_index).platforms]
    writer = RegistryWriter(registry.transport, target)
    for digest in manifests:
        raw = _blob(layout, digest)
        manifest = parse_manifest(raw)
        if not isinstance(manifest, Manifest):
            raise Permanent(Code.IMAGE_MALFORMED, "the index names another index", expected="a manifest", got=digest)
        for descriptor in (manifest.config, *manifest.layers):
            writer.put_blob(_blob(layout, descriptor.digest))
        writer.put_manifest(raw, digest, OCI_MANIFEST)
    named = digest_of(raw_index)
    writer.put_manifest(raw_index, named, _OCI_INDEX)
    if key is not None:
        for digest in (*manifests, named):
            sign(target, digest, registry, writer, key)
    writer.put_manifest(raw_index, target.tag, _OCI_INDEX)
    return manifests[0]


def _index(raw: bytes) -> Index:
    found = parse_manifest(raw[: LONGEST_MANIFEST + 1])
    if not isinstance(found, Index) or len(found.platforms) != 1:
        raise Permanent(
            Code.IMAGE_MALFORMED,
            "this layout is none of ours",
            expected="an index that names one image",
            got="something else",
            advice="enclave-cc payload build, or images, makes one",
        )
    return found


def _blob(layout: Path, digest: str) -> bytes:
    raw = (layout / "blobs" / digest.replace(":", "/")).read_bytes()
    if digest_of(raw) != digest:
        raise Permanent(Code.IMAGE_ALTERED, "a blob is not what its digest says", expected=digest, got=digest_of(raw))
    return raw
