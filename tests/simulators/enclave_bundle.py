"""A real bundle for tests: an EROFS image with Python, this project's code and `enclave_program` as its entry."""

from __future__ import annotations

import json
import re
import shutil
import subprocess
from pathlib import Path

import cryptography

ROOT = Path(__file__).resolve().parent.parent.parent
PYTHON = Path("/usr/bin/python3.11")
STDLIB = Path("/usr/lib/python3.11")
PROGRAM = "/app/enclave_program.py"
ARGV = [str(PYTHON), "-S", "-B", PROGRAM]
ENV = {"HOME": "/", "LANG": "C.UTF-8", "PATH": "/usr/bin"}
_UNUSED = ("test", "idlelib", "lib2to3", "ensurepip", "tkinter", "pydoc_data", "config-3.11*", "distutils", "unittest")


def build_bundle(directory: Path, *, argv: list[str] | None = None, marker: str = "") -> Path:
    """`directory/bundle.erofs`. Another `marker` is another image with the same program."""
    tree = directory / "tree"
    for name in ("proc", "dev", "sys", "run", "tmp", "mnt", "etc/enclave-cc", "usr/bin", "app"):
        (tree / name).mkdir(parents=True)
    shutil.copy2(PYTHON, tree / "usr/bin")
    shutil.copytree(STDLIB, tree / STDLIB.relative_to("/"), ignore=shutil.ignore_patterns(*_UNUSED), symlinks=True)
    _copy_project(tree / "app")
    for library in _libraries(tree):
        (tree / library.relative_to("/")).parent.mkdir(parents=True, exist_ok=True)
        shutil.copy2(library, tree / library.relative_to("/"))
    entry = {"argv": argv or ARGV, "env": ENV, "cwd": "/"}
    (tree / "etc/enclave-cc/enclave.json").write_text(json.dumps(entry))
    (tree / "etc/marker").write_text(marker)
    image = directory / "bundle.erofs"
    make_image(tree, image)
    shutil.rmtree(tree)
    return image


def make_image(tree: Path, image: Path, *options: str) -> None:
    """mkfs.erofs, owned by root. Times stay, so that Python believes the compiled modules."""
    subprocess.run(["mkfs.erofs", "--quiet", "--all-root", *options, image, tree], check=True, capture_output=True)


def _copy_project(app: Path) -> None:
    shutil.copy2(ROOT / "tests/simulators/enclave_program.py", app)
    for package in ("orchestrator", "schemas", "workers"):
        shutil.copytree(
            ROOT / package, app / package, ignore=shutil.ignore_patterns("host", "console", "audit", "*.proto")
        )
    site = Path(cryptography.__file__).parent.parent
    shutil.copytree(site / "cryptography", app / "cryptography")
    for extension in site.glob("_cffi_backend*.so"):
        shutil.copy2(extension, app)


def _libraries(tree: Path) -> set[Path]:
    """Every shared library that the interpreter and the extension modules name, and the loader."""
    objects = [tree / "usr/bin/python3.11", *tree.rglob("*.so")]
    listed = subprocess.run(["ldd", *objects], check=False, capture_output=True, text=True).stdout
    return {Path(path) for path in re.findall(r"(?:=> |^\s+)(/\S+) \(0x", listed, re.MULTILINE)}
