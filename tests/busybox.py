"""Bundles of one static program, for tests that make containers: a root file system of busybox, read-only."""

from __future__ import annotations

import json
import shutil
import uuid
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

BUSYBOX = Path("/usr/bin/busybox")


@dataclass(frozen=True)
class Bundles:
    """Makes OCI bundles below `folder`; their containers are called `<prefix>…`, unlike any other test's."""

    folder: Path
    prefix: str = field(default_factory=lambda: f"test-{uuid.uuid4().hex[:8]}-")

    @property
    def root(self) -> Path:
        """The root file system; made when it is first asked for."""
        root = self.folder / "rootfs"
        if not root.exists():
            for name in ("bin", "proc", "dev", "sys", "run", "tmp", "etc"):
                (root / name).mkdir(parents=True)
            shutil.copy2(BUSYBOX, root / "bin/busybox")
            for name in ("sh", "cat", "sleep", "echo", "true"):
                (root / "bin" / name).symlink_to("busybox")
        return root

    def spec(self, id_: str, *argv: str, **linux: object) -> dict[str, Any]:
        """A configuration with which `argv` runs as the first process of a pid namespace."""
        return {
            "ociVersion": "1.0.2",
            "root": {"path": str(self.root), "readonly": True},
            "process": {
                "terminal": False,
                "user": {"uid": 0, "gid": 0},
                "args": list(argv or ("sleep", "1000")),
                "env": ["PATH=/bin"],
                "cwd": "/",
            },
            "mounts": [{"destination": "/proc", "type": "proc", "source": "proc"}],
            "linux": {
                "namespaces": [{"type": "pid"}, {"type": "mount"}],
                "cgroupsPath": f"/enclave-cc-tests/{id_}",
                **linux,
            },
        }

    def bundle(self, name: str, *argv: str, **linux: object) -> tuple[str, Path]:
        """`(runc's id, bundle)` of a container that is to be made."""
        id_ = self.prefix + name
        place = self.folder / "bundles" / id_
        place.mkdir(parents=True, exist_ok=True)
        (place / "config.json").write_text(json.dumps(self.spec(id_, *argv, **linux)))
        return id_, place

    def shell(self, name: str, script: str) -> tuple[str, Path]:
        """As `bundle`, of a shell script."""
        return self.bundle(name, "sh", "-c", script)
