"""A real Kubernetes from Debian 12's source package, built once and kept: `python -m tests.kubernetes.build`.

    /var/cache/enclave-cc/kubernetes/
        apt/                        package lists, a day old at most
        <version>-<recipe>/bin      kube-apiserver, kube-controller-manager, kube-scheduler, kubelet, kubectl, etcd
        <version>-<recipe>.partial  a build under way, with its source, its tools and Go's cache

`<version>` is Debian's, `<recipe>` the hash of recipe.sh and of what it is given. A build that was interrupted goes on
where it was; `bin` is there when it is whole. Needs root, 4 GB of disk, and seven minutes of two cores.
"""

from __future__ import annotations

import fcntl
import hashlib
import os
import shutil
import subprocess
import sys
import time
from collections.abc import Callable
from pathlib import Path
from typing import IO, Final

from tests.kubernetes.debian_source import Archive, Away

CACHE: Final = Path("/var/cache/enclave-cc/kubernetes")
RECIPE: Final = Path(__file__).with_name("recipe.sh")
SOURCE_PACKAGE: Final = "kubernetes"
TOOLS: Final = ("golang-1.19-go", "golang-1.19-src", "golang-github-modern-go-reflect2-dev", "etcd-server")
INSTALLED: Final = {"dpkg-source": "dpkg-dev", "make": "make", "jq": "jq", "rsync": "rsync"}
"""What is needed on PATH, and Debian's package of it: installed when missing, for they are no use unpacked."""
PROGRAMS: Final = ("kube-apiserver", "kube-controller-manager", "kube-scheduler", "kubelet", "kubectl")

Say = Callable[[str], None]


def recipe() -> str:
    """The recipe's name: 12 hex digits."""
    return hashlib.sha256(RECIPE.read_bytes() + repr((SOURCE_PACKAGE, TOOLS, PROGRAMS)).encode()).hexdigest()[:12]


def built(cache: Path = CACHE) -> Path | None:
    """The newest build by today's recipe: the folder of its programs. None if there is none."""
    found = sorted(cache.glob(f"*-{recipe()}/bin"), key=lambda path: path.stat().st_mtime)
    return found[-1] if found else None


def build(say: Say, cache: Path = CACHE) -> Path:
    """The programs' folder; builds what Debian has today unless that is there. Raises Away.

    Where the package sources do not answer, an earlier build by the same recipe serves.
    """
    try:
        archive = Archive(cache / "apt")
        archive.refresh()
        version = archive.version(SOURCE_PACKAGE)
    except Away as away:
        if (earlier := built(cache)) is None:
            raise
        say(f"the package sources do not answer ({away}); {earlier} serves")
        return earlier
    home = cache / f"{version}-{recipe()}"
    partial = home.with_name(f"{home.name}.partial")
    with (cache / "lock").open("w") as lock:
        _hold(lock, say)
        if not (home / "bin").exists():
            _make(archive, version, home, partial, lock, say)
        shutil.rmtree(partial, ignore_errors=True)
    return home / "bin"


def _hold(lock: IO[str], say: Say) -> None:
    """Wait for another build: of another checkout, or what an interrupted one still compiles."""
    try:
        fcntl.flock(lock, fcntl.LOCK_EX | fcntl.LOCK_NB)
    except BlockingIOError:
        say("waiting for another build on this machine")
        fcntl.flock(lock, fcntl.LOCK_EX)


def _make(archive: Archive, version: str, home: Path, partial: Path, lock: IO[str], say: Say) -> None:
    _install(say)
    partial.mkdir(parents=True, exist_ok=True)
    source = _once(partial / "source", lambda folder: archive.source(SOURCE_PACKAGE, version, folder), say)
    tools = _once(partial / "tools", lambda folder: archive.unpack(TOOLS, folder), say)
    (debian,) = source.glob("*/debian")
    top = debian.parent
    with (partial / "log").open("a") as log:
        process = subprocess.Popen(
            ["sh", str(RECIPE), str(top), str(tools)],
            stdout=subprocess.PIPE,
            stderr=subprocess.STDOUT,
            text=True,
            pass_fds=(lock.fileno(),),  # held for as long as anything compiles, also when this process has died
        )
        assert process.stdout is not None
        for line in process.stdout:
            log.write(line)
            log.flush()
            if line.startswith("== "):
                say(f"compiling {line[3:].strip()}")
        if process.wait():
            raise SystemExit(f"the build failed; its words are in {partial}/log")
    home.mkdir(exist_ok=True)
    programs = home / "bin.partial"
    programs.mkdir(exist_ok=True)
    for program in PROGRAMS:
        shutil.copy2(top / "_output/bin" / program, programs)
    shutil.copy2(tools / "usr/bin/etcd", programs)
    programs.rename(home / "bin")


def _once(folder: Path, fill: Callable[[Path], object], say: Say) -> Path:
    """Fill a folder beside itself and give it its name when it is whole."""
    if not folder.exists():
        say(f"fetching {folder.name}")
        scratch = folder.with_name(f"{folder.name}.new")
        shutil.rmtree(scratch, ignore_errors=True)
        scratch.mkdir()
        fill(scratch)
        scratch.rename(folder)
    return folder


def _install(say: Say) -> None:
    missing = sorted(package for program, package in INSTALLED.items() if shutil.which(program) is None)
    if missing:
        say(f"installing {' '.join(missing)}")
        for words in (["update"], ["-y", "--no-install-recommends", "install", *missing]):
            environment = {**os.environ, "DEBIAN_FRONTEND": "noninteractive"}
            subprocess.run(["apt-get", "-qq", *words], env=environment, check=True, timeout=600)


def main() -> None:
    """Build, saying what is done and when."""
    began = time.monotonic()
    try:
        programs = build(lambda words: print(f"kubernetes: {time.monotonic() - began:4.0f} s  {words}", flush=True))
    except Away as away:
        sys.exit(f"kubernetes: {away}")
    print(f"kubernetes: {programs}")


if __name__ == "__main__":
    main()
