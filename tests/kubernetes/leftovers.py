"""What a kubelet leaves on its machine outside its own folder, taken back however the run ends.

As a process of its own, `python -m tests.kubernetes.leftovers NAMESPACE` notes how things are, says so, and waits for
the end of its standard input, which comes also when the tests are killed.
"""

from __future__ import annotations

import shutil
import subprocess
import sys
from contextlib import suppress
from pathlib import Path
from typing import Final

SETTINGS: Final = (
    "vm/overcommit_memory",
    "vm/panic_on_oom",
    "kernel/panic",
    "kernel/panic_on_oops",
    "kernel/keys/root_maxkeys",
    "kernel/keys/root_maxbytes",
)
"""What a kubelet sets. Source: kubernetes pkg/kubelet/cm/container_manager_linux.go, setupKernelTunables."""
LOGS: Final = (Path("/var/log/pods"), Path("/var/log/containers"))
"""Where a kubelet writes, and nobody can tell it otherwise. Source: pkg/kubelet/kuberuntime/kuberuntime_manager.go."""
_NOTED: Final = b"noted\n"


class Leftovers:
    """The other process, from its making until `take_back`."""

    def __init__(self, namespace: str) -> None:
        """Note how things are; to be called before a kubelet starts."""
        self._process = subprocess.Popen(
            [sys.executable, "-m", "tests.kubernetes.leftovers", namespace],
            stdin=subprocess.PIPE,
            stdout=subprocess.PIPE,
            cwd=Path(__file__).parents[2],
            start_new_session=True,
        )
        assert self._process.stdout is not None
        assert self._process.stdout.readline() == _NOTED

    def take_back(self) -> None:
        """Have it done, and wait for it; to be called when the kubelet has ended."""
        self._process.communicate(timeout=60)
        assert self._process.returncode == 0


def names(namespace: str) -> list[Path]:
    """A kubelet's names for the logs of one namespace's pods."""
    pods, containers = LOGS
    return [*pods.glob(f"{namespace}_*"), *containers.glob(f"*_{namespace}_*")]


def main(namespace: str) -> None:
    """Note, wait, take back."""
    paths = [Path("/proc/sys") / name for name in SETTINGS]
    before = {path: path.read_text() for path in paths if path.exists()}
    made = [folder for folder in LOGS if not folder.exists()]
    sys.stdout.buffer.write(_NOTED)
    sys.stdout.flush()
    sys.stdin.read()
    for path, value in before.items():
        if path.read_text() != value:
            path.write_text(value)
    for path in names(namespace):
        if path.is_symlink():
            path.unlink()
        else:
            shutil.rmtree(path)
    for folder in made:
        with suppress(OSError):  # another kubelet of this machine has its names there by now
            folder.rmdir()


if __name__ == "__main__":
    main(sys.argv[1])
