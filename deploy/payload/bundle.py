"""Building a bundle: closure, bytecode, entry, image; cached by content.

Zone: owner. May import: `deploy.payload`, `workers.host.libos` (entry, measurement), `schemas.places`.
"""

from __future__ import annotations

import hashlib
import json
import os
import shutil
from dataclasses import dataclass
from pathlib import Path
from typing import Final

from deploy.payload import bytecode, erofs
from deploy.payload.closure import PROJECT, PYTHON, Closure
from deploy.payload.roles import AGENT, BOOT, ENVIRONMENT, HOME, LINKS, MOUNT_POINTS, PLACES, Role
from deploy.payload.tree import File, Tree
from schemas.places import AGENT_MEASUREMENT
from workers.host.libos.entry import ENTRY_PATH
from workers.host.libos.sim.measurement import Measurement, measure_image

CACHE: Final = Path("/var/cache/enclave-cc/payload")
KEPT: Final = 6
"""Images of a role in the cache: a few branches' worth."""

_MAIN: Final = """import gc
import sys
gc.disable()
from {module} import main
gc.freeze()
gc.enable()
sys.exit(main())
"""
"""What is imported stays: looking through it for garbage took a tenth of the start."""
_STATIC: Final = {
    "etc/hosts": b"127.0.0.1 localhost\n",
    "etc/nsswitch.conf": b"hosts: files dns\n",
    "etc/passwd": b"root:x:0:0:root:/:/usr/sbin/nologin\n",
    "etc/group": b"root:x:0:\n",
}
"""What glibc and Python look up; without nsswitch.conf a name would be asked of the network before this file."""


@dataclass(frozen=True, slots=True)
class Built:
    """A bundle's image, what it measures to, and the files of this machine that it was made from."""

    role: str
    image: Path
    measurement: Measurement
    inputs: frozenset[Path]

    @property
    def mrenclave(self) -> str:
        """Lower-case hex, as policies and reference values name it."""
        return self.measurement.mrenclave.hex()


def build_bundle(role: Role, out: Path, cache: Path = CACHE) -> Built:
    """Write the role's image to `out`. Immediate when no file that went into it has changed.

    The boot bundle names the one agent it talks to by its measurement, so it is built after that agent.
    """
    extra: dict[str, File] = {}
    if role.name == BOOT.name:
        agent = build_bundle(AGENT, out.with_name(f"{AGENT.name}.erofs"), cache)
        extra[AGENT_MEASUREMENT.lstrip("/")] = File(content=f"{agent.mrenclave}\n".encode())
    out.parent.mkdir(parents=True, exist_ok=True)
    cached = _cached(role, extra, cache)
    partial = out.with_name(f".{out.name}.partial")
    shutil.copyfile(cached.image, partial)
    partial.rename(out)
    return Built(role.name, out, measure_image(out), cached.inputs)


def tree_of(role: Role, found: Closure, extra: dict[str, File]) -> Tree:
    """Everything of the bundle at its place."""
    compiled = bytecode.compile_all(PYTHON, found.sources, {f"{HOME}/__main__.py": _MAIN.format(module=role.module)})
    entry = {"argv": [f"/{PLACES.interpreter}", "-I", "-B", "-S", f"/{HOME}"], "cwd": "/", "env": ENVIRONMENT}
    static = {path: File(content=body) for path, body in _STATIC.items()}
    manifest = {ENTRY_PATH.lstrip("/"): File(content=json.dumps(entry, sort_keys=True, indent=1).encode() + b"\n")}
    return Tree({**found.files, **compiled, **static, **manifest, **extra}, LINKS, (*MOUNT_POINTS, "usr/sbin"))


@dataclass(frozen=True, slots=True)
class _Cached:
    image: Path
    inputs: frozenset[Path]


def _cached(role: Role, extra: dict[str, File], cache: Path) -> _Cached:
    """The image in the cache: by the state of every file that went into it, else by the digest of the tree."""
    cache.mkdir(parents=True, exist_ok=True)
    index = cache / f"{role.name}-{_recipe(role, extra)}.json"
    if (known := _known(index)) is not None:
        return known
    found = role.closure()
    tree = tree_of(role, found, extra)
    image = cache / f"{role.name}-{tree.digest()[:32]}.erofs"
    if not image.exists():
        erofs.write(tree, image)
    inputs = found.inputs()
    states = {str(path): _state(path) for path in sorted(inputs)}
    partial = index.with_suffix(f".{os.getpid()}")
    partial.write_text(json.dumps({"image": str(image), "inputs": states}))
    partial.rename(index)
    _prune(role, cache)
    return _Cached(image, frozenset(inputs))


def _prune(role: Role, cache: Path) -> None:
    """Forget all but the newest images; an index whose image is gone is as good as none."""
    images = sorted(cache.glob(f"{role.name}-*.erofs"), key=lambda image: image.stat().st_mtime_ns)
    for old in images[:-KEPT]:
        old.unlink(missing_ok=True)


def _known(index: Path) -> _Cached | None:
    """The image of an index whose every input file is as it was."""
    try:
        document = json.loads(index.read_text())
        image, inputs = Path(document["image"]), frozenset(map(Path, document["inputs"]))
        unchanged = all(_state(Path(path)) == state for path, state in document["inputs"].items())
    except (OSError, ValueError, KeyError):
        return None
    return _Cached(image, inputs) if unchanged and image.exists() else None


def _recipe(role: Role, extra: dict[str, File]) -> str:
    """The role, what is added, the project's place, and this package's own code."""
    own = [path.read_bytes() for path in sorted(Path(__file__).parent.glob("*.py"))]
    added = sorted((path, file.digest()) for path, file in extra.items())
    return hashlib.sha256(repr((role, added, str(PROJECT), own)).encode()).hexdigest()[:16]


def _state(path: Path) -> list[int]:
    status = path.stat()
    return [status.st_size, status.st_mtime_ns, status.st_ino]
