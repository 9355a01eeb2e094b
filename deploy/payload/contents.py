"""A payload opened and checked: from an OCI layout, a registry, or a folder that it was unpacked to.

Zone: owner. May import: `deploy.payload.image`, `deploy.publish`, `workers.{enclave.image,host.libos}`,
`orchestrator.faults`, `schemas`.

1. Every layer of an image is what its manifest names.
2. payload.json has its form.
3. The files are exactly those that it names: none missing, none more, each with its content, size and mode.
4. Each bundle measures to what it says.

Whose payload it is, a signature says: `vouched`.
"""

from __future__ import annotations

import gzip
import hashlib
import io
import json
import re
import tarfile
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from tempfile import TemporaryDirectory
from typing import Final

from deploy.payload.image import FORMAT, LIBOS, MANIFEST
from deploy.publish.source import PlainImage, open_image
from orchestrator.faults import Code, Permanent
from schemas.strict_json import JsonObject, Malformed, integer, nested, parse_object, text
from workers.enclave.image.registry import Registry
from workers.host.libos.sim.measurement import measure_image

_LARGEST_LAYER: Final = 1 << 30
_LARGEST_MANIFEST: Final = 16 << 20
_PATH: Final = re.compile(r"(?!/)(?!.*(^|/)\.{0,2}(/|$))[\x21-\x7e]+")
_MODES: Final = ("0644", "0755")


@dataclass(frozen=True, slots=True)
class Listed:
    """A file as payload.json names it."""

    mode: str
    sha256: str
    size: int


@dataclass(frozen=True, slots=True)
class Contents:
    """A payload in `folder`. `digest` is its image's, empty for a folder. `measurements`: bundle's path to hex."""

    folder: Path
    digest: str
    version: str
    platform: str
    measurements: dict[str, str]
    files: dict[str, Listed]


@contextmanager
def opened(name: str, registry: Registry) -> Iterator[Contents]:
    """The payload that `name` names (see `deploy.publish.source`, and a folder with payload.json), checks 1 to 3 done.

    Raises:
        Permanent: INPUT, where it is none or was altered; IMAGE_ALTERED, IMAGE_NOT_FOUND.
        Temporary: IMAGE_REGISTRY_AWAY.
    """
    folder = Path(name)
    if (folder / MANIFEST).is_file():
        yield _read(folder, "")
        return
    image = open_image(name, registry=registry)
    with TemporaryDirectory(prefix="enclave-cc-payload-") as scratch:
        _unpack(image, Path(scratch))
        yield _read(Path(scratch), image.digest)


def verify_measurements(contents: Contents) -> None:
    """Check 4. Raises Permanent(AGENT_MEASUREMENT); what `measure_image` raises."""
    for path, said in contents.measurements.items():
        measured = measure_image(contents.folder / path).mrenclave.hex()
        if measured != said:
            raise Permanent(Code.AGENT_MEASUREMENT, f"{path} measures to something else", expected=said, got=measured)


def _unpack(image: PlainImage, folder: Path) -> None:
    """Check 1, and nothing but files and folders."""
    for layer in image.manifest.layers:
        raw = gzip.decompress(image.blob(layer, limit=_LARGEST_LAYER))
        with tarfile.open(fileobj=io.BytesIO(raw)) as archive:
            for entry in archive:
                if not _PATH.fullmatch(entry.name) or not (entry.isreg() or entry.isdir()):
                    raise _altered("a layer holds something else than files and folders", "files", entry.name[:200])
                place = folder / entry.name
                if entry.isdir():
                    place.mkdir(parents=True, exist_ok=True)
                    continue
                place.parent.mkdir(parents=True, exist_ok=True)
                member = archive.extractfile(entry)
                place.write_bytes(member.read() if member else b"")
                place.chmod(entry.mode & 0o7777)


def _read(folder: Path, digest: str) -> Contents:
    """Checks 2 and 3."""
    try:
        raw = (folder / MANIFEST).read_bytes()
        contents = _parse(raw, folder, digest)
    except (OSError, Malformed, ValueError) as error:
        raise _altered("payload.json cannot be used", f"format {FORMAT}", str(error)) from error
    there = {str(path.relative_to(folder)) for path in folder.rglob("*") if path.is_symlink() or not path.is_dir()}
    if more := sorted(there - contents.files.keys() - {MANIFEST}):
        raise _altered("the payload holds a file that it does not name", "the files of payload.json", more[0])
    for name, listed in contents.files.items():
        path = folder / name
        if path.is_symlink() or not path.is_file():
            raise _altered(f"the payload lacks {name}", "a regular file", "none")
        with path.open("rb") as file:
            found = Listed(
                f"{path.stat().st_mode & 0o7777:04o}",
                hashlib.file_digest(file, "sha256").hexdigest(),
                path.stat().st_size,
            )
        if found != listed:
            raise _altered(f"{name} of the payload is another file", str(listed), str(found))
    return contents


def _parse(raw: bytes, folder: Path, digest: str) -> Contents:
    if len(raw) > _LARGEST_MANIFEST:
        raise Malformed(f"more than {_LARGEST_MANIFEST} bytes")
    document = parse_object(raw)
    if integer(document, "format") != FORMAT:
        raise Malformed("another format")
    listed = document.get("files")
    if not isinstance(listed, list):
        raise Malformed("files: an array is expected")
    files: dict[str, Listed] = {}
    for member in listed:
        if not isinstance(member, dict):
            raise Malformed("files: objects are expected")
        path, mode = text(member, "path"), text(member, "mode")
        if not _PATH.fullmatch(path) or path in files or mode not in _MODES:
            raise Malformed(f"files: {json.dumps(path)[:200]} with mode {mode[:20]}")
        files[path] = Listed(mode, text(member, "sha256"), integer(member, "size"))
    bundles = nested(nested(document, "bundles"), LIBOS)
    measurements = {text(part, "path"): text(part, "measurement") for part in _parts(bundles)}
    if not measurements or measurements.keys() - files.keys():
        raise Malformed("bundles: one is no file of the payload")
    return Contents(folder, digest, text(document, "version"), text(document, "platform"), measurements, files)


def _parts(bundles: JsonObject) -> list[JsonObject]:
    return [nested(bundles, name) for name in bundles]


def _altered(message: str, expected: str, got: str) -> Permanent:
    return Permanent(
        Code.INPUT,
        message,
        expected=expected[:500],
        got=got[:500],
        advice="nothing of it may be used: fetch the released payload again, by its digest",
    )
