"""A boot init without an enclave: real crun, a real workload in namespaces of its own, the real door for commands.

`python -m tests.simulators.boot_init BUNDLE CONTAINER`, as the first process of a PID and a mount namespace; BUNDLE has
the workload's config.json. In the agent's place a command is denied whose first word is "denied"; one whose first word
is "slow" is admitted after a second. Writes "ready" when the workload runs.
"""

from __future__ import annotations

import json
import os
import select
import signal
import subprocess
import sys
import time
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

from orchestrator.faults import Code, Permanent
from schemas.places import EXEC_DOOR
from tests.busybox import Bundles
from workers.enclave.boot.execs import ExecDoor
from workers.enclave.boot.streams import WorkloadStreams
from workers.enclave.boot.supervision import Workload

CONTAINER = "c0ntainer"
DEVICES = [
    {"destination": "/dev", "type": "tmpfs", "source": "tmpfs", "options": ["mode=755"]},
    {"destination": "/dev/pts", "type": "devpts", "source": "devpts", "options": ["newinstance", "ptmxmode=0666"]},
]
_READY_SECONDS = 30


def judged(id_: str, args: tuple[str, ...], terminal: bool) -> None:
    if args and args[0] == "denied":
        raise Permanent(Code.EXEC_DENIED, "denied by the test", expected="another one", got="denied", advice="none")
    if args and args[0] == "slow":
        time.sleep(1)


def main() -> int:
    bundle, container = Path(sys.argv[1]), sys.argv[2]
    subprocess.run(["mount", "-t", "tmpfs", "tmpfs", "/run"], check=True)
    # crun wants to see a cgroup hierarchy, as in the real container.
    subprocess.run(["mount", "-t", "tmpfs", "-o", "ro,size=4k", "tmpfs", "/sys/fs/cgroup"], check=True)
    document = json.loads((bundle / "config.json").read_text())
    document["mounts"] += DEVICES
    workload = Workload(bundle)
    streams = WorkloadStreams(None, None, (0, 0))
    workload.create(document, streams.given, streams.console)
    streams.connect()
    workload.start()
    door = ExecDoor(Path(EXEC_DOOR), container, workload, document["process"], streams.resize, judged)
    os.write(1, b"ready\n")
    status = workload.wait(lost=lambda _: False)
    door.close()
    workload.remove()
    return status


@contextmanager
def booted(bundles: Bundles, *argv: str) -> Iterator[tuple[int, subprocess.Popen[bytes]]]:
    """A running boot init: its pid on this machine, and the process whose exit status is the workload's."""
    _, bundle = bundles.bundle("app", *argv)
    command = ["unshare", "--mount", "--pid", "--fork", "--kill-child", "--mount-proc", sys.executable, "-m", __name__]
    process = subprocess.Popen([*command, str(bundle), CONTAINER], stdout=subprocess.PIPE)
    try:
        assert process.stdout is not None
        assert select.select([process.stdout], [], [], _READY_SECONDS)[0]
        assert os.read(process.stdout.fileno(), 16) == b"ready\n"
        (pid,) = Path(f"/proc/{process.pid}/task/{process.pid}/children").read_text().split()
        yield int(pid), process
    finally:
        process.send_signal(signal.SIGKILL)
        process.wait()
        if process.stdout is not None:
            process.stdout.close()


if __name__ == "__main__":
    sys.exit(main())
