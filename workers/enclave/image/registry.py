"""What a registry holds of one repository: manifests and blobs (OCI distribution specification 1.1).

Trust: a tag is an answer of the registry and proves nothing; whatever is fetched by digest is compared with it here
(manifests, small blobs) or by the reader who gets the stream (`layers`). After the first manifest every step goes by
digest, so a tag that moves meanwhile changes nothing.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING, Final

from orchestrator.faults import Code, Permanent
from workers.enclave.image.blob import BlobStream
from workers.enclave.image.manifest import (
    DOCKER_INDEX,
    DOCKER_MANIFEST,
    LONGEST_MANIFEST,
    OCI_INDEX,
    OCI_MANIFEST,
    Index,
    Manifest,
    digest_of,
    parse_manifest,
)
from workers.enclave.image.transport import Transport, read_bounded

if TYPE_CHECKING:
    from workers.enclave.image.credentials import Credentials
    from workers.enclave.image.manifest import Descriptor
    from workers.enclave.image.reference import Reference

_ACCEPT: Final = f"{OCI_MANIFEST}, {OCI_INDEX}, {DOCKER_MANIFEST}, {DOCKER_INDEX}"


@dataclass(frozen=True, slots=True)
class FoundImage:
    """One image's manifest and how it was reached. `index_digest` is set where an index led to it."""

    manifest: Manifest
    digest: str
    index_digest: str | None

    @property
    def digests(self) -> tuple[str, ...]:
        """What a signature may vouch for: the manifest, and the index that names it."""
        return (self.digest, self.index_digest) if self.index_digest else (self.digest,)


class Registry:
    """Reads from the registry that a reference names. Safe to use from several threads."""

    def __init__(
        self,
        *,
        ca_pem: str | None = None,
        proxy_url: str | None = None,
        credentials: Credentials | None = None,
        plain_http_loopback: bool = False,
    ) -> None:
        """Prepare; nothing connects yet. The arguments are those of `transport.Transport`."""
        self.transport = Transport(
            ca_pem=ca_pem, proxy_url=proxy_url, credentials=credentials, plain_http_loopback=plain_http_loopback
        )

    def close(self) -> None:
        """Close every connection."""
        self.transport.close()

    def image(self, reference: Reference, *, architecture: str = "amd64") -> FoundImage:
        """The image that `reference` names for linux on `architecture`, through an index if there is one.

        Raises:
            Temporary: IMAGE_REGISTRY_AWAY.
            Permanent: IMAGE_NOT_FOUND, IMAGE_ALTERED (a digest does not fit), IMAGE_MALFORMED.
        """
        raw, digest = self.manifest(reference)
        found = parse_manifest(raw)
        if isinstance(found, Manifest):
            return FoundImage(found, digest, None)
        chosen = _choose(found, reference, architecture)
        raw, inner = self.manifest(reference.pinned(chosen.digest))
        manifest = parse_manifest(raw)
        if not isinstance(manifest, Manifest):
            raise Permanent(
                Code.IMAGE_MALFORMED, "an index names another index", expected="an image manifest", got=chosen.digest
            )
        return FoundImage(manifest, inner, digest)

    def manifest(self, reference: Reference) -> tuple[bytes, str]:
        """The document behind `reference` and its digest: the one asked for, else the one computed here.

        Raises:
            Temporary: IMAGE_REGISTRY_AWAY.
            Permanent: IMAGE_NOT_FOUND, IMAGE_ALTERED, IMAGE_MALFORMED.
        """
        wanted = reference.digest or reference.tag
        url = f"{self._repository_url(reference)}/manifests/{wanted}"
        answer = self.transport.ask("GET", url, scope=_pull(reference), headers={"Accept": _ACCEPT})
        raw = read_bounded(answer, LONGEST_MANIFEST, "image manifest")
        digest = digest_of(raw)
        if reference.digest is not None and digest != reference.digest:
            raise Permanent(
                Code.IMAGE_ALTERED,
                f"the registry answered another manifest than {reference} names",
                expected=reference.digest,
                got=digest,
                advice="the registry, or what speaks for it, is not honest; or its storage is damaged",
            )
        return raw, digest

    def open_blob(self, reference: Reference, descriptor: Descriptor) -> BlobStream:
        """A blob as a stream of at most `descriptor.size` bytes. Its digest is the reader's to check."""
        return BlobStream(
            self.transport,
            f"{self._repository_url(reference)}/blobs/{descriptor.digest}",
            _pull(reference),
            digest=descriptor.digest,
            size=descriptor.size,
        )

    def blob(self, reference: Reference, descriptor: Descriptor, *, limit: int, what: str) -> bytes:
        """A small blob in memory, its digest compared.

        Raises:
            Temporary: IMAGE_REGISTRY_AWAY, IMAGE_TRUNCATED.
            Permanent: IMAGE_MALFORMED (longer than `limit`), IMAGE_ALTERED, IMAGE_TRUNCATED, IMAGE_NOT_FOUND.
        """
        if descriptor.size > limit:
            raise Permanent(
                Code.IMAGE_MALFORMED,
                f"the {what} is too long",
                expected=f"at most {limit} bytes",
                got=str(descriptor.size),
            )
        with self.open_blob(reference, descriptor) as stream:
            raw = stream.read(descriptor.size)
        if digest_of(raw) != descriptor.digest:
            raise Permanent(
                Code.IMAGE_ALTERED,
                f"the {what} is not what its digest says",
                expected=descriptor.digest,
                got=digest_of(raw),
            )
        return raw

    def _repository_url(self, reference: Reference) -> str:
        return f"{self.transport.base_url(reference.registry)}/v2/{reference.path}"


def _pull(reference: Reference) -> str:
    return f"repository:{reference.path}:pull"


def _choose(index: Index, reference: Reference, architecture: str) -> Descriptor:
    """The first entry for linux on `architecture`: the order is the owner's, as containerd reads it."""
    for platform in index.platforms:
        if (platform.os, platform.architecture) == ("linux", architecture):
            return platform.descriptor
    offered = sorted({f"{platform.os}/{platform.architecture}" for platform in index.platforms})
    raise Permanent(
        Code.IMAGE_NOT_FOUND,
        f"{reference} has no image for this machine",
        expected=f"linux/{architecture}",
        got=", ".join(offered)[:500] or "an empty index",
        advice="push the image for this platform",
    )
