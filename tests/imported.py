"""What containerd says of an OCI layout that it imports: a daemon of its own, without CRI, for one import."""

from __future__ import annotations

import subprocess
from pathlib import Path

from tests.waiting import eventually


def images_of(layout: Path, name: str, folder: Path) -> str:
    """The list of images once `layout` is imported as `name`; `folder` is for containerd's files."""
    archive, socket = folder / "layout.tar", folder / "containerd.sock"
    subprocess.run(["tar", "-C", layout, "-cf", archive, "."], check=True)
    (folder / "config.toml").write_text(
        f'version = 2\nroot = "{folder}/root"\nstate = "{folder}/state"\n'
        f'disabled_plugins = ["io.containerd.grpc.v1.cri"]\n[grpc]\n  address = "{socket}"\n'
    )
    with (folder / "log").open("wb") as log:
        daemon = subprocess.Popen(["containerd", "-c", folder / "config.toml"], stdout=log, stderr=log)
    ctr = ["ctr", "-a", str(socket)]
    try:
        eventually(lambda: subprocess.run([*ctr, "version"], capture_output=True, check=False).returncode == 0)
        subprocess.run(
            [*ctr, "image", "import", "--no-unpack", "--base-name", name, archive],
            check=True,
            capture_output=True,
            timeout=60,
        )
        return subprocess.run([*ctr, "image", "ls"], capture_output=True, text=True, check=True).stdout
    finally:
        daemon.terminate()
        daemon.wait(20)
