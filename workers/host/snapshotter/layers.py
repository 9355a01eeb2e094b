"""Which layer of an image the host must not pull: read from the manifest, nothing else.

Media types of encrypted layers end in `+encrypted` (ocicrypt; also `+encrypted` after a distribution suffix). A layer
on top of an encrypted one is not pulled either: the host could not unpack it onto nothing.
"""

from __future__ import annotations

import json
import re
from dataclasses import dataclass
from typing import Final

from orchestrator.faults import Code, Permanent

SNAPSHOT_REFERENCE: Final = "containerd.io/snapshot.ref"
"""Label of an extraction: the chain ID that the layer will be committed under."""
MANIFEST_DIGEST: Final = "containerd.io/snapshot/cri.manifest-digest"
"""Label of an extraction: the image's manifest, in containerd's content store by then."""
LAYER_DIGEST: Final = "containerd.io/snapshot/cri.layer-digest"
"""Label of an extraction: the layer's blob."""
MAX_LAYERS: Final = 1024
_DIGEST: Final = re.compile(r"sha256:[0-9a-f]{64}\Z", re.ASCII)


@dataclass(frozen=True, slots=True)
class Layers:
    """What a manifest says: the digest of its configuration, and of its layers those that are encrypted."""

    config: str
    plain: frozenset[str]
    encrypted: frozenset[str]

    def must_stay_remote(self, layer: str) -> bool:
        """Whether the host must not pull this layer. Raises Permanent(IMAGE_MALFORMED) for a layer of another image."""
        if layer not in self.plain and layer not in self.encrypted:
            raise _malformed("a layer of the manifest in the same request", layer)
        return layer in self.encrypted


def is_encrypted(media_type: str) -> bool:
    """Whether a layer of this media type is ciphertext: `application/vnd.oci.image.layer.v1.tar+gzip+encrypted`."""
    return "+encrypted" in media_type


def is_digest(text: str) -> bool:
    """Whether `text` is a digest as content stores write it: `sha256:` and 64 lower-case hex digits."""
    return _DIGEST.match(text) is not None


def parse_manifest(raw: bytes) -> Layers:
    """An OCI or Docker image manifest's bytes. Raises Permanent(IMAGE_MALFORMED)."""
    try:
        document = json.loads(raw)
        config = document["config"]["digest"]
        described = [(layer["mediaType"], layer["digest"]) for layer in document["layers"]]
    except (ValueError, TypeError, KeyError, RecursionError) as error:
        raise _malformed("a manifest with config and layers", f"{len(raw)} bytes of something else") from error
    if len(described) > MAX_LAYERS:
        raise _malformed(f"at most {MAX_LAYERS} layers", str(len(described)))
    for text in (config, *(part for pair in described for part in pair)):
        if not isinstance(text, str):
            raise _malformed("digests and media types as strings", type(text).__name__)
    if wrong := [digest for digest in (config, *(digest for _, digest in described)) if not is_digest(digest)]:
        raise _malformed("sha256 digests", wrong[0][:80])
    encrypted = frozenset(digest for media, digest in described if is_encrypted(media))
    return Layers(config, frozenset(digest for _, digest in described) - encrypted, encrypted)


def parse_user(raw: bytes) -> str:
    """`User` of an image configuration: empty, `name`, `uid`, `name:group`. Raises Permanent(IMAGE_MALFORMED)."""
    try:
        user = (json.loads(raw).get("config") or {}).get("User") or ""
    except (ValueError, AttributeError, RecursionError) as error:
        raise _malformed("an image configuration", f"{len(raw)} bytes of something else") from error
    if not isinstance(user, str):
        raise _malformed("a user as a string", type(user).__name__)
    return user


def _malformed(expected: str, got: str) -> Permanent:
    return Permanent(Code.IMAGE_MALFORMED, "the image cannot be read", expected=expected, got=got)
