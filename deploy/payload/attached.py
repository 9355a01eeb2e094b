"""What is attached to a payload in its OCI layout: signatures and reference values, as cosign keeps them in a registry.

Zone: owner. May import: `deploy.publish`, `workers.enclave.image`, `orchestrator.faults`, the standard library.

    index.json names      sha256-<hex>.sig     a manifest whose layers are signatures of that manifest or index
                          sha256-<hex>.att     a manifest whose layer is a DSSE envelope: the reference values

The names are cosign's tags (specs/SIGNATURE_SPEC.md), so that `skopeo copy oci:FOLDER:sha256-... docker://...` carries
them into a registry where cosign finds them. They travel with the folder, however it is copied; a reader that looks for
the payload passes them over.
"""

from __future__ import annotations

import base64
import json
import os
from collections.abc import Sequence
from pathlib import Path

from deploy.publish.cosign_key import SigningKey
from deploy.publish.documents import render_manifest
from deploy.publish.references import ENVELOPE_TYPE, LONGEST, PREDICATE
from deploy.publish.sign import signature_config, signature_payload
from deploy.publish.source import REF_NAME, is_attached
from orchestrator.faults import Code, Permanent
from workers.enclave.image.document import canonical_base64
from workers.enclave.image.manifest import (
    LONGEST_MANIFEST,
    OCI_CONFIG,
    OCI_MANIFEST,
    Descriptor,
    Index,
    Manifest,
    digest_of,
    parse_manifest,
)
from workers.enclave.image.reference import Reference
from workers.enclave.image.signature import PAYLOAD_MEDIA_TYPE, SIGNATURE_ANNOTATION, Signature, signature_tag


class Layout:
    """The folder of one payload."""

    def __init__(self, folder: Path) -> None:
        """Raises Permanent(IMAGE_MALFORMED), when it is none."""
        self._folder = folder
        outer = _index((folder / "index.json").read_bytes(), folder)
        found = [entry.descriptor.digest for entry in outer.platforms if not is_attached(_name(entry.descriptor))]
        if len(found) != 1:
            raise _malformed(folder, f"{len(found)} images")
        self.index = found[0]
        inner = _index(self.blob(self.index), folder)
        self.manifests = tuple(entry.descriptor.digest for entry in inner.platforms)
        if len(self.manifests) != 1:
            raise _malformed(folder, f"an index of {len(self.manifests)} images")
        self._attached = {
            _name(entry.descriptor): entry.descriptor.digest
            for entry in outer.platforms
            if is_attached(_name(entry.descriptor))
        }

    def blob(self, digest: str) -> bytes:
        """A blob, compared with its digest. Raises Permanent(IMAGE_ALTERED, IMAGE_NOT_FOUND)."""
        try:
            raw = (self._folder / "blobs" / digest.replace(":", "/")).read_bytes()
        except OSError:
            raise Permanent(
                Code.IMAGE_NOT_FOUND, f"the layout {self._folder} lacks a blob", expected=digest, got="none"
            ) from None
        if digest_of(raw) != digest:
            raise Permanent(
                Code.IMAGE_ALTERED, "a blob is not what its digest says", expected=digest, got=digest_of(raw)
            )
        return raw

    def layers(self, tag: str) -> tuple[Descriptor, ...]:
        """Of what is attached under `tag` the layers; none where nothing is."""
        if tag not in self._attached:
            return ()
        manifest = parse_manifest(self.blob(self._attached[tag]))
        if not isinstance(manifest, Manifest):
            raise _malformed(self._folder, f"{tag} is an index")
        return manifest.layers

    def signatures(self, digest: str) -> tuple[Signature, ...]:
        """Of that manifest or index, unverified."""
        found = []
        for layer in self.layers(signature_tag(digest)):
            if layer.media_type == PAYLOAD_MEDIA_TYPE:
                text = layer.annotations.get(SIGNATURE_ANNOTATION, "")
                found.append(Signature(self.blob(layer.digest), canonical_base64(text) or b""))
        return tuple(found)

    def references(self) -> bytes | None:
        """The newest envelope with the payload's reference values, unverified; None where there is none."""
        envelopes = [layer for layer in self.layers(attestation_tag(self.manifests[0])) if _holds_references(layer)]
        return self.blob(envelopes[-1].digest) if envelopes else None

    def sign(self, name: Reference, key: SigningKey, references: bytes) -> None:
        """Attach signatures of manifest and index under `name`, and the reference values, beside what is there."""
        for digest in (*self.manifests, self.index):
            payload = signature_payload(name, digest)
            ours = [layer for layer in self.layers(signature_tag(digest)) if layer.digest == digest_of(payload)]
            if not any(self._is_by(key, layer, payload) for layer in ours):
                annotation = {SIGNATURE_ANNOTATION: base64.b64encode(key.sign(payload)).decode()}
                self._attach(signature_tag(digest), payload, PAYLOAD_MEDIA_TYPE, annotation)
        annotation = {SIGNATURE_ANNOTATION: "", "predicateType": PREDICATE}
        self._attach(attestation_tag(self.manifests[0]), references, ENVELOPE_TYPE, annotation)

    @staticmethod
    def _is_by(key: SigningKey, layer: Descriptor, payload: bytes) -> bool:
        raw = canonical_base64(layer.annotations.get(SIGNATURE_ANNOTATION, "")) or b""
        try:
            key.public().verify(Signature(payload, raw))
        except Permanent:
            return False
        return True

    def _attach(self, tag: str, blob: bytes, media_type: str, annotations: dict[str, str]) -> None:
        ours = Descriptor(media_type, digest_of(blob), len(blob), annotations)
        layers = (*self.layers(tag), ours)
        config, manifest = attached_manifest(layers)
        for raw in (blob, config, manifest):
            self._write(self._folder / "blobs" / digest_of(raw).replace(":", "/"), raw)
        self._attached[tag] = digest_of(manifest)
        self._name_all(tag, manifest)

    def _name_all(self, tag: str, manifest: bytes) -> None:
        """Into index.json, last: whoever is interrupted has written blobs that nobody names."""
        place = self._folder / "index.json"
        document = json.loads(place.read_bytes())
        others = [one for one in document["manifests"] if one.get("annotations", {}).get(REF_NAME) != tag]
        entry = {
            "mediaType": OCI_MANIFEST,
            "digest": digest_of(manifest),
            "size": len(manifest),
            "annotations": {REF_NAME: tag},
        }
        document["manifests"] = [*others, entry]
        self._write(place, json.dumps(document, sort_keys=True, separators=(",", ":")).encode())

    @staticmethod
    def _write(place: Path, raw: bytes) -> None:
        partial = place.with_name(f".{place.name}.{os.getpid()}")
        partial.write_bytes(raw)
        partial.rename(place)


def attached_manifest(layers: Sequence[Descriptor]) -> tuple[bytes, bytes]:
    """`(configuration, manifest)` of what is attached: an image's only in form."""
    config = signature_config(layers)
    return config, render_manifest(Manifest(Descriptor(OCI_CONFIG, digest_of(config), len(config)), tuple(layers)))


def attestation_tag(digest: str) -> str:
    """The tag under which cosign keeps attestations of `digest`."""
    return f"{digest.replace(':', '-')}.att"


def _holds_references(layer: Descriptor) -> bool:
    same = layer.annotations.get("predicateType") == PREDICATE
    return layer.media_type == ENVELOPE_TYPE and same and layer.size <= LONGEST


def _name(descriptor: Descriptor) -> str:
    return descriptor.annotations.get(REF_NAME, "")


def _index(raw: bytes, folder: Path) -> Index:
    found = parse_manifest(raw[: LONGEST_MANIFEST + 1])
    if not isinstance(found, Index):
        raise _malformed(folder, "a manifest")
    return found


def _malformed(folder: Path, got: str) -> Permanent:
    return Permanent(
        Code.IMAGE_MALFORMED,
        f"the layout {folder} is none of ours",
        expected="an index that names one image by way of an index of platforms, and what is attached to it",
        got=got,
        advice="enclave-cc payload build, or images, makes one",
    )
