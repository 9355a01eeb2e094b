"""Bundles of one pod: as the CRI writes them, and as nobody should."""

from __future__ import annotations

import json
from collections.abc import Mapping
from pathlib import Path
from typing import Final

SLOTS: Final = 4
"""Bundles of containers; more containers than that share them."""

_PROCESS: Final = {"args": ["/bin/true"], "cwd": "/", "env": ["A=ü"]}
_ODD: Final[Mapping[str, bytes]] = {
    "empty": b"",
    "no-json": b'{"annotations": ',
    "no-object": b"[1, 2]",
    "no-utf-8": b'{"process": "\xff"}',
    "deep": b'{"process":' + b"[" * 100_000 + b"]" * 100_000 + b"}",
    "no-annotations": json.dumps({"process": _PROCESS}).encode(),
}


def write(folder: Path, pod: str) -> dict[str, Path]:
    """Make them below `folder`; each by its name. `sandbox` and `c0`… are good, all others are not."""
    made = {"sandbox": _bundle(folder / "sandbox", pod, "sandbox", sandbox_name="web", sandbox_uid="u-1")}
    for slot in range(SLOTS):
        name = f"c{slot}"
        made[name] = _bundle(folder / name, pod, "container", container_name=name, image_name=f"registry/{name}:1")
    made["other-pod"] = _bundle(folder / "other-pod", "somebody-elses", "container")
    made["no-type"] = _bundle(folder / "no-type", pod, "volume")
    made["numbers"] = _bundle(folder / "numbers", pod, "container", container_name=7, image_name=[])
    made["no-text"] = _bundle(folder / "no-text", "\ud800", "container")
    made["half-text"] = _bundle(folder / "half-text", pod, "container", container_name="\udcff", image_name="\ud800")
    made["long"] = _bundle(folder / "long", pod, "container", image_name="i" * 300_000)
    for name, content in _ODD.items():
        made[name] = folder / name
        made[name].mkdir()
        (made[name] / "config.json").write_bytes(content)
    made["nowhere"] = folder / "nowhere"
    return made


def _bundle(path: Path, pod: str, kind: str, **annotations: object) -> Path:
    path.mkdir(parents=True)
    named = {"container-type": kind, "sandbox-id": pod, "sandbox-namespace": "shop"}
    named |= {name.replace("_", "-"): value for name, value in annotations.items()}
    document = {
        "ociVersion": "1.0.2",
        "process": _PROCESS,
        "annotations": {f"io.kubernetes.cri.{name}": value for name, value in named.items()},
    }
    (path / "config.json").write_text(json.dumps(document))
    return path
