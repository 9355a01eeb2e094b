"""A payload's folder: what it says of itself, checked, and copied to its place.

Zone: host. May import: `deploy.node.{durable,places}`, `workers.host.libos.sim.measurement`, `orchestrator.faults`.

The folder is the root of the payload's image (deploy/payload): `payload.json` names every file with its digest. Checked
before a payload is used: 1. the form of `payload.json`; 2. every file is the one that it names; 3. each bundle measures
to what it says. The digest of the image is the caller's to know (a kubelet pulled by it); without one the payload goes
by the digest of its `payload.json`, which names everything in it.
"""

from __future__ import annotations

import hashlib
import json
import os
import re
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Final

from deploy.node import durable
from orchestrator.faults import Code, Permanent
from workers.host.libos.sim.measurement import measure_image

MANIFEST: Final = "payload.json"
SBOM: Final = "sbom.spdx.json"
_DIGEST: Final = re.compile(r"sha256:[0-9a-f]{64}", re.ASCII)
_HEX: Final = re.compile(r"[0-9a-f]{64}", re.ASCII)
_PATH: Final = re.compile(r"(?!/)(?!.*(^|/)\.\.?(/|$))[^\0]+", re.ASCII)
_MAX_MANIFEST: Final = 16 << 20
_CHUNK: Final = 1 << 20


@dataclass(frozen=True, slots=True)
class PayloadFile:
    """A regular file: `mode` as chmod takes it, `sha256` in hex. A link has a `target` instead."""

    path: str
    mode: int
    sha256: str
    size: int
    target: str = ""


@dataclass(frozen=True, slots=True)
class Payload:
    """What a payload says of itself. `measurements`: LibOS, bundle, hex."""

    digest: str
    version: str
    measurements: dict[str, dict[str, str]]
    bundles: dict[str, dict[str, str]]
    files: tuple[PayloadFile, ...]

    @property
    def size(self) -> int:
        """Bytes of all its files."""
        return sum(file.size for file in self.files)


def read(folder: Path, digest: str = "") -> Payload:
    """The payload in `folder`. Raises Permanent(NODE_PAYLOAD)."""
    try:
        content = (folder / MANIFEST).read_bytes()
        document = json.loads(content) if len(content) <= _MAX_MANIFEST else None
        payload = _parse(document, digest or f"sha256:{hashlib.sha256(content).hexdigest()}")
    except (OSError, ValueError, KeyError, TypeError, AttributeError, RecursionError) as error:
        raise _not_one(
            f"{folder / MANIFEST} cannot be used", "payload.json, format 1", f"{type(error).__name__}: {error}"
        ) from error
    return payload


def copy(payload: Payload, source: Path, target: Path) -> None:
    """Put the payload at `target`, checked while it is read; there whole or not at all. Raises as `verify`."""
    if target.exists():
        return
    partial = durable.leftover(target)
    durable.remove_tree(partial)
    partial.mkdir(parents=True)
    for name in (MANIFEST, SBOM):
        if (source / name).exists():
            durable.write(partial / name, (source / name).read_bytes())
    for file in payload.files:
        if file.path in {MANIFEST, SBOM}:
            continue
        place = partial / file.path
        place.parent.mkdir(parents=True, exist_ok=True)
        if file.target:
            place.symlink_to(file.target)
        else:
            _copy_file(file, source / file.path, place)
    verify(payload, partial)
    os.sync()  # thousands of files: one sync of the file system, not one for each
    partial.rename(target)
    durable.sync_directory(target.parent)


def verify(payload: Payload, folder: Path) -> None:
    """Every file is the one that is named; every bundle measures to what it says. Raises Permanent(NODE_PAYLOAD)."""
    for file in payload.files:
        path = folder / file.path
        if file.target:
            if not path.is_symlink() or str(path.readlink()) != file.target:
                raise _not_one(f"{file.path} of the payload is another link", file.target, "another, or none")
        elif not path.is_file() or path.is_symlink():
            raise _not_one(f"{file.path} of the payload is missing", "a regular file", "none")
        elif (found := _sha256(path)) != file.sha256:
            raise _not_one(f"{file.path} of the payload is another file", file.sha256, found)
    for libos, bundles in payload.bundles.items():
        for name, place in bundles.items():
            said = payload.measurements[libos][name]
            measured = measure_image(folder / place).mrenclave.hex() if libos == "sim" else said
            if measured != said:
                raise _not_one(f"the bundle {place} measures to something else than it says", said, measured)


def _copy_file(file: PayloadFile, source: Path, target: Path) -> None:
    digest = hashlib.sha256()
    with source.open("rb") as read, target.open("xb") as written:
        for chunk in _chunks(read):
            digest.update(chunk)
            written.write(chunk)
    if digest.hexdigest() != file.sha256:
        raise _not_one(f"{file.path} of the payload is another file", file.sha256, digest.hexdigest())
    target.chmod(file.mode)


def _sha256(path: Path) -> str:
    digest = hashlib.sha256()
    with path.open("rb") as file:
        for chunk in _chunks(file):
            digest.update(chunk)
    return digest.hexdigest()


def _chunks(file: Any) -> Iterator[bytes]:
    while chunk := file.read(_CHUNK):
        yield chunk


def _parse(document: Any, digest: str) -> Payload:
    if document["format"] != 1 or not _DIGEST.fullmatch(digest):
        raise ValueError("another format, or no digest")
    bundles: dict[str, dict[str, str]] = {}
    measurements: dict[str, dict[str, str]] = {}
    for libos, parts in document["bundles"].items():
        bundles[libos] = {name: _checked(_PATH, part["path"]) for name, part in parts.items()}
        measurements[libos] = {name: _checked(_HEX, part["measurement"]) for name, part in parts.items()}
    return Payload(
        digest, str(document["version"]), measurements, bundles, tuple(_file(file) for file in document["files"])
    )


def _file(member: Any) -> PayloadFile:
    path = _checked(_PATH, member["path"])
    if "target" in member:
        return PayloadFile(path, 0o777, "", 0, _checked(_PATH, member["target"]))
    mode = member["mode"]
    mode = int(mode, 8) if isinstance(mode, str) else mode
    if not isinstance(mode, int) or mode & ~0o777:
        raise ValueError(f"{path} has a mode that no file of ours has")
    return PayloadFile(path, mode, _checked(_HEX, member["sha256"]), int(member["size"]))


def _checked(form: re.Pattern[str], value: Any) -> str:
    if not isinstance(value, str) or not form.fullmatch(value):
        raise ValueError(f"{value!r} is not of its form")
    return value


def _not_one(message: str, expected: str, got: str) -> Permanent:
    return Permanent(
        Code.NODE_PAYLOAD,
        message,
        expected=expected,
        got=got[:500],
        advice="nothing of it is used: fetch the released payload again, by its digest",
    )
