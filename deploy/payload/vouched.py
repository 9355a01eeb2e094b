"""Whose payload it is: signatures beside it, in a registry or in its layout, and the reference values that come along.

Zone: owner. May import: `deploy.payload.{attached,contents,image,inputs}`, `deploy.publish`, `workers.enclave.image`,
`orchestrator.faults`, `schemas`.
"""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import dataclass
from pathlib import Path, PurePosixPath
from typing import Final

from deploy.payload.attached import Layout
from deploy.payload.contents import Contents
from deploy.payload.image import INPUTS
from deploy.publish import references
from deploy.publish.references import References
from orchestrator.faults import Code, Permanent
from schemas.strict_json import nested, parse_object, text
from workers.enclave.image.identity import DEFAULT_IDENTITY, Identity
from workers.enclave.image.manifest import Manifest, parse_manifest
from workers.enclave.image.reference import Reference
from workers.enclave.image.registry import Registry
from workers.enclave.image.signature import PublicKey, Signature, Subject, signature_tag, verify_signature


@dataclass(frozen=True, slots=True)
class AnyName:
    """Whatever name was signed: for a folder, which has none. The digest says which payload it is."""

    kind: str = "anyName"

    def verify(self, *, asked: Reference, claimed: Reference) -> None:
        """See `Identity.verify`: never refuses."""


_NOWHERE: Final = Reference("layout.invalid", "payload", None, None)


def signed_by(
    key: PublicKey, reference: Reference, digest: str, registry: Registry, identity: Identity = DEFAULT_IDENTITY
) -> None:
    """Return where the registry holds a good signature of `key` for that digest under that name.

    Raises:
        Permanent: SIGNATURE_MISSING; SIGNATURE_WRONG, of the last signature that was looked at.
        Temporary: IMAGE_REGISTRY_AWAY.
    """
    subject = Subject(reference, (digest,), registry)
    _one_is_good(subject.signatures(), key, subject, identity)


def signed_in(key: PublicKey, layout: Layout, registry: Registry, identity: Identity) -> None:
    """The same of a layout, for its manifest, without asking anybody. Raises Permanent as `signed_by`."""
    (digest,) = layout.manifests
    signatures = layout.signatures(digest)
    if not signatures:
        raise Permanent(
            Code.SIGNATURE_MISSING,
            "the layout brings no signature of its payload",
            expected=f"an image {signature_tag(digest)} in its index.json",
            got="none",
            advice="sign it where it was built: enclave-cc payload sign; and copy the whole folder",
        )
    _one_is_good(signatures, key, Subject(_NOWHERE, (digest,), registry), identity)


def described(contents: Contents, layout: Layout, issued: str) -> References:
    """The reference values of a payload whose bundles were measured; `contents` is what `layout` holds."""
    measurements: dict[str, dict[str, str]] = {}
    for path, measurement in contents.measurements.items():
        place = PurePosixPath(path)
        measurements.setdefault(place.parent.name, {})[place.stem] = measurement
    return References(contents.digest, contents.version, issued, inputs_of(layout), measurements)


def agree(document: References, contents: Contents, layout: Layout) -> None:
    """Return where they are this payload's. Raises Permanent(REFERENCES_ALTERED)."""
    own = described(contents, layout, document.issued)
    if document != own:
        raise Permanent(
            Code.REFERENCES_ALTERED,
            "the signed reference values are not this payload's",
            expected=f"of {own.payload}: {own.measurements}",
            got=f"of {document.payload}: {document.measurements}"[:1000],
            advice="the layout was put together from two payloads: fetch the released one again",
        )


def verified_references(key: PublicKey, contents: Contents, layout: Layout) -> References | None:
    """Those that came with the layout; None where none did. Raises Permanent(REFERENCES_*)."""
    envelope = layout.references()
    if envelope is None:
        return None
    document = references.verify(envelope, key)
    agree(document, contents, layout)
    return document


def inputs_of(layout: Layout) -> str:
    """The digest of the list of what the payload was built from. Raises Permanent(IMAGE_MALFORMED)."""
    manifest = parse_manifest(layout.blob(layout.manifests[0]))
    if not isinstance(manifest, Manifest):
        raise Permanent(Code.IMAGE_MALFORMED, "an index of indices", expected="a manifest", got=layout.manifests[0])
    try:
        document = parse_object(layout.blob(manifest.config.digest))
        return text(nested(nested(document, "config"), "Labels"), INPUTS)
    except ValueError as error:
        raise Permanent(
            Code.IMAGE_MALFORMED, "the payload does not say what it was built from", expected=INPUTS, got=str(error)
        ) from error


def layout_of(name: str) -> Path | None:
    """The folder of an OCI layout that `name` names; None for anything else."""
    folder = Path(name.removeprefix("oci:"))
    return folder if (folder / "oci-layout").is_file() else None


def _one_is_good(signatures: Iterable[Signature], key: PublicKey, subject: Subject, identity: Identity) -> None:
    wrong: Permanent | None = None
    for signature in signatures:
        try:
            verify_signature(signature, key, subject, identity)
        except Permanent as fault:
            wrong = fault
        else:
            return
    if wrong is not None:
        raise wrong
