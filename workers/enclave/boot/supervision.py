"""The workload's life: crun starts it, signals go to it, its status becomes boot init's.

Zone: enclave. May import: `orchestrator.faults`, the standard library.

`crun create` and `crun start` end when they are done; the workload is then a child of boot init, which is the first
process of its container: it reaps whatever is left over there.
"""

from __future__ import annotations

import contextlib
import itertools
import json
import os
import signal
from collections.abc import Callable, Mapping
from pathlib import Path
from typing import Any, Final

from orchestrator.faults import Code, Permanent
from workers.enclave.boot.children import Children

FORWARDED: Final = (
    signal.SIGHUP, signal.SIGINT, signal.SIGQUIT, signal.SIGTERM, signal.SIGUSR1, signal.SIGUSR2, signal.SIGWINCH,
    signal.SIGCONT, signal.SIGALRM,
)  # fmt: skip
_TAKEN: Final = frozenset({*FORWARDED, signal.SIGCHLD})
NAME: Final = "app"
EXEC_SECONDS: Final = 30.0
"""In which crun must have started a command: it takes some 30 ms."""

_ENVIRONMENT: Final = {"PATH": "/usr/bin:/usr/sbin"}


class Workload:
    """One process in the sealed root, by crun."""

    def __init__(self, bundle: Path, crun: str = "/usr/bin/crun") -> None:
        self._bundle = bundle
        self._crun = [crun, "--cgroup-manager=disabled", f"--root={bundle / 'crun'}"]
        self._numbers = itertools.count()
        self.children = Children()
        self.pid = 0

    def create(self, configuration: dict[str, Any], streams: Mapping[int, int], console: Path | None) -> None:
        """Everything up to the workload's first instruction. Raises Permanent(BOOT_PROCESS) with crun's words.

        `streams` gives each of the workload's descriptors one of ours, if not the same; a terminal is handed over at
        the socket `console`.

        From here on signals are blocked, in every thread that is started later too, and wait for `wait`: one that is
        handled just before a system call that waits, or in another thread, would be forwarded when something happens.
        """
        signal.pthread_sigmask(signal.SIG_BLOCK, _TAKEN)
        (self._bundle / "config.json").write_text(json.dumps(configuration))
        pid_file = self._bundle / "pid"
        terminal = [f"--console-socket={console}"] if console else []
        self._run("create", f"--bundle={self._bundle}", f"--pid-file={pid_file}", *terminal, NAME, streams=streams)
        self.pid = int(pid_file.read_text())

    def start(self) -> None:
        """Its first instruction."""
        self._run("start", NAME)

    def wait(self, lost: Callable[[int], bool]) -> int:
        """Wait for its end and return the exit status, 128 + signal for a killed one.

        `lost` is asked of every other child that ends; when it says that a server of the root or of a volume is gone,
        the workload, which could only fail from then on, is killed.
        """
        while True:
            for pid, status in self.children.reap():
                if pid == self.pid:
                    self.children.end()
                    code = os.waitstatus_to_exitcode(status)
                    return code if code >= 0 else 128 - code
                if lost(pid):
                    self._signal(signal.SIGKILL)
            number = signal.sigwait(_TAKEN)
            if number != signal.SIGCHLD:
                self._signal(number)

    def exec(
        self, process: dict[str, Any], streams: Mapping[int, int], console: Path | None = None
    ) -> tuple[int, int | None]:
        """Start a command beside the workload: `(pid, pidfd)`; `children` awaits it from here on. For several threads.

        `process` as in the workload's configuration; `streams` are the command's, or crun's own where `console` is a
        socket at which the command's terminal is to be handed over. Only while `wait` runs, which reaps.
        Raises Permanent(EXEC_FAILED) with crun's words.
        """
        place = self._bundle / f"exec-{next(self._numbers)}"
        said, pid_file = place.with_suffix(".log"), place.with_suffix(".pid")
        place.write_text(json.dumps(process))
        terminal = ["--tty", f"--console-socket={console}"] if console else []
        arguments = ["exec", "--detach", *terminal, f"--pid-file={pid_file}", f"--process={place}", NAME]
        try:
            with self.children.expecting():
                crun = self.children.spawn([*self._crun, f"--log={said}", *arguments], _ENVIRONMENT, streams)
                ended = self.children.end_of(crun, EXEC_SECONDS)
                if ended is None:
                    os.kill(crun, signal.SIGKILL)
                if ended is None or ended[0] != 0:
                    raise _not_started(said, "no answer" if ended is None else f"status {ended[0]}")
                pid = int(pid_file.read_text())
                return pid, self.children.adopt(pid)
        finally:
            for path in (place, said, pid_file):
                path.unlink(missing_ok=True)

    def remove(self) -> None:
        """What crun remembers of it."""
        with contextlib.suppress(Permanent):
            self._run("delete", "--force", NAME)

    def _signal(self, number: int) -> None:
        with contextlib.suppress(ProcessLookupError):
            os.kill(self.pid, number)

    def _run(self, *arguments: str, streams: Mapping[int, int] | None = None) -> None:
        # Its standard streams are the workload's: crun's own words go to a file.
        said = self._bundle / "crun.log"
        actions = [(os.POSIX_SPAWN_DUP2, ours, its) for its, ours in (streams or {}).items()]
        # No wait() of subprocess may race ours: posix_spawn and waitpid on exactly this child.
        command = [*self._crun, f"--log={said}", *arguments]
        pid = os.posix_spawn(command[0], command, _ENVIRONMENT, file_actions=actions, setsigmask=())
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


def _not_started(said: Path, otherwise: str) -> Permanent:
    lines = said.read_text(errors="replace").strip().splitlines() if said.exists() else []
    return Permanent(
        Code.EXEC_FAILED,
        "the command could not be started",
        expected="crun exec to succeed",
        got=lines[-1][-1000:] if lines else otherwise,
        advice="see whether the image has the program, and whether the workload's user may execute it",
    )
