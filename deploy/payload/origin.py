"""Where a file of this machine comes from: a Debian package, a Python distribution, or this project.

Zone: owner. May import: `deploy.payload.closure`, `orchestrator.faults`, the standard library; runs dpkg-query.
"""

from __future__ import annotations

import csv
import functools
import os
import re
import subprocess
import sysconfig
from collections.abc import Iterable
from collections.abc import Set as AbstractSet
from dataclasses import dataclass
from importlib import metadata
from pathlib import Path
from typing import Final

from deploy.payload.closure import PROJECT
from orchestrator.faults import Code, Permanent

OWN: Final = "enclave-cc"
_LICENCE: Final = re.compile(r"^License: *(\S.*)$", re.MULTILINE)
_WITHIN: Final = 60


@dataclass(frozen=True, slots=True, order=True)
class Origin:
    """`kind` is "deb" or "pypi". `licence` is an SPDX expression where the distribution states one, else empty;
    `said` is what it says of its licence in its own words.
    """

    kind: str
    name: str
    version: str
    licence: str = ""
    said: str = ""


def origins(files: Iterable[Path]) -> dict[Path, Origin]:
    """Of each file, its origin. Raises Permanent(INPUT) for one that nobody brought."""
    wanted = set(files)
    found = distributions(wanted)
    found |= _debian(wanted - found.keys())
    if lost := sorted(wanted - found.keys()):
        raise Permanent(
            Code.INPUT,
            "a file of the payload belongs to no package",
            expected="files of Debian packages, Python distributions and this project",
            got=", ".join(map(str, lost))[:500],
            advice="the environment must be the one that deploy/setup.sh makes",
        )
    return found


def distributions(wanted: AbstractSet[Path]) -> dict[Path, Origin]:
    """Of each file that a Python distribution brought, its origin: by its RECORD; this project's by its folder."""
    brought, own = _brought()
    found = {path: brought[str(path)] for path in wanted if str(path) in brought}
    ours = (path for path in wanted if path.is_relative_to(PROJECT) and ".venv" not in path.parts)
    return found | dict.fromkeys(ours, own)


@functools.cache
def _brought() -> tuple[dict[str, Origin], Origin]:
    """Every file of every distribution but this one; and this one."""
    packages = sysconfig.get_paths()["platlib"]
    brought: dict[str, Origin] = {}
    own = Origin("pypi", OWN, "")
    for distribution in metadata.distributions(path=[packages]):
        about = distribution.metadata
        classified = [word for word in about.get_all("Classifier", []) if word.startswith("License")]
        said = "; ".join([*about.get_all("License", []), *classified])
        (stated,) = about.get_all("License-Expression", []) or [""]
        origin = Origin("pypi", about["Name"], distribution.version, stated, said.strip()[:200])
        if origin.name == OWN:
            own = origin
            continue
        record = csv.reader((distribution.read_text("RECORD") or "").splitlines())
        # A wheel's programs are named from its modules upwards.
        brought |= {os.path.normpath(f"{packages}/{row[0]}"): origin for row in record if row}
    return brought, own


def _debian(wanted: set[Path]) -> dict[Path, Origin]:
    """By dpkg's lists, some of which still name files by their place before /usr was merged."""
    names = {alias: path for path in sorted(wanted) for alias in _aliases(path)}
    if not names:
        return {}
    told = _dpkg("-S", *names, strict=False)
    owners: dict[Path, str] = {}
    for line in told.splitlines():
        package, _, path = line.rpartition(": ")
        if path in names and not package.startswith("diversion"):
            owners[names[path]] = package.partition(",")[0]
    listed = sorted(set(owners.values()))
    lines = _dpkg("-W", "-f", "${Package}\\t${Version}\\n", *listed).splitlines() if listed else []
    versions = dict(line.split("\t") for line in lines)
    known = {name: _package(name.partition(":")[0], versions) for name in listed}
    return {path: known[name] for path, name in owners.items()}


def _aliases(path: Path) -> list[str]:
    real = str(path.resolve())
    return list(dict.fromkeys([str(path), real, real.removeprefix("/usr")]))


def _package(name: str, versions: dict[str, str]) -> Origin:
    text = Path(f"/usr/share/doc/{name}/copyright")
    licences = sorted(set(_LICENCE.findall(text.read_text(errors="replace")))) if text.exists() else []
    return Origin("deb", name, versions[name], said=", ".join(licences)[:500])


def _dpkg(*words: str, strict: bool = True) -> str:
    return subprocess.run(
        ["dpkg-query", *words], capture_output=True, text=True, check=strict, timeout=_WITHIN, env={"LC_ALL": "C.UTF-8"}
    ).stdout
