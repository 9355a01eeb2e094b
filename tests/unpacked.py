"""An image of ours unpacked, and its programs in a container: umoci's reading of its configuration, run by runc.

As the chart's pods are confined: a root that nothing can be written to, no capability, the image's own user. Nothing of
the machine is inside but what a test mounts, /proc and a few devices; the network is the machine's, so that a test's
servers can be reached.
"""

from __future__ import annotations

import json
import subprocess
import uuid
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any


@dataclass(frozen=True)
class Unpacked:
    """The image with that tag in a layout, below `folder`."""

    folder: Path
    prefix: str = field(default_factory=lambda: f"image-{uuid.uuid4().hex[:8]}-")

    @classmethod
    def of(cls, layout: Path, tag: str, folder: Path) -> Unpacked:
        subprocess.run(
            ["umoci", "unpack", "--image", f"{layout}:{tag}", folder], check=True, capture_output=True, timeout=60
        )
        return cls(folder)

    @property
    def root(self) -> Path:
        return self.folder / "rootfs"

    @property
    def image_process(self) -> dict[str, Any]:
        process: dict[str, Any] = json.loads((self.folder / "config.json").read_text())["process"]
        return process

    def run(
        self, *words: str, program: str = "", mounts: Mapping[str, Path] | None = None
    ) -> subprocess.CompletedProcess[str]:
        """The image's entry point, or another program, with these arguments, until it ends."""
        entry = [program] if program else self.image_process["args"]
        with self._bundle([*entry, *words], mounts or {}, {}) as (id_, bundle):
            return subprocess.run(
                ["runc", "run", "--bundle", bundle, id_], capture_output=True, text=True, check=False, timeout=60
            )

    @contextmanager
    def running(
        self, command: list[str], log: Path, mounts: Mapping[str, Path], environment: Mapping[str, str]
    ) -> Iterator[subprocess.Popen[bytes]]:
        """`command` for as long as the block lasts."""
        with self._bundle(command, mounts, environment) as (id_, bundle), log.open("ab") as out:
            process = subprocess.Popen(["runc", "run", "--bundle", bundle, id_], stdout=out, stderr=out)
            try:
                yield process
            finally:
                process.terminate()  # runc passes it on
                try:
                    process.wait(20)
                except subprocess.TimeoutExpired:
                    subprocess.run(["runc", "delete", "--force", id_], check=True, capture_output=True)
                    process.wait(20)

    @contextmanager
    def _bundle(
        self, command: list[str], mounts: Mapping[str, Path], environment: Mapping[str, str]
    ) -> Iterator[tuple[str, Path]]:
        id_ = f"{self.prefix}{uuid.uuid4().hex[:8]}"
        bundle = self.folder / id_
        bundle.mkdir()
        process = self.image_process
        env = [*process["env"], *(f"{name}={value}" for name, value in environment.items())]
        nothing: list[str] = []
        kinds = ("bounding", "effective", "inheritable", "permitted", "ambient")
        spec = {
            "ociVersion": "1.0.2",
            "root": {"path": str(self.root), "readonly": True},
            "process": {
                **process,
                "terminal": False,
                "args": command,
                "env": env,
                "capabilities": dict.fromkeys(kinds, nothing),
            },
            "mounts": [
                {"destination": "/proc", "type": "proc", "source": "proc"},
                {"destination": "/dev", "type": "tmpfs", "source": "tmpfs", "options": ["nosuid", "mode=755"]},
                {"destination": "/tmp", "type": "tmpfs", "source": "tmpfs", "options": ["nosuid", "mode=1777"]},
                *(
                    {"destination": place, "type": "bind", "source": str(source), "options": ["rbind"]}
                    for place, source in sorted(mounts.items())
                ),
            ],
            "linux": {
                "namespaces": [{"type": "pid"}, {"type": "mount"}, {"type": "ipc"}],
                "cgroupsPath": f"/enclave-cc-tests/{id_}",
            },
        }
        (bundle / "config.json").write_text(json.dumps(spec))
        try:
            yield id_, bundle
        finally:
            subprocess.run(["runc", "delete", "--force", id_], check=False, capture_output=True, timeout=60)
