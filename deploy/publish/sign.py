"""Signing an image as cosign does, beside it in the registry; the counterpart of `workers.enclave.image.signature`.

The payload names the repository without a tag, as cosign's own, so that one signature holds for every tag of a digest.
Signing again with the same key changes nothing; another key's signature is kept and ours added to it.
"""

from __future__ import annotations

import base64
import json
from typing import TYPE_CHECKING, Final

from deploy.publish.documents import render_manifest
from orchestrator.faults import Code, Permanent
from workers.enclave.image.identity import DEFAULT_IDENTITY
from workers.enclave.image.manifest import OCI_CONFIG, Descriptor, Manifest, digest_of, parse_manifest
from workers.enclave.image.signature import (
    PAYLOAD_MEDIA_TYPE,
    PAYLOAD_TYPE,
    SIGNATURE_ANNOTATION,
    Subject,
    signature_tag,
    verify_signature,
)

if TYPE_CHECKING:
    from collections.abc import Sequence

    from deploy.publish.cosign_key import SigningKey
    from deploy.publish.push import RegistryWriter
    from workers.enclave.image.reference import Reference
    from workers.enclave.image.registry import Registry

_ZERO_TIME: Final = "0001-01-01T00:00:00Z"


def is_signed(reference: Reference, digest: str, registry: Registry, key: SigningKey) -> bool:
    """Whether the registry holds a good signature of this key for this image under this name.

    Raises:
        Temporary: IMAGE_REGISTRY_AWAY.
    """
    subject = Subject(reference, (digest,), registry)
    try:
        signatures = subject.signatures()
    except Permanent:
        return False
    for signature in signatures:
        try:
            verify_signature(signature, key.public(), subject, DEFAULT_IDENTITY)
        except Permanent:
            continue
        return True
    return False


def sign(reference: Reference, digest: str, registry: Registry, writer: RegistryWriter, key: SigningKey) -> None:
    """Put a signature for `digest` beside it, unless this key's is there.

    Raises:
        Temporary: IMAGE_REGISTRY_AWAY.
        Permanent: what the registry refuses.
    """
    if is_signed(reference, digest, registry, key):
        return
    payload = signature_payload(reference, digest)
    ours = Descriptor(
        PAYLOAD_MEDIA_TYPE,
        digest_of(payload),
        len(payload),
        {SIGNATURE_ANNOTATION: base64.b64encode(key.sign(payload)).decode()},
    )
    # Signatures that are there already, good or not, are somebody's.
    layers = (*attached_layers(reference.tagged(signature_tag(digest)), registry), ours)
    config = signature_config(layers)
    for blob in (payload, config):
        writer.put_blob(blob)
    manifest = Manifest(Descriptor(OCI_CONFIG, digest_of(config), len(config)), layers)
    writer.put_manifest(render_manifest(manifest), signature_tag(digest))


def attached_layers(tag: Reference, registry: Registry) -> tuple[Descriptor, ...]:
    """What lies under a tag of signatures or attestations; nothing where the registry has no such tag.

    Raises:
        Temporary: IMAGE_REGISTRY_AWAY.
        Permanent: what `Registry` raises, but for IMAGE_NOT_FOUND.
    """
    try:
        raw, _ = registry.manifest(tag)
    except Permanent as fault:
        if fault.code is Code.IMAGE_NOT_FOUND:
            return ()
        raise
    found = parse_manifest(raw)
    return found.layers if isinstance(found, Manifest) else ()


def signature_config(layers: Sequence[Descriptor]) -> bytes:
    """The configuration of a signature manifest, which is an image's only in form."""
    document = {
        "architecture": "",
        "created": _ZERO_TIME,
        "history": [{"created": _ZERO_TIME} for _ in layers],
        "os": "",
        "rootfs": {"type": "layers", "diff_ids": [layer.digest for layer in layers]},
        "config": {},
    }
    return json.dumps(document, separators=(",", ":")).encode()


def signature_payload(reference: Reference, digest: str) -> bytes:
    """What is signed: the name and the digest, in cosign's words and order."""
    critical = {
        "identity": {"docker-reference": reference.repository},
        "image": {"docker-manifest-digest": digest},
        "type": PAYLOAD_TYPE,
    }
    return json.dumps({"critical": critical, "optional": None}, separators=(",", ":")).encode()
