"""The owner's image policy: which images are admitted, under whose signature, encrypted or not, how big.

The document is containers-policy.json(5), as skopeo, podman and Confidential Containers read it, with one member more,
`enclave-cc`, for what that format cannot say. Format and examples: docs/formats/policies.md. Where readers of the
format differ, this one takes the side that admits less:

- an empty list of requirements refuses the document (image-rs: admits everything);
- `keyData` is PEM or base64 of PEM, because both are written for one reader or the other;
- no `signedIdentity` means matchRepository (image-rs: no check of the name at all);
- `keyPath` is a `kbs:///` URI only: a path would be the host's file;
- requirements that are not implemented (`signedBy`, Fulcio, Rekor) refuse, they never fall through.

Only the transport `docker` is looked at. The rule for an image is the first of: its full name, its repository, each
parent namespace, its host, `*.domain` wildcards, the transport's default "", the document's default.
"""

from __future__ import annotations

import hashlib
from dataclasses import dataclass
from typing import TYPE_CHECKING, Final, Protocol

from orchestrator.faults import Code, Permanent
from workers.enclave.image.document import canonical_base64, parse_object
from workers.enclave.image.identity import parse_identity
from workers.enclave.image.resource import resource_uri
from workers.enclave.image.signature import PublicKey, verify_signature

if TYPE_CHECKING:
    from collections.abc import Mapping

    from workers.enclave.image.document import Node
    from workers.enclave.image.identity import Identity
    from workers.enclave.image.reference import Reference
    from workers.enclave.image.resource import GetResource
    from workers.enclave.image.signature import Subject

LONGEST_POLICY: Final = 1024 * 1024
_MOST_REQUIREMENTS: Final = 16
_MOST_KEYS: Final = 16
_MOST_SCOPES: Final = 4096
_GIB: Final = 1 << 30


@dataclass(frozen=True, slots=True)
class Verdict:
    """Why an image was admitted. `key_fingerprint` is empty where the policy asks for no signature."""

    policy_id: str
    rule: str
    key_fingerprint: str

    def __str__(self) -> str:
        return f"admitted by {self.rule}" + (f" under key {self.key_fingerprint}" if self.key_fingerprint else "")


@dataclass(frozen=True, slots=True)
class Limits:
    """Bounds on what an image may become. Bytes are of uncompressed tar."""

    layers: int = 128
    layer_bytes: int = 16 * _GIB
    image_bytes: int = 32 * _GIB


class Requirement(Protocol):
    """One condition of a rule."""

    @property
    def kind(self) -> str:
        """Its `type` in the document."""
        ...

    def verify(self, subject: Subject, get_resource: GetResource) -> str:
        """Admit, giving the fingerprint of the key that vouches ("" for none), or raise.

        Raises:
            Permanent: SIGNATURE_MISSING, SIGNATURE_WRONG, SIGNATURE_POLICY; what the broker and the registry raise.
            Temporary: what the broker and the registry raise.
        """
        ...


@dataclass(frozen=True, slots=True)
class AcceptAnything:
    """No signature is asked for."""

    kind: str = "insecureAcceptAnything"

    def verify(self, subject: Subject, get_resource: GetResource) -> str:  # noqa: ARG002 - asks for nothing
        """See `Requirement.verify`."""
        return ""


@dataclass(frozen=True, slots=True)
class Refuse:
    """Nothing satisfies it: `reject`, or a condition that cannot be checked here."""

    kind: str
    reason: str

    def verify(self, subject: Subject, get_resource: GetResource) -> str:  # noqa: ARG002 - no key changes it
        """See `Requirement.verify`."""
        raise Permanent(
            Code.SIGNATURE_POLICY,
            f"the image policy refuses {subject.reference}: {self.reason}",
            expected="a rule that admits it",
            got=self.kind,
            advice="add a rule for its repository to the image policy: `enclave-cc policy admit`",
        )


@dataclass(frozen=True, slots=True)
class SigstoreSigned:
    """One good signature under one of the keys. A key is PEM, or the canonical `kbs:///` URI of PEM."""

    keys: tuple[str, ...]
    identity: Identity
    kind: str = "sigstoreSigned"

    def verify(self, subject: Subject, get_resource: GetResource) -> str:
        """See `Requirement.verify`. Where no signature is good, the fault says why the last one was not."""
        keys = [PublicKey.parse(get_resource(key) if key.startswith("kbs:///") else key.encode()) for key in self.keys]
        refusal: Permanent | None = None
        for signature in subject.signatures():
            for key in keys:
                try:
                    verify_signature(signature, key, subject, self.identity)
                except Permanent as fault:
                    # A signature of this key for another name says more than one by a stranger.
                    if refusal is None or "does not verify" in refusal.diagnosis.message:
                        refusal = fault
                else:
                    return key.fingerprint
        raise refusal or Permanent(Code.SIGNATURE_POLICY, "the rule names no key", expected="a key", got="none")


@dataclass(frozen=True, slots=True)
class ImagePolicy:
    """A parsed policy. `policy_id` is `sha256:<hex>` of the document's bytes: what a history can be held against."""

    policy_id: str
    default: tuple[Requirement, ...]
    scopes: Mapping[str, tuple[Requirement, ...]]
    unencrypted: frozenset[str]
    limits: Limits

    @classmethod
    def parse(cls, raw: bytes) -> ImagePolicy:
        """Parse a document of at most 1 MiB.

        Raises:
            Permanent: SIGNATURE_POLICY, naming the place.
        """
        document = parse_object(raw, what="image policy", code=Code.SIGNATURE_POLICY, limit=LONGEST_POLICY)
        default = _requirements(document.need("default"))
        scopes: dict[str, tuple[Requirement, ...]] = {}
        transports = document.get("transports")
        for transport, rules in transports.members().items() if transports else ():
            parsed = {scope: _requirements(rule) for scope, rule in rules.members().items()}
            if transport == "docker":
                scopes = parsed
        ours = document.get("enclave-cc")
        unencrypted, limits = _ours(ours) if ours else (frozenset[str](), Limits())
        document.finish()
        return cls(f"sha256:{hashlib.sha256(raw).hexdigest()}", default, scopes, unencrypted, limits)

    def verify(self, subject: Subject, get_resource: GetResource) -> Verdict:
        """Hold an image to every requirement of its rule.

        Raises:
            Permanent: SIGNATURE_MISSING, SIGNATURE_WRONG, SIGNATURE_POLICY; what the broker and the registry raise.
            Temporary: what the broker and the registry raise.
        """
        name, requirements = self._rule(subject.reference)
        fingerprints = [requirement.verify(subject, get_resource) for requirement in requirements]
        return Verdict(
            self.policy_id,
            f"{name}: {' and '.join(requirement.kind for requirement in requirements)}",
            ",".join(fingerprint for fingerprint in fingerprints if fingerprint),
        )

    def admits_unencrypted(self, reference: Reference) -> bool:
        """Whether this image may have layers that anyone can read."""
        return not self.unencrypted.isdisjoint(scopes_of(reference))

    def _rule(self, reference: Reference) -> tuple[str, tuple[Requirement, ...]]:
        for scope in scopes_of(reference):
            if scope in self.scopes:
                return f"docker {scope or 'default'}", self.scopes[scope]
        return "default", self.default


def scopes_of(reference: Reference) -> tuple[str, ...]:
    """The scopes that can name an image, most particular first (containers/image, docker/policyconfiguration)."""
    scopes = [str(reference)]
    name = reference.repository
    while True:
        scopes.append(name)
        name, slash, _ = name.rpartition("/")
        if not slash:
            break
    domain = reference.host.partition(":")[0]
    while "." in domain:
        domain = domain.partition(".")[2]
        scopes.append(f"*.{domain}")
    return (*scopes, "")


def _requirements(node: Node) -> tuple[Requirement, ...]:
    found = node.elements(most=_MOST_REQUIREMENTS)
    if not found:
        raise node.malformed("at least one requirement", "an empty list, which other readers take for admission")
    return tuple(_requirement(entry) for entry in found)


def _requirement(node: Node) -> Requirement:
    kind = node.need("type")
    match kind.text():
        case "insecureAcceptAnything":
            node.finish()
            return AcceptAnything()
        case "reject":
            node.finish()
            return Refuse("reject", "no rule admits it")
        case "signedBy":
            return Refuse("signedBy", "GPG signatures cannot be checked inside the enclave")
        case "sigstoreSigned":
            requirement = SigstoreSigned(_keys(node), parse_identity(node.get("signedIdentity")))
            node.finish()
            return requirement
        case _:
            raise kind.malformed("a requirement of containers-policy.json", "another type")


def _keys(node: Node) -> tuple[str, ...]:
    data, datas = node.get("keyData"), node.get("keyDatas")
    path, paths = node.get("keyPath"), node.get("keyPaths")
    given = [source for source in (data, datas, path, paths) if source]
    if len(given) != 1:
        raise node.malformed("exactly one of keyData, keyDatas, keyPath, keyPaths", str(len(given)))
    keys = (
        *(_pem(entry) for entry in ([data] if data else datas.elements(most=_MOST_KEYS) if datas else [])),
        *(resource_uri(entry) for entry in ([path] if path else paths.elements(most=_MOST_KEYS) if paths else [])),
    )
    if not keys:
        raise node.malformed("at least one key", "none")
    return keys


def _pem(node: Node) -> str:
    text = node.text()
    if not text.startswith("-----BEGIN"):
        text = (canonical_base64(text) or b"").decode("ascii", errors="replace")
    PublicKey.parse(text.encode())
    return text


def _ours(node: Node) -> tuple[frozenset[str], Limits]:
    scopes, limits = node.get("unencrypted"), node.get("limits")
    unencrypted = (
        frozenset(entry.text() for entry in scopes.elements(most=_MOST_SCOPES)) if scopes else frozenset[str]()
    )
    bounds = Limits()
    if limits:
        names = ("layers", "layer_bytes", "image_bytes")
        given = {name: entry.whole(least=1, most=1 << 50) for name in names if (entry := limits.get(name))}
        limits.finish()
        bounds = Limits(**given)
    node.finish()
    return unencrypted, bounds
