"""The key of an encrypted layer: ocicrypt's annotations with the Confidential Containers key packet inside.

A layer descriptor whose media type ends in `+encrypted` carries (github.com/containers/ocicrypt):

- `org.opencontainers.image.enc.pubopts`: base64 of
  `{"cipher":"AES_256_CTR_HMAC_SHA256","hmac":"<32>","cipheroptions":{}}`;
- `org.opencontainers.image.enc.keys.provider.<name>`: base64 packets, joined by commas; each one wraps the same
  private options for another key encryption key (guest-components, annotation_packet v1 and v2):
  `{"kid":"kbs:///…","wrapped_data":"<ciphertext, 16-byte tag>","iv":"<12>","wrap_type":"A256GCM"}`;
- private options, in the packet: `{"symkey":"<32>","digest":"sha256:…","cipheroptions":{"nonce":"<16>"}}`, where
  `digest` is that of the compressed plaintext.

Refused, though peers let them pass: a nonce in the public options (it would win over the wrapped one, and the HMAC does
not cover it, so one edited annotation turns a layer to noise that passes); wrapping without integrity (A256CTR); more
than one key provider (which one is asked would depend on a map's order); `jwe`, `pkcs7`, `pgp` (their keys would have
to rest inside the enclave).
"""

from __future__ import annotations

from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Final

from cryptography.exceptions import InvalidTag
from cryptography.hazmat.primitives.ciphers.aead import AESGCM

from orchestrator.faults import Code, Permanent
from workers.enclave.image.document import canonical_base64, parse_object
from workers.enclave.image.reference import DIGEST_RULE
from workers.enclave.image.resource import resource_uri

if TYPE_CHECKING:
    from workers.enclave.image.manifest import Descriptor
    from workers.enclave.image.resource import GetResource

ENCRYPTED: Final = "+encrypted"
PUBLIC_OPTIONS: Final = "org.opencontainers.image.enc.pubopts"
KEYS: Final = "org.opencontainers.image.enc.keys."
PROVIDER: Final = KEYS + "provider."
CIPHER: Final = "AES_256_CTR_HMAC_SHA256"
KEY_BYTES: Final = 32
NONCE_BYTES: Final = 16
_LONGEST: Final = 16 * 1024
_MOST_PACKETS: Final = 8


@dataclass(frozen=True, slots=True)
class Packet:
    """Wrapped private options, and which key opens them."""

    kid: str
    wrapped: bytes = field(repr=False)
    iv: bytes


@dataclass(frozen=True, slots=True)
class LayerKey:
    """What opens one layer. Secret: it is never printed, logged or written."""

    kid: str
    digest: str
    hmac: bytes
    symmetric: bytes = field(repr=False)
    nonce: bytes = field(repr=False)


def is_encrypted(descriptor: Descriptor) -> bool:
    """Whether the descriptor says that its blob is encrypted."""
    return descriptor.media_type.endswith(ENCRYPTED)


def unwrap_layer_key(descriptor: Descriptor, get_key: GetResource) -> LayerKey:
    """The key of an encrypted layer, by the first packet whose key the broker gives.

    Args:
        descriptor: of an encrypted layer.
        get_key: canonical `kbs:///` URI -> the resource's bytes; raises what the broker answers.

    Raises:
        Permanent: IMAGE_MALFORMED (annotations), KEY_MALFORMED (the broker's key is no 32 bytes), KEY_WRONG (it does
            not open the packet), and what `get_key` raises.
        Temporary: what `get_key` raises.
    """
    hmac = _public_hmac(descriptor)
    refusal: Permanent | None = None
    for packet in parse_packets(descriptor):
        try:
            key = get_key(packet.kid)
        except Permanent as fault:  # another packet may be for a key that this enclave may have
            refusal = refusal or fault
            continue
        return _private_options(packet, hmac, _unwrap(packet, key))
    raise refusal or _malformed(descriptor, "a packet", "none")


def parse_packets(descriptor: Descriptor) -> tuple[Packet, ...]:
    """The packets of a layer's one key provider.

    Raises:
        Permanent: IMAGE_MALFORMED.
    """
    providers = [name for name in descriptor.annotations if name.startswith(PROVIDER)]
    if len(providers) != 1:
        others = sorted(name.removeprefix(KEYS) for name in descriptor.annotations if name.startswith(KEYS))
        raise _malformed(descriptor, "keys of exactly one provider", ", ".join(others)[:300] or "no keys")
    texts = descriptor.annotations[providers[0]].split(",")
    if len(texts) > _MOST_PACKETS:
        raise _malformed(descriptor, f"at most {_MOST_PACKETS} packets", str(len(texts)))
    return tuple(_packet(descriptor, text) for text in texts)


def _packet(descriptor: Descriptor, text: str) -> Packet:
    raw = canonical_base64(text)
    if raw is None:
        raise _malformed(descriptor, "a packet in canonical base64", "something else")
    document = parse_object(raw, what="layer key packet", code=Code.IMAGE_MALFORMED, limit=_LONGEST)
    version, provider = document.get("version"), document.get("provider")
    if version is not None and version.text() != "0.1.0":
        raise version.malformed('"0.1.0"', "another version")
    if provider is not None and provider.text() != "kbs":
        raise provider.malformed('"kbs"', "another provider")
    if (wrap := document.need("wrap_type")).text() != "A256GCM":
        raise wrap.malformed('"A256GCM"', "another wrapping; A256CTR has no integrity")
    kid = resource_uri(document.need("kid"))
    return Packet(kid, document.need("wrapped_data").octets(), document.need("iv").octets(12))


def _public_hmac(descriptor: Descriptor) -> bytes:
    raw = canonical_base64(descriptor.annotations.get(PUBLIC_OPTIONS, ""))
    if not raw:
        raise _malformed(descriptor, f"{PUBLIC_OPTIONS} in canonical base64", "none, or something else")
    document = parse_object(raw, what="public options of a layer", code=Code.IMAGE_MALFORMED, limit=_LONGEST)
    if (cipher := document.need("cipher")).text() != CIPHER:
        raise cipher.malformed(CIPHER, "another cipher")
    options = document.get("cipheroptions")
    if options is not None and options.members():
        raise options.malformed("no public cipher options: a nonce is wrapped with its key", "some")
    return document.need("hmac").octets(32)


def _unwrap(packet: Packet, key: bytes) -> bytes:
    if len(key) != KEY_BYTES:
        raise Permanent(
            Code.KEY_MALFORMED,
            f"the key broker's resource {packet.kid} is no image key",
            expected=f"{KEY_BYTES} bytes",
            got=f"{len(key)} bytes",
            advice="store the raw key: no text, no base64, no line end",
        )
    try:
        return AESGCM(key).decrypt(packet.iv, packet.wrapped, None)
    except InvalidTag:
        raise Permanent(
            Code.KEY_WRONG,
            f"the key {packet.kid} does not open the layer's key packet",
            expected="the key that the image was published with",
            got="another key, or an altered packet",
            advice="publish the image again: its key was replaced, or this image is not the one that was published",
        ) from None


def _private_options(packet: Packet, hmac: bytes, raw: bytes) -> LayerKey:
    document = parse_object(raw, what="private options of a layer", code=Code.IMAGE_MALFORMED, limit=_LONGEST)
    options = document.need("cipheroptions")
    return LayerKey(
        packet.kid,
        document.need("digest").text(DIGEST_RULE),
        hmac,
        document.need("symkey").octets(KEY_BYTES),
        options.need("nonce").octets(NONCE_BYTES),
    )


def _malformed(descriptor: Descriptor, expected: str, got: str) -> Permanent:
    return Permanent(
        Code.IMAGE_MALFORMED,
        f"layer {descriptor.digest} does not tell how it is encrypted",
        expected=expected,
        got=got,
        advice="encrypt the image with `enclave-cc publish`, or with a key provider that writes kbs:/// packets",
    )
