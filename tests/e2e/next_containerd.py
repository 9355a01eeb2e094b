"""Later containerds for a test: the packages of Debian's next suites, unpacked into a cache, installed nowhere.

They come through apt with a source list of its own: this machine's mirror and keyring, one of those suites. apt holds
them to the suite's signed index; what is unpacked is held to the hashes below besides.
"""

from __future__ import annotations

import fcntl
import hashlib
import os
import re
import subprocess
import tempfile
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path

CACHE = Path("/var/cache/enclave-cc")
PACKAGE = "containerd"
PROGRAMS = ("containerd", "containerd-shim-runc-v2")
KEYRING = Path("/usr/share/keyrings/debian-archive-keyring.gpg")
_WITHIN = 120


@dataclass(frozen=True, slots=True)
class Release:
    """A package by its suite and version; `sha256` by architecture."""

    suite: str
    version: str
    sha256: Mapping[str, str]


RELEASES = {
    "1.7": Release(
        "trixie",
        "1.7.24~ds1-6+deb13u1",
        {"amd64": "ed708deb96fe476a3bce4efa5c0538dfbcf717ab9a7c7944ba7260342c25899c"},
    ),
    "2.1": Release(
        "forky",
        "2.1.9+ds1-5",
        {"amd64": "2dda86ce7033fd612fc50e136679d8174ccad680eb29cd4611e0d2a1b84cf591"},
    ),
}


class Unavailable(Exception):
    """Why there is none here."""


def binaries(release: str) -> Path:
    """A folder with the programs of `PROGRAMS`; `release` is of `RELEASES`. Raises Unavailable."""
    wanted = RELEASES[release]
    machine = _said("dpkg", "--print-architecture").strip()
    if machine not in wanted.sha256:
        known = ", ".join(wanted.sha256)
        raise Unavailable(f"the hash of {PACKAGE} {wanted.version} is known for {known}, not for {machine}")
    sha256 = wanted.sha256[machine]
    folder = CACHE / f"containerd-{release}" / sha256[:16]
    folder.parent.mkdir(parents=True, exist_ok=True)
    lock = os.open(folder.parent, os.O_RDONLY)  # of two test processes, one downloads
    try:
        fcntl.flock(lock, fcntl.LOCK_EX)
        if not all((folder / "usr/bin" / program).exists() for program in PROGRAMS):
            _fetch(wanted, sha256, folder)
    finally:
        os.close(lock)
    return folder / "usr/bin"


def _fetch(wanted: Release, sha256: str, folder: Path) -> None:
    with tempfile.TemporaryDirectory(dir=folder.parent) as scratch:
        package = _download(Path(scratch), _mirror(), wanted)
        if hashlib.sha256(package.read_bytes()).hexdigest() != sha256:
            raise AssertionError(f"{package.name} is not the package whose hash is known")
        _said("dpkg", "-x", str(package), f"{scratch}/unpacked")
        (Path(scratch) / "unpacked").rename(folder)


def _mirror() -> str:
    """The URI by which apt reaches Debian on this machine."""
    indexes = _said("apt-get", "indextargets", "--format", "$(REPO_URI) $(SUITE) $(ORIGIN)", "Created-By: Packages")
    for line in indexes.splitlines():
        uri, _, rest = line.partition(" ")
        if rest.endswith(" Debian") and re.match(r"https?://", uri) and "security" not in uri:
            return uri
    raise Unavailable("apt on this machine names no Debian mirror (or has no index yet: `apt-get update`)")


def _download(scratch: Path, mirror: str, wanted: Release) -> Path:
    for folder in ("lists/partial", "cache/archives/partial"):
        (scratch / folder).mkdir(parents=True)
    sources = scratch / "sources.list"
    sources.write_text(f"deb [signed-by={KEYRING}] {mirror} {wanted.suite} main\n")
    options = (
        f"Dir::Etc::sourcelist={sources}",
        "Dir::Etc::sourceparts=-",
        f"Dir::State::lists={scratch}/lists",
        f"Dir::Cache={scratch}/cache",
        "Acquire::Languages=none",
        "Acquire::Check-Valid-Until=false",  # the suite is named to stay what it is, not to be news
        "Acquire::http::Timeout=20",
        "Acquire::Retries=1",
        "APT::Sandbox::User=root",  # the folder is root's alone
    )
    apt = ("apt-get", "--quiet", *(f"-o{option}" for option in options))
    name = f"{PACKAGE} {wanted.version}"
    for words in (("update", "--error-on=any"), ("download", f"{PACKAGE}={wanted.version}")):
        try:
            done = subprocess.run(
                (*apt, *words), cwd=scratch, capture_output=True, text=True, check=False, timeout=_WITHIN
            )
        except subprocess.TimeoutExpired as error:
            raise Unavailable(f"apt could not {words[0]} {name} of {wanted.suite} within {_WITHIN} s") from error
        if done.returncode:
            raise Unavailable(f"apt could not {words[0]} {name} of {wanted.suite}: {done.stderr.strip()[-300:]}")
    return next(scratch.glob("*.deb"))


def _said(*command: str) -> str:
    return subprocess.run(command, capture_output=True, text=True, check=True, timeout=_WITHIN).stdout
