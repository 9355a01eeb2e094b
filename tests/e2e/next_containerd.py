"""containerd 1.7 for a test: the package of Debian 13, unpacked into a cache, installed nowhere.

It comes through apt with a source list of its own: this machine's mirror and keyring, the next suite. apt holds it to
the suite's signed index; what is unpacked is held to the hash below besides.
"""

from __future__ import annotations

import hashlib
import re
import subprocess
import tempfile
from pathlib import Path

CACHE = Path("/var/cache/enclave-cc/containerd-1.7")
SUITE = "trixie"
PACKAGE, VERSION = "containerd", "1.7.24~ds1-6+deb13u1"
SHA256 = {"amd64": "ed708deb96fe476a3bce4efa5c0538dfbcf717ab9a7c7944ba7260342c25899c"}
PROGRAMS = ("containerd", "containerd-shim-runc-v2")
KEYRING = Path("/usr/share/keyrings/debian-archive-keyring.gpg")
_WITHIN = 120


class Unavailable(Exception):
    """Why there is none here."""


def binaries() -> Path:
    """A folder with the programs of `PROGRAMS`. Raises Unavailable."""
    machine = _said("dpkg", "--print-architecture").strip()
    if machine not in SHA256:
        raise Unavailable(f"the hash of {PACKAGE} {VERSION} is known for {', '.join(SHA256)}, not for {machine}")
    folder = CACHE / SHA256[machine][:16]
    if not all((folder / "usr/bin" / program).exists() for program in PROGRAMS):
        CACHE.mkdir(parents=True, exist_ok=True)
        with tempfile.TemporaryDirectory(dir=CACHE) as scratch:
            package = _download(Path(scratch), _mirror())
            if hashlib.sha256(package.read_bytes()).hexdigest() != SHA256[machine]:
                raise AssertionError(f"{package.name} is not the package whose hash is known")
            _said("dpkg", "-x", str(package), f"{scratch}/unpacked")
            folder.parent.mkdir(parents=True, exist_ok=True)
            (Path(scratch) / "unpacked").rename(folder)
    return folder / "usr/bin"


def _mirror() -> str:
    """The URI by which apt reaches Debian on this machine."""
    indexes = _said("apt-get", "indextargets", "--format", "$(REPO_URI) $(SUITE) $(ORIGIN)", "Created-By: Packages")
    for line in indexes.splitlines():
        uri, _, rest = line.partition(" ")
        if rest.endswith(" Debian") and re.match(r"https?://", uri) and "security" not in uri:
            return uri
    raise Unavailable("apt on this machine names no Debian mirror (or has no index yet: `apt-get update`)")


def _download(scratch: Path, mirror: str) -> Path:
    for folder in ("lists/partial", "cache/archives/partial"):
        (scratch / folder).mkdir(parents=True)
    sources = scratch / "sources.list"
    sources.write_text(f"deb [signed-by={KEYRING}] {mirror} {SUITE} main\n")
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
    for words in (("update", "--error-on=any"), ("download", f"{PACKAGE}={VERSION}")):
        done = subprocess.run((*apt, *words), cwd=scratch, capture_output=True, text=True, check=False, timeout=_WITHIN)
        if done.returncode:
            raise Unavailable(f"apt could not {words[0]} {PACKAGE} {VERSION} of {SUITE}: {done.stderr.strip()[-300:]}")
    return next(scratch.glob("*.deb"))


def _said(*command: str) -> str:
    return subprocess.run(command, capture_output=True, text=True, check=True, timeout=_WITHIN).stdout
