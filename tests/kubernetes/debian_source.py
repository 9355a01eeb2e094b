"""Debian's source packages and a few of its binary ones, through an apt configuration that nobody else sees.

The machine's own package sources are read and asked, so that this machine's mirror is used and none is named here. Its
package lists, its installed packages and its sources stay as they are.
"""

from __future__ import annotations

import os
import platform
import re
import subprocess
import time
from pathlib import Path
from typing import Final

APT: Final = Path("/etc/apt")
_ENTRY: Final = re.compile(r"deb(?:\s+\[(?P<options>[^\]]*)\])?\s+(?P<uri>\S+)\s+(?P<suite>\S+)\s+(?P<rest>.*)")
FRESH_SECONDS: Final = 86400
"""Package lists are read again after a day: Debian then may have another revision, and no longer the old one."""


class Away(Exception):
    """This machine's package sources did not answer, or have no such package."""


def stanzas(codename: str, apt: Path = APT) -> list[str]:
    """The machine's sources of its own release in deb822 form, for binary and source packages alike.

    What belongs to another suite (a vendor's own repository) is left out: a vendor that is away is no reason to fail.
    """
    found = []
    for path in sorted((apt / "sources.list.d").glob("*.sources")):
        for stanza in re.split(r"\n\s*\n", path.read_text()):
            lines = [line for line in stanza.splitlines() if line.strip() and not line.startswith("#")]
            fields = dict(re.findall(r"(?m)^([A-Za-z-]+):[ \t]*(.*)$", "\n".join(lines)))
            if fields.get("Enabled", "yes").lower() != "no" and _ours(fields.get("Suites", "").split(), codename):
                rest = [line for line in lines if not line.startswith("Types:")]
                found.append("\n".join(["Types: deb deb-src", *rest]))
    for path in (apt / "sources.list", *sorted((apt / "sources.list.d").glob("*.list"))):
        for line in path.read_text().splitlines() if path.exists() else ():
            entry = _ENTRY.fullmatch(line)
            if entry and _ours([entry["suite"]], codename):
                signed = re.search(r"signed-by=(\S+)", entry["options"] or "")
                found.append(
                    f"Types: deb deb-src\nURIs: {entry['uri']}\nSuites: {entry['suite']}\nComponents: {entry['rest']}"
                    + (f"\nSigned-By: {signed[1]}" if signed else "")
                )
    return found


def _ours(suites: list[str], codename: str) -> bool:
    return bool(suites) and all(suite.split("-")[0] == codename for suite in suites)


class Archive:
    """apt over `folder`: its lists and its sources are below it."""

    def __init__(self, folder: Path) -> None:
        """Nothing is asked yet."""
        self._folder = folder
        lists, parts = folder / "lists", folder / "sources"
        (lists / "partial").mkdir(parents=True, exist_ok=True)
        parts.mkdir(exist_ok=True)
        entries = stanzas(platform.freedesktop_os_release().get("VERSION_CODENAME", ""))
        if not entries:
            raise Away("this machine has no package source of its own release")
        (parts / "own.sources").write_text("\n\n".join(entries) + "\n")
        values = {
            "Dir::Etc::sourcelist": "/dev/null",
            "Dir::Etc::sourceparts": parts,
            "Dir::State::Lists": lists,
            "Dir::Cache::srcpkgcache": "",
            "Dir::Cache::pkgcache": "",
            "APT::Sandbox::User": "root",
            "Acquire::Retries": 3,
        }
        self._options = [f"-o{name}={value}" for name, value in values.items()]

    def refresh(self) -> None:
        """Read the package lists, unless that was done today. Raises Away."""
        stamp = self._folder / "read"
        if not stamp.exists() or time.time() - stamp.stat().st_mtime > FRESH_SECONDS:
            self._run(["apt-get", "-q", "update", "-oAPT::Update::Error-Mode=any"], self._folder)
            stamp.touch()

    def version(self, package: str) -> str:
        """The newest version of a source package. Raises Away."""
        shown = self._run(["apt-cache", "showsrc", package], self._folder)
        versions = re.findall(r"(?m)^Version: (\S+)$", shown)
        newest = ""
        for each in versions:
            newer = ["dpkg", "--compare-versions", each, "gt", newest]
            if not subprocess.run(newer, check=False, timeout=10).returncode:
                newest = each
        if not newest:
            raise Away(f"Debian's source package {package} is not there")
        return newest

    def source(self, package: str, version: str, folder: Path) -> Path:
        """Fetch, verify and unpack a source package into `folder`, Debian's patches applied; its top. Raises Away."""
        self._run(["apt-get", "-q", "source", f"{package}={version}"], folder)
        (top,) = (path for path in folder.iterdir() if path.is_dir())
        return top

    def unpack(self, packages: tuple[str, ...], folder: Path) -> None:
        """Fetch binary packages and unpack them below `folder`, without installing them. Raises Away."""
        self._run(["apt-get", "-q", "download", *packages], folder)
        for archive in sorted(folder.glob("*.deb")):
            subprocess.run(["dpkg-deb", "--extract", archive, folder], check=True, timeout=300)
            archive.unlink()

    def _run(self, command: list[str], folder: Path) -> str:
        program, *rest = command
        done = subprocess.run(
            [program, *self._options, *rest],
            cwd=folder,
            env={**os.environ, "LC_ALL": "C.UTF-8", "DEBIAN_FRONTEND": "noninteractive"},
            capture_output=True,
            text=True,
            check=False,
            timeout=900,
        )
        if done.returncode:
            raise Away(f"{' '.join(command)}: {done.stderr.strip()[-1000:]}")
        return done.stdout
