"""What a result was measured on: the facts that a reader needs to compare it with another."""

from __future__ import annotations

import os
import platform
import subprocess
from pathlib import Path


def facts() -> dict[str, str | int | float]:
    """Processor, memory, kernel, versions, the commit, and how busy the machine was before the run."""
    return {
        "processor": _line("/proc/cpuinfo", "model name"),
        "cores": len(os.sched_getaffinity(0)),
        "memory_mib": int(_line("/proc/meminfo", "MemTotal").split()[0]) >> 10,
        "kernel": platform.release(),
        "python": platform.python_version(),
        "containerd": _said("containerd", "--version").split()[2],
        "runc": _said("runc", "--version").split()[2],
        "commit": _said("git", "-C", str(Path(__file__).parent), "describe", "--always", "--dirty", "--abbrev=12"),
        "load_before": round(os.getloadavg()[0], 2),
    }


def _line(file: str, name: str) -> str:
    """The value of the first line `name : value`."""
    lines = (line.partition(":") for line in Path(file).read_text().splitlines())
    return next((value.strip() for key, _, value in lines if key.strip() == name), "unknown")


def _said(*command: str) -> str:
    return subprocess.run(command, capture_output=True, text=True, check=True, timeout=30).stdout.strip()
