"""Asking the workload whether it works, from outside, through the pod's network.

Zone: host. May import: `deploy.local.{cri,demo.report}`, `orchestrator.faults`; redis-cli, a real client.
"""

from __future__ import annotations

import subprocess
import time
from pathlib import Path

from deploy.local.cri import ContainerState, Kubelet
from deploy.local.demo.report import WorkloadAnswer
from orchestrator.faults import Code, Temporary

PATIENCE = 20.0


def ask_redis(address: str, key: str) -> WorkloadAnswer:
    """PING, then SET and GET of a fresh value. Raises Temporary(RUNTIME) when it never answers."""
    ends = time.monotonic() + PATIENCE
    while (answer := _redis(address, "PING")) != "PONG":
        if time.monotonic() > ends:
            raise Temporary(
                Code.RUNTIME,
                "the workload does not answer",
                expected=f"PONG from {address}:6379",
                got=answer or "nothing",
                advice="look at the container's log",
            )
        time.sleep(0.05)
    value = f"sealed at {time.time_ns()}"
    checks = (
        ("PING", answer),
        (f"SET {key} …", _redis(address, "SET", key, value)),
        (f"GET {key}", _redis(address, "GET", key)),
    )
    return WorkloadAnswer(checks[1][1] == "OK" and checks[2][1] == value, f"{address}:6379", checks)


def ask_container(kubelet: Kubelet, container: str, seconds: float = 2) -> WorkloadAnswer:
    """For an image that we know nothing of: it runs, or has ended well, and this is how its output begins."""
    time.sleep(seconds)
    status = kubelet.container_status(container)
    ok = status.state is ContainerState.RUNNING or (status.state is ContainerState.EXITED and status.exit_code == 0)
    checks = (("state", status.state.name.lower()), ("output", first_lines(status.log)))
    return WorkloadAnswer(ok, "", checks)


def first_lines(log: Path, lines: int = 3) -> str:
    """The first lines of a CRI log, without the CRI's own columns."""
    if not log.exists():
        return ""
    entries = log.read_text(errors="replace").splitlines()[:lines]
    return "\n".join(entry.split(" ", 3)[-1] for entry in entries)


def _redis(address: str, *command: str) -> str:
    done = subprocess.run(
        ["redis-cli", "-h", address, *command], capture_output=True, text=True, check=False, timeout=10
    )
    return done.stdout.strip() or done.stderr.strip()
