"""From a name to a plan: everything that must hold before a layer is read.

Checks, in order; each is made on what the one before has proved:

1. The name is a reference, and the registry has a manifest for it; from here on everything goes by digest.
2. The owner's policy admits the image: its signature, under the owner's key, for this digest and this name.
3. The configuration is the one the manifest names, is for this machine, and has one diff_id for each layer.
4. The image is within the policy's bounds, and every layer is encrypted where the policy does not say otherwise.
5. Every encrypted layer's key packet opens with a key that the broker gives to this enclave.

The order matters: no key is asked for on behalf of an image that nobody vouches for. The layers themselves are proved
as they are read; see `layers`.
"""

from __future__ import annotations

from dataclasses import dataclass, field
from typing import TYPE_CHECKING

from orchestrator.faults import Code, Permanent
from workers.enclave.image.layers import LayerReader, compression_of, open_layer
from workers.enclave.image.manifest import LONGEST_CONFIG, ImageConfig, parse_config
from workers.enclave.image.ocicrypt import LayerKey, is_encrypted, unwrap_layer_key
from workers.enclave.image.read_ahead import ReadAhead
from workers.enclave.image.reference import Reference, parse_reference
from workers.enclave.image.signature import Subject

if TYPE_CHECKING:
    from collections.abc import Iterator

    from workers.enclave.image.manifest import Descriptor, Manifest
    from workers.enclave.image.policy import ImagePolicy, Limits, Verdict
    from workers.enclave.image.registry import Registry
    from workers.enclave.image.resource import GetResource


@dataclass(frozen=True, slots=True)
class PlannedLayer:
    """One layer: where its blob lies, what its tar must hash to, and its key where it is encrypted."""

    descriptor: Descriptor
    diff_id: str
    key: LayerKey | None = field(repr=False)


@dataclass(frozen=True, slots=True)
class ImagePlan:
    """An admitted image, ready to be read. It holds layer keys: it never leaves the process."""

    reference: Reference
    manifest_digest: str
    config: ImageConfig
    verdict: Verdict
    key_ids: tuple[str, ...]
    planned: tuple[PlannedLayer, ...]
    limits: Limits
    _registry: Registry = field(repr=False)

    @property
    def blob_bytes(self) -> int:
        """Bytes of all layers as they lie in the registry."""
        return sum(layer.descriptor.size for layer in self.planned)

    def layers(self) -> Iterator[LayerReader]:
        """The tar streams, lowest layer first. Read one, `verify()` it, then take the next.

        Yields:
            A reader; it is closed when the next one is asked for.

        Raises:
            RuntimeError: the last reader was not verified: what was made from it must not be used.
            Permanent: as `layers.LayerReader`; IMAGE_MALFORMED, when the image exceeds the policy's bound.
            Temporary: as `blob.BlobStream`.
        """
        left = self.limits.image_bytes
        for layer in self.planned:
            blob = ReadAhead(self._registry.open_blob(self.reference, layer.descriptor))
            most = min(left, self.limits.layer_bytes)
            with open_layer(blob, layer.descriptor, diff_id=layer.diff_id, key=layer.key, most_bytes=most) as reader:
                yield reader
                if not reader.verified:
                    raise RuntimeError("a layer was left before verify() came back")
            left -= reader.tar_bytes


def resolve(
    reference: str,
    registry: Registry,
    policy: ImagePolicy,
    get_key: GetResource,
    *,
    architecture: str = "amd64",
) -> ImagePlan:
    """Carry out checks 1 to 5 for the image that the host asks for.

    Args:
        reference: as containerd names it.
        registry: where it is pulled from.
        policy: the owner's.
        get_key: asks the key broker for a `kbs:///` resource: layer keys, and public keys that the policy names so.
        architecture: of this machine, in Go's words.

    Raises:
        Permanent: IMAGE_REFERENCE, IMAGE_NOT_FOUND, IMAGE_ALTERED, IMAGE_MALFORMED, IMAGE_NOT_ENCRYPTED,
            SIGNATURE_MISSING, SIGNATURE_WRONG, SIGNATURE_POLICY, KEY_MALFORMED, KEY_WRONG; what `get_key` raises.
        Temporary: IMAGE_REGISTRY_AWAY, IMAGE_TRUNCATED; what `get_key` raises.
    """
    name = parse_reference(reference)
    found = registry.image(name, architecture=architecture)
    verdict = policy.verify(Subject(name, found.digests, registry), get_key)
    raw = registry.blob(name, found.manifest.config, limit=LONGEST_CONFIG, what="image configuration")
    config = parse_config(raw)
    _check_shape(name, found.manifest, config, architecture)
    _check_policy(name, found.manifest, policy)
    keys = _Keys(get_key)
    planned = tuple(
        PlannedLayer(layer, diff_id, unwrap_layer_key(layer, keys.get) if is_encrypted(layer) else None)
        for layer, diff_id in zip(found.manifest.layers, config.diff_ids, strict=True)
    )
    key_ids = tuple(dict.fromkeys(layer.key.kid for layer in planned if layer.key))
    return ImagePlan(
        name.pinned(found.digest), found.digest, config, verdict, key_ids, planned, policy.limits, registry
    )


class _Keys:
    """Asks the broker once for each key: layers of one image share theirs."""

    def __init__(self, get_key: GetResource) -> None:
        self._get_key = get_key
        self._known: dict[str, bytes] = {}

    def get(self, uri: str) -> bytes:
        if uri not in self._known:
            self._known[uri] = self._get_key(uri)
        return self._known[uri]


def _check_shape(name: Reference, manifest: Manifest, config: ImageConfig, architecture: str) -> None:
    """Check 3."""
    if (config.os, config.architecture) != ("linux", architecture):
        raise Permanent(
            Code.IMAGE_NOT_FOUND,
            f"{name} is an image for another machine",
            expected=f"linux/{architecture}",
            got=f"{config.os}/{config.architecture}"[:200],
            advice="push the image for this platform",
        )
    if len(manifest.layers) != len(config.diff_ids):
        raise Permanent(
            Code.IMAGE_MALFORMED,
            f"{name} has another number of layers than its configuration says",
            expected=f"{len(config.diff_ids)} layers",
            got=f"{len(manifest.layers)} layers",
        )


def _check_policy(name: Reference, manifest: Manifest, policy: ImagePolicy) -> None:
    """Check 4."""
    if len(manifest.layers) > policy.limits.layers:
        raise Permanent(
            Code.IMAGE_MALFORMED,
            f"{name} has more layers than the owner's policy admits",
            expected=f"at most {policy.limits.layers}",
            got=str(len(manifest.layers)),
            advice="raise the limit in the image policy, if this is meant",
        )
    readable = [layer.digest for layer in manifest.layers if not is_encrypted(layer)]
    if readable and not policy.admits_unencrypted(name):
        raise Permanent(
            Code.IMAGE_NOT_ENCRYPTED,
            f"{name} has layers that anyone can read",
            expected="every layer encrypted",
            got=f"{len(readable)} of {len(manifest.layers)} not encrypted, the first {readable[0]}",
            advice="publish it with `enclave-cc publish`, or name it under `unencrypted` in the image policy",
        )
    for layer in manifest.layers:
        compression_of(layer)
