"""A payload as an OCI image layout: checked against its digests, and unpacked.

Zone: host. May import: `orchestrator.faults`, the standard library.

Source: OCI image-spec 1.1, image-layout.md, manifest.md. Every blob is the one that is named, from `index.json` down;
an index is followed to linux/amd64. Of a layer regular files and folders are taken, by paths that stay inside: it
has nothing else. What is unpacked is checked again by its own `payload.json`.
"""

from __future__ import annotations

import hashlib
import json
import re
import shutil
import tarfile
import tempfile
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from pathlib import Path
from typing import Any, Final

from orchestrator.faults import Code, Permanent

MARK: Final = "oci-layout"
_DIGEST: Final = re.compile(r"sha256:([0-9a-f]{64})", re.ASCII)
_REF_NAME: Final = "org.opencontainers.image.ref.name"
_ATTACHED: Final = re.compile(r"sha256-[0-9a-f]{64}\.(sig|att|sbom)", re.ASCII)
_INDEX: Final = "application/vnd.oci.image.index.v1+json"
_PLATFORM: Final = {"os": "linux", "architecture": "amd64"}
_MAX_DOCUMENT: Final = 4 << 20
_MAX_UNPACKED: Final = 4 << 30
"""Bytes: some twenty payloads."""


@contextmanager
def unpacked(layout: Path, digest: str = "") -> Iterator[tuple[Path, str]]:
    """The payload's folder for as long as it is wanted, and its manifest's digest. With `digest`, no other image.

    Raises Permanent(NODE_PAYLOAD).
    """
    with tempfile.TemporaryDirectory(prefix="enclave-cc-payload-") as scratch:
        folder = Path(scratch)
        try:
            found, manifest = _manifest(layout)
            if digest not in ("", found):
                raise _not_one(f"manifest {digest}", found)
            for layer in manifest["layers"]:
                _extract(_blob(layout, layer), folder)
        except (OSError, ValueError, KeyError, TypeError, AttributeError, tarfile.TarError) as error:
            raise _not_one(
                "an OCI layout with one image for linux/amd64", f"{type(error).__name__}: {error}"
            ) from error
        yield folder, found


def _manifest(layout: Path) -> tuple[str, Mapping[str, Any]]:
    document = json.loads((layout / "index.json").read_bytes()[:_MAX_DOCUMENT])
    descriptor = {"mediaType": _INDEX}
    while descriptor["mediaType"] == _INDEX:
        images = [one for one in document["manifests"] if not _is_attached(one)]
        fitting = [one for one in images if one.get("platform", _PLATFORM).items() >= _PLATFORM.items()]
        if len(fitting) != 1:
            raise ValueError(f"{len(fitting)} images for linux/amd64")
        (descriptor,) = fitting
        document = json.loads(_blob(layout, descriptor).read_bytes()[:_MAX_DOCUMENT])
    return str(descriptor["digest"]), document


def _is_attached(descriptor: Mapping[str, Any]) -> bool:
    """Signatures and attestations that travel with the layout, under cosign's tags."""
    return _ATTACHED.fullmatch(descriptor.get("annotations", {}).get(_REF_NAME, "")) is not None


def _blob(layout: Path, descriptor: Mapping[str, Any]) -> Path:
    match = _DIGEST.fullmatch(descriptor["digest"])
    if match is None:
        raise ValueError(f"{descriptor['digest']!r} is no digest")
    path = layout / "blobs/sha256" / match[1]
    with path.open("rb") as file:
        found = hashlib.file_digest(file, "sha256").hexdigest()
    if found != match[1]:
        raise ValueError(f"the blob {match[0]} is sha256:{found}")
    return path


def _extract(layer: Path, folder: Path) -> None:
    left = _MAX_UNPACKED
    with tarfile.open(layer) as archive:  # plain or gzip, as it says itself
        for entry in archive:
            parts = Path(entry.name).parts
            if entry.name.startswith("/") or ".." in parts or not (entry.isreg() or entry.isdir()):
                raise ValueError(f"{entry.name} is no file or folder of a payload")
            target = folder / entry.name
            left -= entry.size
            if left < 0:
                raise ValueError(f"more than {_MAX_UNPACKED} bytes")
            if entry.isdir():
                target.mkdir(parents=True, exist_ok=True)
                continue
            target.parent.mkdir(parents=True, exist_ok=True)
            source = archive.extractfile(entry)
            if source is not None:
                with source, target.open("wb") as written:
                    shutil.copyfileobj(source, written)
                target.chmod(entry.mode & 0o777)


def _not_one(expected: str, got: str) -> Permanent:
    return Permanent(
        Code.NODE_PAYLOAD,
        "the image cannot be used",
        expected=expected,
        got=got[:500],
        advice="nothing of it is used: fetch the released payload again, by its digest",
    )
