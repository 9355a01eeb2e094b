"""OCI index, manifest and image configuration as frozen values (OCI image specification 1.1; Docker schema 2 too).

These documents come from an untrusted registry, and a signature may vouch for them only later, so every count and size
is bounded before anything is built from it. Members that this project has no use for are passed over: the format is
not ours to close.

An index and a manifest are told apart by their members, never by a Content-Type: a document with the members of both
is refused, because two readers would see two images in one digest (CVE-2021-41190).
"""

from __future__ import annotations

import hashlib
import re
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Final

from orchestrator.faults import Code
from workers.enclave.image.document import parse_object
from workers.enclave.image.reference import DIGEST_RULE

if TYPE_CHECKING:
    from collections.abc import Mapping

    from workers.enclave.image.document import Node

OCI_INDEX: Final = "application/vnd.oci.image.index.v1+json"
OCI_MANIFEST: Final = "application/vnd.oci.image.manifest.v1+json"
OCI_CONFIG: Final = "application/vnd.oci.image.config.v1+json"
DOCKER_INDEX: Final = "application/vnd.docker.distribution.manifest.list.v2+json"
DOCKER_MANIFEST: Final = "application/vnd.docker.distribution.manifest.v2+json"
DOCKER_CONFIG: Final = "application/vnd.docker.container.image.v1+json"

LONGEST_MANIFEST: Final = 4 * 1024 * 1024
"""Bytes; what registries commonly accept (distribution specification: at least 4 MiB)."""
LONGEST_CONFIG: Final = 8 * 1024 * 1024
MOST_LAYERS: Final = 512
MOST_MANIFESTS: Final = 512
BIGGEST_BLOB: Final = 1 << 40
"""Bytes. Beyond any layer; keeps sums of sizes far from overflow wherever they go."""

_MEDIA_TYPE: Final = re.compile(
    r"[A-Za-z0-9][A-Za-z0-9!#$&^_.+-]{0,126}/[A-Za-z0-9][A-Za-z0-9!#$&^_.+-]{0,126}", re.ASCII
)
_ENV: Final = re.compile(r"[^=\0]+=[^\0]*")
_NO_NUL: Final = re.compile(r"[^\0]*")
_PORT: Final = re.compile(r"[0-9]{1,5}(?:-[0-9]{1,5})?(?:/(?:tcp|udp|sctp))?", re.ASCII)
_MOST_STRINGS: Final = 4096


@dataclass(frozen=True, slots=True)
class Descriptor:
    """What a manifest says of a blob. `annotations` is read-only by convention; nothing here writes to it."""

    media_type: str
    digest: str
    size: int
    annotations: Mapping[str, str] = field(default_factory=dict)


@dataclass(frozen=True, slots=True)
class Platform:
    """One entry of an index: for which machine it is."""

    os: str
    architecture: str
    variant: str
    descriptor: Descriptor


@dataclass(frozen=True, slots=True)
class Index:
    """Images of one name for several machines."""

    platforms: tuple[Platform, ...]


@dataclass(frozen=True, slots=True)
class Manifest:
    """One image: its configuration and its layers, lowest first."""

    config: Descriptor
    layers: tuple[Descriptor, ...]
    annotations: Mapping[str, str] = field(default_factory=dict)


@dataclass(frozen=True, slots=True)
class ImageConfig:
    """What an image says of its own process, and the digests of its uncompressed layers, lowest first."""

    architecture: str
    os: str
    diff_ids: tuple[str, ...]
    env: tuple[str, ...] = ()
    entrypoint: tuple[str, ...] = ()
    cmd: tuple[str, ...] = ()
    working_dir: str = ""
    user: str = ""
    exposed_ports: tuple[str, ...] = ()
    stop_signal: str = ""

    @property
    def argv(self) -> tuple[str, ...]:
        """The image's own command line: entry point, then arguments."""
        return self.entrypoint + self.cmd


def digest_of(raw: bytes) -> str:
    """`sha256:<hex>` of `raw`."""
    return f"sha256:{hashlib.sha256(raw).hexdigest()}"


def parse_manifest(raw: bytes) -> Manifest | Index:
    """Parse an index or a manifest.

    Raises:
        Permanent: IMAGE_MALFORMED, naming the place.
    """
    document = parse_object(raw, what="image manifest", code=Code.IMAGE_MALFORMED, limit=LONGEST_MANIFEST)
    document.need("schemaVersion").whole(least=2, most=2)
    manifests, config, layers = document.get("manifests"), document.get("config"), document.get("layers")
    media_type = document.get("mediaType")
    said = media_type.text() if media_type else None
    if manifests is not None:
        if config is not None or layers is not None:
            raise document.malformed("an index or a manifest", "the members of both")
        if said not in {None, OCI_INDEX, DOCKER_INDEX}:
            raise document.malformed("the media type of an index", repr(said))
        return Index(tuple(_platform(entry) for entry in manifests.elements(most=MOST_MANIFESTS)))
    if said not in {None, OCI_MANIFEST, DOCKER_MANIFEST}:
        raise document.malformed("the media type of an image manifest", repr(said))
    return Manifest(
        _descriptor(document.need("config")),
        tuple(_descriptor(layer) for layer in document.need("layers").elements(most=MOST_LAYERS)),
        _annotations(document.get("annotations")),
    )


def parse_config(raw: bytes) -> ImageConfig:
    """Parse an image configuration (OCI image specification, config.md).

    Raises:
        Permanent: IMAGE_MALFORMED, naming the place.
    """
    document = parse_object(raw, what="image configuration", code=Code.IMAGE_MALFORMED, limit=LONGEST_CONFIG)
    rootfs = document.need("rootfs")
    if rootfs.need("type").text() != "layers":
        raise rootfs.malformed('type "layers"', "another type")
    diff_ids = tuple(entry.text(DIGEST_RULE) for entry in rootfs.need("diff_ids").elements(most=MOST_LAYERS))
    architecture, system = document.need("architecture").text(), document.need("os").text()
    process = document.get("config")
    if process is None:
        return ImageConfig(architecture, system, diff_ids)
    ports = process.get("ExposedPorts")
    for name, port in ports.members().items() if ports else ():
        if not _PORT.fullmatch(name):
            raise port.malformed("a port with its protocol, 80/tcp", "another name")
    return ImageConfig(
        architecture,
        system,
        diff_ids,
        env=_texts(process.get("Env"), _ENV),
        entrypoint=_texts(process.get("Entrypoint"), _NO_NUL),
        cmd=_texts(process.get("Cmd"), _NO_NUL),
        working_dir=_text(process.get("WorkingDir")),
        user=_text(process.get("User")),
        exposed_ports=tuple(sorted(ports.members())) if ports else (),
        stop_signal=_text(process.get("StopSignal")),
    )


def _platform(entry: Node) -> Platform:
    platform = entry.get("platform")
    if platform is None:
        return Platform("", "", "", _descriptor(entry))
    return Platform(
        _text(platform.get("os")),
        _text(platform.get("architecture")),
        _text(platform.get("variant")),
        _descriptor(entry),
    )


def _descriptor(entry: Node) -> Descriptor:
    return Descriptor(
        entry.need("mediaType").text(_MEDIA_TYPE),
        entry.need("digest").text(DIGEST_RULE),
        entry.need("size").whole(most=BIGGEST_BLOB),
        _annotations(entry.get("annotations")),
    )


def _annotations(entry: Node | None) -> dict[str, str]:
    return {name: value.text() for name, value in entry.members().items()} if entry else {}


def _texts(entry: Node | None, pattern: re.Pattern[str]) -> tuple[str, ...]:
    return tuple(item.text(pattern) for item in entry.elements(most=_MOST_STRINGS)) if entry else ()


def _text(entry: Node | None) -> str:
    return entry.text(_NO_NUL, longest=4096) if entry else ""
