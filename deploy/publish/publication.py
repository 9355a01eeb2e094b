"""Publishing an image, from a plain source to something an enclave will launch.

1. A fresh key goes to the broker, under a name that no other publication uses.
2. Each layer streams from the source through the cipher to the registry, above one of random bytes (`salt`).
3. The encrypted manifest is stored under its digest.
4. Its signature is stored beside it.
5. The tag is moved: only now can anybody meet the new image by name, and everything it needs is there.
6. The policies that admit it go to the broker.

Interrupted anywhere, publishing again is right: before 5 the tag still names the old image, whose key and signature
stay; what was stored meanwhile is unreferenced. Publishing the same source again finds its own signature under the tag
and does 6 only. A key is never replaced, so an image that runs somewhere can be started there again.
"""

from __future__ import annotations

import contextlib
import re
import secrets
from dataclasses import dataclass
from functools import partial
from io import BytesIO
from typing import TYPE_CHECKING, Final

from deploy.publish.documents import render_manifest
from deploy.publish.encrypt import ImageKey, LayerEncryption
from deploy.publish.push import RegistryWriter
from deploy.publish.salt import Salt
from deploy.publish.sign import is_signed, sign
from orchestrator.faults import Code, Fault, Permanent
from workers.enclave.image.manifest import (
    LONGEST_CONFIG,
    OCI_CONFIG,
    Descriptor,
    Manifest,
    digest_of,
    parse_config,
    parse_manifest,
)
from workers.enclave.image.ocicrypt import is_encrypted, parse_packets
from workers.enclave.kbs import ResourceUri

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator

    from deploy.publish.cosign_key import SigningKey
    from deploy.publish.policies import Broker, PolicyFolder
    from deploy.publish.source import PlainImage
    from workers.enclave.image.layers import ByteSource
    from workers.enclave.image.reference import Reference
    from workers.enclave.image.registry import Registry

SOURCE_ANNOTATION: Final = "io.enclave-cc.source"
"""On the encrypted manifest: the digest of the plain one. It tells no more than the configuration beside it, whose
diff_ids name every plain layer."""

_NOT_IN_A_NAME: Final = re.compile(r"[^a-zA-Z0-9_.-]+")


@dataclass(frozen=True, slots=True)
class Published:
    """What was published. `fresh` is False where it had been before."""

    reference: Reference
    kids: tuple[str, ...]
    fresh: bool


@dataclass(frozen=True, slots=True)
class Publisher:
    """The owner's hands: where images, keys and policies go, and with which key they are signed."""

    registry: Registry
    broker: Broker
    key: SigningKey
    policies: PolicyFolder

    def publish(
        self,
        image: PlainImage,
        target: Reference,
        *,
        again: bool = False,
        progress: Callable[[int], None] = lambda _: None,
    ) -> Published:
        """Publish `image` as `target`, which has a tag.

        Args:
            image: from `source.open_image`.
            target: where to.
            again: encrypt anew, under a new key, even if this very image is there.
            progress: called with bytes as they leave.

        Raises:
            Temporary: IMAGE_REGISTRY_AWAY, KEY_KBS_AWAY.
            Permanent: IMAGE_MALFORMED (zstd layers, an encrypted source), IMAGE_ALTERED (a damaged source),
                IMAGE_NOT_FOUND (the registry refuses), INPUT (the broker refuses, or the policy has another rule).
        """
        if target.tag is None:
            raise Permanent(Code.IMAGE_REFERENCE, "publish to a tag", expected="host/path:tag", got=str(target))
        # First, because it may refuse; and harmless, because it changes files only.
        self.policies.admit(target.repository, self.key.public_pem())
        done = None if again else self._done(image, target)
        published = done or self._publish(image, target, progress)
        self.policies.put(self.broker)
        return published

    def _done(self, image: PlainImage, target: Reference) -> Published | None:
        """An earlier publication of the same source under the same tag and key."""
        try:
            raw, digest = self.registry.manifest(target)
            manifest = parse_manifest(raw)
        except Permanent:
            return None
        if not isinstance(manifest, Manifest) or manifest.annotations.get(SOURCE_ANNOTATION) != image.digest:
            return None
        if not is_signed(target, digest, self.registry, self.key):
            return None
        kids = {packet.kid for layer in manifest.layers if is_encrypted(layer) for packet in parse_packets(layer)}
        return Published(target.pinned(digest), tuple(sorted(kids)), fresh=False)

    def _publish(self, image: PlainImage, target: Reference, progress: Callable[[int], None]) -> Published:
        config = image.blob(image.manifest.config, limit=LONGEST_CONFIG)
        parse_config(config)
        image_key, salt = ImageKey.generate(str(_key_uri(target))), Salt.fresh()
        layers = [_Layer(layer, partial(image.open, layer)) for layer in image.manifest.layers]
        layers.insert(0, _Layer(salt.descriptor(), partial(BytesIO, salt.tar)))
        ciphers = [LayerEncryption(layer.plain, image_key) for layer in layers]
        writer = RegistryWriter(self.registry.transport, target)
        self.broker.put_resource(ResourceUri.parse(image_key.kid), image_key.key)
        try:
            descriptors = [
                _push(layer, cipher, writer, progress) for layer, cipher in zip(layers, ciphers, strict=True)
            ]
            digest = _put_manifest(image, salt.under(config), descriptors, writer)
            sign(target, digest, self.registry, writer, self.key)
            writer.put_manifest(self.registry.manifest(target.pinned(digest))[0], target.tag or "")
        except BaseException:
            # Nobody will ever ask for this key. The fault that led here is the one to tell.
            with contextlib.suppress(Fault):
                self.broker.delete_resource(ResourceUri.parse(image_key.kid))
            raise
        return Published(target.pinned(digest), (image_key.kid,), fresh=True)


@dataclass(frozen=True, slots=True)
class _Layer:
    plain: Descriptor
    open: Callable[[], ByteSource]


def _push(
    layer: _Layer, cipher: LayerEncryption, writer: RegistryWriter, progress: Callable[[int], None]
) -> Descriptor:
    """Step 2, for one layer."""
    with contextlib.closing(layer.open()) as blob:
        writer.stream_blob(_counted(cipher.ciphertext(blob), progress), layer.plain.size, cipher.digest)
    return cipher.descriptor()


def _put_manifest(image: PlainImage, config: bytes, layers: list[Descriptor], writer: RegistryWriter) -> str:
    """Step 3; the encrypted manifest's digest."""
    writer.put_blob(config)
    manifest = Manifest(
        Descriptor(OCI_CONFIG, digest_of(config), len(config)),
        tuple(layers),
        {**image.manifest.annotations, SOURCE_ANNOTATION: image.digest},
    )
    raw = render_manifest(manifest)
    writer.put_manifest(raw, digest_of(raw))
    return digest_of(raw)


def _key_uri(target: Reference) -> ResourceUri:
    """`kbs:///default/image-key/<path>-<16 hex digits>`: told apart from every other publication of the same name."""
    slug = _NOT_IN_A_NAME.sub("_", target.path)[:100]
    return ResourceUri("default", "image-key", f"{slug}-{secrets.token_hex(8)}")


def _counted(chunks: Iterator[bytes], progress: Callable[[int], None]) -> Iterator[bytes]:
    for chunk in chunks:
        yield chunk
        progress(len(chunk))
