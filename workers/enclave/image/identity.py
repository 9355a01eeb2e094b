"""Which names a signature may carry for the image that was asked for (containers-policy.json(5), `signedIdentity`).

A signature says "this digest is that name". Without a rule for the name, a good signature on an old or another image of
the same owner would do for this one. Cosign writes the repository without a tag, so `matchRepository` is the default
here; containers/image defaults to matchRepoDigestOrExact, which refuses every signature that cosign makes by key.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING, Final, Protocol

from orchestrator.faults import Code, Permanent
from workers.enclave.image.reference import Reference, parse_name

if TYPE_CHECKING:
    from workers.enclave.image.document import Node


class Identity(Protocol):
    """A rule for the claimed name."""

    @property
    def kind(self) -> str:
        """The rule's name in the policy."""
        ...

    def verify(self, *, asked: Reference, claimed: Reference) -> None:
        """Accept, or raise.

        Raises:
            Permanent: SIGNATURE_WRONG, with both names.
        """
        ...


@dataclass(frozen=True, slots=True)
class MatchRepository:
    """The same repository; tag and digest do not matter."""

    kind: str = "matchRepository"

    def verify(self, *, asked: Reference, claimed: Reference) -> None:
        """See `Identity.verify`."""
        _same(asked.repository, claimed.repository, self.kind)


@dataclass(frozen=True, slots=True)
class MatchExact:
    """The same repository and tag. An image asked for by digest has no tag to compare, so it never matches."""

    kind: str = "matchExact"

    def verify(self, *, asked: Reference, claimed: Reference) -> None:
        """See `Identity.verify`."""
        if asked.tag is None or claimed.tag is None:
            raise _other(f"{asked.repository}:<tag>, and asked for by tag", str(claimed), self.kind)
        _same(str(asked), str(claimed), self.kind)


@dataclass(frozen=True, slots=True)
class MatchRepoDigestOrExact:
    """By tag: the same repository and tag. By digest: the same repository."""

    kind: str = "matchRepoDigestOrExact"

    def verify(self, *, asked: Reference, claimed: Reference) -> None:
        """See `Identity.verify`."""
        if asked.digest is not None:
            _same(asked.repository, claimed.repository, self.kind)
        else:
            _same(str(asked), str(claimed), self.kind)


@dataclass(frozen=True, slots=True)
class ExactReference:
    """One name with its tag, whatever was asked for: for images that are served under another name."""

    reference: Reference
    kind: str = "exactReference"

    def verify(self, *, asked: Reference, claimed: Reference) -> None:  # noqa: ARG002 - the rule names the name itself
        """See `Identity.verify`."""
        _same(str(self.reference), str(claimed), self.kind)


@dataclass(frozen=True, slots=True)
class ExactRepository:
    """One repository, whatever was asked for."""

    repository: str
    kind: str = "exactRepository"

    def verify(self, *, asked: Reference, claimed: Reference) -> None:  # noqa: ARG002 - the rule names the name itself
        """See `Identity.verify`."""
        _same(self.repository, claimed.repository, self.kind)


@dataclass(frozen=True, slots=True)
class RemapIdentity:
    """A mirror: where the asked name lies under `prefix`, the claimed one lies under `signed_prefix`.

    A prefix ends at a '/': `quay.io/foo` is no prefix of `quay.io/foobar`.
    """

    prefix: str
    signed_prefix: str
    kind: str = "remapIdentity"

    def verify(self, *, asked: Reference, claimed: Reference) -> None:
        """See `Identity.verify`."""
        if f"{asked.repository}/".startswith(f"{self.prefix}/"):
            moved = parse_name(self.signed_prefix + asked.repository.removeprefix(self.prefix))
            asked = Reference(moved.host, moved.path, asked.tag, asked.digest)
        MatchRepoDigestOrExact(self.kind).verify(asked=asked, claimed=claimed)


DEFAULT_IDENTITY: Final[Identity] = MatchRepository()


def parse_identity(node: Node | None) -> Identity:
    """The rule in a requirement's `signedIdentity`; `matchRepository` where there is none.

    Raises:
        Permanent: the document's code, for a rule that containers-policy.json does not know.
    """
    if node is None:
        return DEFAULT_IDENTITY
    kind = node.need("type")
    rule: Identity
    match kind.text():
        case "matchRepository":
            rule = MatchRepository()
        case "matchExact":
            rule = MatchExact()
        case "matchRepoDigestOrExact":
            rule = MatchRepoDigestOrExact()
        case "exactReference":
            rule = ExactReference(_name(node.need("dockerReference")))
        case "exactRepository":
            rule = ExactRepository(_name(node.need("dockerRepository")).repository)
        case "remapIdentity":
            rule = RemapIdentity(node.need("prefix").text().rstrip("/"), node.need("signedPrefix").text().rstrip("/"))
        case _:
            raise kind.malformed("a signedIdentity of containers-policy.json", "another type")
    node.finish()
    return rule


def _name(node: Node) -> Reference:
    text = node.text(longest=512)
    try:
        return parse_name(text)
    except Permanent as fault:
        raise node.malformed(fault.diagnosis.expected, ascii(text[:200])) from None


def _same(expected: str, got: str, kind: str) -> None:
    if expected != got:
        raise _other(expected, got, kind)


def _other(expected: str, got: str, kind: str) -> Permanent:
    return Permanent(
        Code.SIGNATURE_WRONG,
        f"the signature is for another name than {kind} accepts",
        expected=expected,
        got=got,
        advice="sign the image under the name it is pulled by, or say in the policy which name it is signed under",
    )
