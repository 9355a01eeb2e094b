"""The workload's life: crun starts it, signals go to it, its status becomes boot init's.

Zone: enclave. May import: `orchestrator.faults`, the standard library.

`crun create` and `crun start` end when they are done; the workload is then a child of boot init, which is the first
process of its container: it reaps whatever is left over there.
"""

from __future__ import annotations

import contextlib
import json
import os
import signal
from collections.abc import Callable
from pathlib import Path
from typing import Any, Final

from orchestrator.faults import Code, Permanent

FORWARDED: Final = (
    signal.SIGHUP, signal.SIGINT, signal.SIGQUIT, signal.SIGTERM, signal.SIGUSR1, signal.SIGUSR2, signal.SIGWINCH,
    signal.SIGCONT, signal.SIGALRM,
)  # fmt: skip
NAME: Final = "app"


class Workload:
    """One process in the sealed root, by crun."""

    def __init__(self, bundle: Path, crun: str = "/usr/bin/crun") -> None:
        self._bundle = bundle
        self._crun = [crun, "--cgroup-manager=disabled", f"--root={bundle / 'crun'}"]
        self.pid = 0

    def create(self, configuration: dict[str, Any]) -> None:
        """Everything up to the workload's first instruction. Raises Permanent(BOOT_PROCESS) with crun's words."""
        (self._bundle / "config.json").write_text(json.dumps(configuration))
        pid_file = self._bundle / "pid"
        self._run("create", f"--bundle={self._bundle}", f"--pid-file={pid_file}", NAME)
        self.pid = int(pid_file.read_text())

    def start(self) -> None:
        """Its first instruction. Signals that come from here on are its."""
        for number in FORWARDED:
            signal.signal(number, self._forward)
        self._run("start", NAME)

    def wait(self, lost: Callable[[int], bool]) -> int:
        """Wait for its end and return the exit status, 128 + signal for a killed one.

        `lost` is asked of every other child that ends; when it says that the root's server is gone, the workload, which
        could only fail from then on, is killed.
        """
        while True:
            pid, status = os.wait()
            if pid == self.pid:
                code = os.waitstatus_to_exitcode(status)
                return code if code >= 0 else 128 - code
            if lost(pid):
                with contextlib.suppress(ProcessLookupError):
                    os.kill(self.pid, signal.SIGKILL)

    def remove(self) -> None:
        """What crun remembers of it."""
        with contextlib.suppress(Permanent):
            self._run("delete", "--force", NAME)

    def _forward(self, number: int, _: object) -> None:
        with contextlib.suppress(ProcessLookupError):
            os.kill(self.pid, number)

    def _run(self, *arguments: str) -> None:
        # Its standard streams are the workload's: crun's own words go to a file.
        said = self._bundle / "crun.log"
        # No wait() of subprocess may race ours: posix_spawn and waitpid on exactly this child.
        pid = os.posix_spawn(self._crun[0], [*self._crun, f"--log={said}", *arguments], {"PATH": "/usr/bin:/usr/sbin"})
        _, status = os.waitpid(pid, 0)
        if os.waitstatus_to_exitcode(status) != 0:
            words = said.read_text()[-2000:].strip() if said.exists() else ""
            raise Permanent(
                Code.BOOT_PROCESS,
                "the workload could not be started",
                expected=f"crun {arguments[0]} to succeed",
                got=words or f"status {status}",
                advice="see whether the image has the program, and whether the user may execute it",
            )
