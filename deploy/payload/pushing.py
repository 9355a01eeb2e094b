"""An image of ours to a registry: its blobs, its manifest under its digest, the signatures, and last the tag.

Zone: owner. May import: `deploy.publish`, `deploy.payload.attached`, `workers.enclave.image`, `orchestrator.faults`.

Interrupted anywhere, pushing again is right: nobody meets it by name before everything that it needs is there.
"""

from __future__ import annotations

from pathlib import Path

from deploy.payload.attached import Layout, attached_manifest, attestation_tag
from deploy.publish.cosign_key import SigningKey
from deploy.publish.push import RegistryWriter
from deploy.publish.sign import attached_layers, sign
from orchestrator.faults import Code, Permanent
from workers.enclave.image.manifest import OCI_INDEX, OCI_MANIFEST, Manifest, parse_manifest
from workers.enclave.image.reference import Reference
from workers.enclave.image.registry import Registry
from workers.enclave.image.signature import signature_tag


def push(layout: Path, target: Reference, registry: Registry, key: SigningKey | None) -> str:
    """Push the layout's one image as `target`, which has a tag; the digest of its manifest.

    With a key, manifest and index are signed: a node names the one, a tag leads to the other. What the layout brings
    with it, signatures and reference values, goes along.

    Raises:
        Permanent: IMAGE_REFERENCE, IMAGE_MALFORMED, IMAGE_ALTERED, IMAGE_NOT_FOUND (the registry refuses).
        Temporary: IMAGE_REGISTRY_AWAY.
    """
    if target.tag is None:
        raise Permanent(Code.IMAGE_REFERENCE, "push to a tag", expected="host/path:tag", got=str(target))
    held = Layout(layout)
    raw_index = held.blob(held.index)
    writer = RegistryWriter(registry.transport, target)
    for digest in held.manifests:
        raw = held.blob(digest)
        manifest = parse_manifest(raw)
        if not isinstance(manifest, Manifest):
            raise Permanent(Code.IMAGE_MALFORMED, "the index names another index", expected="a manifest", got=digest)
        for descriptor in (manifest.config, *manifest.layers):
            writer.put_blob(held.blob(descriptor.digest))
        writer.put_manifest(raw, digest, OCI_MANIFEST)
    writer.put_manifest(raw_index, held.index, OCI_INDEX)
    for digest in (*held.manifests, held.index):
        for tag in (signature_tag(digest), attestation_tag(digest)):
            _carry(held, tag, target, registry, writer)
        if key is not None:
            sign(target, digest, registry, writer, key)
    writer.put_manifest(raw_index, target.tag, OCI_INDEX)
    return held.manifests[0]


def _carry(held: Layout, tag: str, target: Reference, registry: Registry, writer: RegistryWriter) -> None:
    """What the layout has attached under `tag`, beside what the registry has there."""
    there = attached_layers(target.tagged(tag), registry)
    new = [layer for layer in held.layers(tag) if layer not in there]
    if not new:
        return
    config, manifest = attached_manifest((*there, *new))
    for blob in (*(held.blob(layer.digest) for layer in new), config):
        writer.put_blob(blob)
    writer.put_manifest(manifest, tag)
