"""Where a plain image comes from: an OCI layout folder, its tar, or a registry.

    oci:FOLDER[:TAG]           an OCI image layout (image-spec, image-layout.md), as skopeo and umoci write it
    oci-archive:FILE[:TAG]     the same in one uncompressed tar
    docker://HOST/PATH:TAG     a registry; the scheme may be left out
    FOLDER or FILE             the first or the second, where it exists

Every blob is compared with its digest: small ones before they are returned, a layer by the encryptor as it streams.
"""

from __future__ import annotations

import re
import tarfile
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Protocol

from orchestrator.faults import Code, Permanent
from workers.enclave.image.manifest import LONGEST_MANIFEST, Index, Manifest, digest_of, parse_manifest
from workers.enclave.image.reference import parse_reference

if TYPE_CHECKING:
    from collections.abc import Callable
    from typing import IO

    from workers.enclave.image.layers import ByteSource
    from workers.enclave.image.manifest import Descriptor, Platform
    from workers.enclave.image.reference import Reference
    from workers.enclave.image.registry import Registry

REF_NAME = "org.opencontainers.image.ref.name"
_ATTACHED = re.compile(r"sha256-[0-9a-f]{64}\.(sig|att|sbom)")


@dataclass(frozen=True, slots=True)
class PlainImage:
    """One image of a source: its manifest, the manifest's digest, and how to read what it names."""

    manifest: Manifest
    digest: str
    source: Source

    def open(self, descriptor: Descriptor) -> ByteSource:
        """A blob as a stream; its digest is the reader's to check."""
        return self.source.open(descriptor)

    def blob(self, descriptor: Descriptor, *, limit: int) -> bytes:
        """A small blob, its digest compared.

        Raises:
            Permanent: IMAGE_MALFORMED, IMAGE_ALTERED; what the source raises.
            Temporary: what the source raises.
        """
        return _whole(self.source, descriptor, limit=limit)


class Source(Protocol):
    """Somewhere images are."""

    def manifest(self, architecture: str) -> tuple[bytes, str]:
        """The manifest for linux on `architecture` and its digest."""
        ...

    def open(self, descriptor: Descriptor) -> ByteSource:
        """A blob as a stream."""
        ...


def open_image(text: str, *, registry: Registry, architecture: str = "amd64") -> PlainImage:
    """The image that `text` names; see the module's docstring.

    Raises:
        Permanent: INPUT, IMAGE_REFERENCE, IMAGE_NOT_FOUND, IMAGE_MALFORMED, IMAGE_ALTERED.
        Temporary: IMAGE_REGISTRY_AWAY.
    """
    source = _source(text, registry)
    raw, digest = source.manifest(architecture)
    manifest = parse_manifest(raw)
    if not isinstance(manifest, Manifest):
        raise Permanent(
            Code.IMAGE_MALFORMED, f"{text} is an index of indices", expected="an image manifest", got=digest
        )
    return PlainImage(manifest, digest, source)


class LayoutSource:
    """An OCI layout: `read` opens a file of it by its path inside."""

    def __init__(self, name: str, read: Callable[[str], IO[bytes]], tag: str | None) -> None:
        self._name = name
        self._read = read
        self._tag = tag

    def manifest(self, architecture: str) -> tuple[bytes, str]:
        """See `Source.manifest`. Without a tag the layout must hold exactly one image."""
        with self._file("index.json") as file:
            raw = file.read(LONGEST_MANIFEST + 1)
        index = parse_manifest(raw)
        if not isinstance(index, Index):
            raise Permanent(
                Code.IMAGE_MALFORMED, f"{self._name}/index.json is no index", expected="an index", got="none"
            )
        chosen = self._choose(index)
        raw = _whole(self, chosen.descriptor, limit=LONGEST_MANIFEST)
        inner = parse_manifest(raw)
        if isinstance(inner, Index):
            wanted = [p for p in inner.platforms if (p.os, p.architecture) == ("linux", architecture)]
            if not wanted:
                raise self._not_found(
                    f"linux/{architecture}", ", ".join(f"{p.os}/{p.architecture}" for p in inner.platforms)
                )
            raw = _whole(self, wanted[0].descriptor, limit=LONGEST_MANIFEST)
        return raw, digest_of(raw)

    def open(self, descriptor: Descriptor) -> ByteSource:
        """See `Source.open`."""
        return self._file(f"blobs/{descriptor.digest.replace(':', '/')}")

    def _choose(self, index: Index) -> Platform:
        names = [entry.descriptor.annotations.get(REF_NAME, "") for entry in index.platforms]
        named = list(zip(index.platforms, names, strict=True))
        if self._tag is None:
            found = [entry for entry, name in named if not is_attached(name)]
        else:
            found = [entry for entry, name in named if name == self._tag]
        if len(found) != 1:
            raise self._not_found(
                f"one image {self._tag or ''}".rstrip(), ", ".join(map(repr, names)) or "an empty layout"
            )
        return found[0]

    def _file(self, path: str) -> IO[bytes]:
        try:
            return self._read(path)
        except (OSError, KeyError):
            raise self._not_found(path, "no such file") from None

    def _not_found(self, expected: str, got: str) -> Permanent:
        return Permanent(
            Code.IMAGE_NOT_FOUND,
            f"the layout {self._name} has not what is asked for",
            expected=expected,
            got=got[:1000],
            advice="name the tag behind a colon: oci:FOLDER:TAG",
        )


def is_attached(name: str) -> bool:
    """Whether a layout's name is cosign's for what is attached to an image: signatures, attestations."""
    return _ATTACHED.fullmatch(name) is not None


class RegistrySource:
    """A registry."""

    def __init__(self, reference: Reference, registry: Registry) -> None:
        self._reference = reference
        self._registry = registry

    def manifest(self, architecture: str) -> tuple[bytes, str]:
        """See `Source.manifest`."""
        found = self._registry.image(self._reference, architecture=architecture)
        return self._registry.manifest(self._reference.pinned(found.digest))

    def open(self, descriptor: Descriptor) -> ByteSource:
        """See `Source.open`."""
        return self._registry.open_blob(self._reference, descriptor)


def _source(text: str, registry: Registry) -> Source:
    scheme, colon, rest = text.partition(":")
    if colon and scheme == "oci":
        return _layout(*_path_and_tag(rest))
    if colon and scheme == "oci-archive":
        return _archive(*_path_and_tag(rest))
    if text.startswith("docker://"):
        return RegistrySource(parse_reference(text.removeprefix("docker://")), registry)
    path = Path(text)
    if path.is_dir():
        return _layout(path, None)
    if path.is_file():
        return _archive(path, None)
    return RegistrySource(parse_reference(text), registry)


def _path_and_tag(text: str) -> tuple[Path, str | None]:
    """Split at the last colon, unless the whole is a path that exists."""
    path, colon, tag = text.rpartition(":")
    return (Path(text), None) if not colon or Path(text).exists() else (Path(path), tag)


def _layout(folder: Path, tag: str | None) -> LayoutSource:
    return LayoutSource(str(folder), lambda path: (folder / path).open("rb"), tag)


def _archive(file: Path, tag: str | None) -> LayoutSource:
    try:
        archive = tarfile.open(file, "r:")  # noqa: SIM115 - open as long as the source is
    except (OSError, tarfile.TarError) as error:
        raise Permanent(
            Code.INPUT,
            f"{file} is no OCI archive",
            expected="an uncompressed tar of an OCI layout",
            got=type(error).__name__,
            advice="write one with: skopeo copy … oci-archive:FILE",
        ) from None
    members = {member.name.removeprefix("./"): member for member in archive.getmembers() if member.isfile()}

    def read(path: str) -> IO[bytes]:
        opened = archive.extractfile(members[path])
        if opened is None:
            raise KeyError(path)
        return opened

    return LayoutSource(str(file), read, tag)


def _whole(source: Source, descriptor: Descriptor, *, limit: int) -> bytes:
    if descriptor.size > limit:
        raise Permanent(
            Code.IMAGE_MALFORMED,
            f"{descriptor.digest} is too long",
            expected=f"at most {limit} bytes",
            got=str(descriptor.size),
        )
    stream = source.open(descriptor)
    try:
        raw = b"".join(iter(lambda: stream.read(1 << 20), b"")) if descriptor.size else b""
    finally:
        stream.close()
    if len(raw) != descriptor.size or digest_of(raw) != descriptor.digest:
        raise Permanent(
            Code.IMAGE_ALTERED, "a blob is not what its digest says", expected=descriptor.digest, got=digest_of(raw)
        )
    return raw
