"""Cosign-format signatures beside an image: where they lie, and what makes one good.

Where (cosign, specs/SIGNATURE_SPEC.md): the tag `sha256-<hex of the signed digest>.sig` of the image's own repository;
a manifest, each of whose layers is one signature: the blob is the signed payload, the annotation
`dev.cosignproject.cosign/signature` the base64 of the signature over the blob's bytes.

A signature is good when

1. the payload's blob is what its descriptor says,
2. the signature over these bytes verifies under a key of the policy,
3. the payload is JSON of type `cosign container image signature`,
4. its digest is that of the image's manifest, or of the index that led to it,
5. its docker-reference is one that the policy's identity rule accepts for the name that was asked for.

One good signature is enough: anybody who may write to the repository can add others, and must not thereby be able to
refuse an image. Nothing of a payload is read before its signature verified (2 before 3).
"""

from __future__ import annotations

import hashlib
from dataclasses import dataclass
from typing import TYPE_CHECKING, Final

from cryptography.exceptions import InvalidSignature, UnsupportedAlgorithm
from cryptography.hazmat.primitives import hashes, serialization
from cryptography.hazmat.primitives.asymmetric import ec, ed25519, padding, rsa

from orchestrator.faults import Code, Permanent
from workers.enclave.image.document import canonical_base64, parse_object
from workers.enclave.image.manifest import Manifest, parse_manifest
from workers.enclave.image.reference import DIGEST_RULE, parse_name

if TYPE_CHECKING:
    from workers.enclave.image.identity import Identity
    from workers.enclave.image.reference import Reference
    from workers.enclave.image.registry import Registry

PAYLOAD_TYPE: Final = "cosign container image signature"
PAYLOAD_MEDIA_TYPE: Final = "application/vnd.dev.cosign.simplesigning.v1+json"
SIGNATURE_ANNOTATION: Final = "dev.cosignproject.cosign/signature"
_LONGEST_PAYLOAD: Final = 64 * 1024
_MOST_SIGNATURES: Final = 32
_LEAST_RSA_BITS: Final = 2048


@dataclass(frozen=True, slots=True)
class Signature:
    """One signature as it lies in the registry: the bytes that were signed, and the raw signature."""

    payload: bytes
    raw: bytes


@dataclass(frozen=True, slots=True)
class PublicKey:
    """A key of the owner. `fingerprint` is `sha256:<hex>` of its DER SubjectPublicKeyInfo."""

    key: ec.EllipticCurvePublicKey | rsa.RSAPublicKey | ed25519.Ed25519PublicKey
    fingerprint: str

    @classmethod
    def parse(cls, pem: bytes) -> PublicKey:
        """Read PEM SubjectPublicKeyInfo: ECDSA P-256, RSA of 2,048 bits and more, or Ed25519.

        Raises:
            Permanent: SIGNATURE_POLICY.
        """
        try:
            key = serialization.load_pem_public_key(pem)
        except (ValueError, UnsupportedAlgorithm):
            raise _bad_key("something else") from None
        if isinstance(key, ec.EllipticCurvePublicKey) and not isinstance(key.curve, ec.SECP256R1):
            raise _bad_key(f"curve {key.curve.name}")
        if isinstance(key, rsa.RSAPublicKey) and key.key_size < _LEAST_RSA_BITS:
            raise _bad_key(f"RSA of {key.key_size} bits")
        if not isinstance(key, ec.EllipticCurvePublicKey | rsa.RSAPublicKey | ed25519.Ed25519PublicKey):
            raise _bad_key(type(key).__name__)
        spki = key.public_bytes(serialization.Encoding.DER, serialization.PublicFormat.SubjectPublicKeyInfo)
        return cls(key, f"sha256:{hashlib.sha256(spki).hexdigest()}")

    def verify(self, signature: Signature) -> None:
        """Check 2.

        Raises:
            Permanent: SIGNATURE_WRONG.
        """
        try:
            if isinstance(self.key, ec.EllipticCurvePublicKey):
                self.key.verify(signature.raw, signature.payload, ec.ECDSA(hashes.SHA256()))
            elif isinstance(self.key, rsa.RSAPublicKey):
                self.key.verify(signature.raw, signature.payload, padding.PKCS1v15(), hashes.SHA256())
            else:
                self.key.verify(signature.raw, signature.payload)
        except InvalidSignature:
            raise _wrong(
                "it does not verify under the policy's key", f"key {self.fingerprint}", "another signer"
            ) from None


class Subject:
    """The image under judgement: its name, its digests, and its signatures, fetched when a rule first asks for them."""

    __slots__ = ("_registry", "_signatures", "digests", "reference")

    def __init__(self, reference: Reference, digests: tuple[str, ...], registry: Registry) -> None:
        """Prepare; nothing is fetched yet.

        Args:
            reference: as it was asked for.
            digests: what a signature may vouch for: the manifest, then the index that names it if there is one.
            registry: where the signatures lie.
        """
        self.reference = reference
        self.digests = digests
        self._registry = registry
        self._signatures: tuple[Signature, ...] | None = None

    def signatures(self) -> tuple[Signature, ...]:
        """Every signature in the registry, unverified.

        Raises:
            Permanent: SIGNATURE_MISSING, when there is none; what `Registry` raises.
            Temporary: what `Registry` raises.
        """
        if self._signatures is None:
            self._signatures = tuple(s for digest in self.digests for s in self._fetch(digest))
        if not self._signatures:
            raise Permanent(
                Code.SIGNATURE_MISSING,
                f"{self.reference} is not signed",
                expected=f"signatures at the tag {signature_tag(self.digests[0])}",
                got="none",
                advice="sign it with `enclave-cc publish --key`, or with cosign",
            )
        return self._signatures

    def _fetch(self, digest: str) -> tuple[Signature, ...]:
        try:
            raw, _ = self._registry.manifest(self.reference.tagged(signature_tag(digest)))
        except Permanent as fault:
            if fault.code is Code.IMAGE_NOT_FOUND:
                return ()
            raise
        manifest = parse_manifest(raw)
        if not isinstance(manifest, Manifest):
            raise _wrong("it is an index", "a manifest of signatures", "an index")
        found = [layer for layer in manifest.layers if layer.media_type == PAYLOAD_MEDIA_TYPE]
        if len(found) > _MOST_SIGNATURES:
            raise _wrong("there are too many", f"at most {_MOST_SIGNATURES} signatures", str(len(found)))
        signatures = []
        for layer in found:
            # Some tools fold the base64 at 76 characters.
            text = layer.annotations.get(SIGNATURE_ANNOTATION, "").replace("\r", "").replace("\n", "")
            payload = self._registry.blob(self.reference, layer, limit=_LONGEST_PAYLOAD, what="signature payload")
            signatures.append(Signature(payload, canonical_base64(text) or b""))
        return tuple(signatures)


def signature_tag(digest: str) -> str:
    """The tag under which cosign keeps the signatures of `digest`."""
    return f"{digest.replace(':', '-')}.sig"


def verify_signature(signature: Signature, key: PublicKey, subject: Subject, identity: Identity) -> None:
    """Checks 2 to 5 for one signature.

    Raises:
        Permanent: SIGNATURE_WRONG, naming the check.
    """
    key.verify(signature)
    document = parse_object(
        signature.payload, what="signature payload", code=Code.SIGNATURE_WRONG, limit=_LONGEST_PAYLOAD
    )
    critical = document.need("critical")
    if (kind := critical.need("type").text()) != PAYLOAD_TYPE:
        raise _wrong("its payload is of another type", PAYLOAD_TYPE, repr(kind[:100]))
    digest = critical.need("image").need("docker-manifest-digest").text(DIGEST_RULE)
    if digest not in subject.digests:
        raise _wrong("it is for another image", " or ".join(subject.digests), digest)
    claimed = critical.need("identity").need("docker-reference").text(longest=512)
    try:
        name = parse_name(claimed)
    except Permanent:
        raise _wrong("its docker-reference is no name", "a name", repr(claimed[:200])) from None
    identity.verify(asked=subject.reference, claimed=name)


def _wrong(reason: str, expected: str, got: str) -> Permanent:
    return Permanent(
        Code.SIGNATURE_WRONG,
        f"the signature is not good: {reason}",
        expected=expected,
        got=got,
        advice="sign this image, by its digest, with the key that the policy names",
    )


def _bad_key(got: str) -> Permanent:
    return Permanent(
        Code.SIGNATURE_POLICY,
        "the policy's key cannot be used",
        expected="PEM of an ECDSA P-256, Ed25519 or RSA public key of 2,048 bits or more",
        got=got,
        advice="cosign.pub is such a file",
    )
