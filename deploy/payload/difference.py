"""Two payloads: which files differ, inside their bundles too, and what that does to the measurements.

Zone: owner. May import: `deploy.payload.contents`, `orchestrator.faults`; runs fsck.erofs.
"""

from __future__ import annotations

import hashlib
import subprocess
from collections.abc import Iterator, Mapping
from pathlib import Path
from tempfile import TemporaryDirectory

from deploy.payload.contents import Contents
from orchestrator.faults import Code, Permanent


def differences(one: Contents, other: Contents) -> Iterator[str]:
    """A line for each, none where the payloads hold the same.

    `+ PATH`, `- PATH` and `* PATH` for a file that came, went or changed; those inside a bundle stand below it, and
    what it measures to before and after.
    """
    if one.version != other.version:
        yield f"version {one.version} -> {other.version}"
    for sign, path in _changes(one.files, other.files):
        yield f"{sign} {path}"
        before, after = one.measurements.get(path), other.measurements.get(path)
        if sign == "*" and before and after:
            inner = _changes(_inside(one.folder / path), _inside(other.folder / path))
            yield from (f"    {inner_sign} {name}" for inner_sign, name in inner)
            yield f"    measurement {before} -> {after}"


def _changes(before: Mapping[str, object], after: Mapping[str, object]) -> Iterator[tuple[str, str]]:
    for name in sorted({*before, *after}):
        if name not in before:
            yield "+", name
        elif name not in after:
            yield "-", name
        elif before[name] != after[name]:
            yield "*", name


def _inside(image: Path) -> dict[str, tuple[int, str]]:
    """Of each file of a bundle its mode, and the digest of what it holds (of a link, of where it leads)."""
    with TemporaryDirectory(prefix="enclave-cc-bundle-") as scratch:
        root = Path(scratch) / "root"
        told = subprocess.run(
            ["fsck.erofs", f"--extract={root}", image], capture_output=True, text=True, check=False, timeout=120
        )
        if told.returncode:
            raise Permanent(
                Code.INPUT,
                f"{image.name} cannot be looked into",
                expected="an EROFS image, and fsck.erofs of Debian's erofs-utils",
                got=(told.stderr or told.stdout).strip()[-500:],
            )
        return {
            str(path.relative_to(root)): (path.lstat().st_mode, _digest(path))
            for path in root.rglob("*")
            if path.is_symlink() or path.is_file()
        }


def _digest(path: Path) -> str:
    content = str(path.readlink()).encode() if path.is_symlink() else path.read_bytes()
    return hashlib.sha256(content).hexdigest()
