"""Who of boot init's children ended how: one wait for all of them, since a second one would take the first one's news.

Zone: enclave. May import: the standard library.

The first thread reaps. Other threads start programs, and learn of their ends here. A process that crun leaves to boot
init is known by its pid only when crun has ended, and may have ended itself by then: so whoever ends while somebody
`expects` a process is remembered.
"""

from __future__ import annotations

import errno
import os
import signal
import threading
from collections.abc import Iterator, Mapping
from contextlib import contextmanager, suppress
from time import time_ns


class Children:
    """All children of this process."""

    def __init__(self) -> None:
        self._changed = threading.Condition()
        self._awaited: dict[int, tuple[int, int] | None] = {}
        self._strangers: dict[int, tuple[int, int]] = {}
        self._expecting = 0
        self._closed = False

    def reap(self) -> Iterator[tuple[int, int]]:
        """Whoever has ended by now: `(pid, wait status)`, one after the other. For the first thread alone."""
        while True:
            try:
                pid, status = os.waitpid(-1, os.WNOHANG)
            except ChildProcessError:
                return
            if not pid:
                return
            ended = status, time_ns()
            with self._changed:
                if pid in self._awaited:
                    self._awaited[pid] = ended
                elif self._expecting:
                    self._strangers[pid] = ended
                self._changed.notify_all()
            yield pid, status

    @contextmanager
    def expecting(self) -> Iterator[None]:
        """Remember whoever ends meanwhile: it may be one that is `adopt`ed later."""
        with self._changed:
            self._expecting += 1
        try:
            yield
        finally:
            with self._changed:
                self._expecting -= 1
                if not self._expecting:
                    self._strangers.clear()

    def spawn(
        self, program: list[str], environment: Mapping[str, str], streams: Mapping[int, int] | None = None
    ) -> int:
        """Start a program and await its end; its pid. `streams` gives each of its descriptors one of ours.

        Raises OSError when it cannot be started, or nobody reaps any more.
        """
        actions = [(os.POSIX_SPAWN_DUP2, ours, its) for its, ours in (streams or {}).items()]
        with self._changed:
            if self._closed:
                raise ProcessLookupError(errno.ESRCH, "the workload has ended")
            # No signal is blocked in it, as some are here.
            pid = os.posix_spawn(program[0], program, environment, file_actions=actions, setsigmask=())
            self._awaited[pid] = None
        return pid

    def adopt(self, pid: int) -> int | None:
        """Await the end of a process that another program has left to this one; `expecting` since before that.

        Its pidfd, which never means another process as its pid may; None where it has ended already.
        """
        with self._changed:
            self._awaited[pid] = ended = self._strangers.pop(pid, None)
            with suppress(ProcessLookupError):  # it was reaped, and that is not told yet
                return os.pidfd_open(pid) if ended is None else None
            return None

    def end_of(self, pid: int, seconds: float | None = None) -> tuple[int, int] | None:
        """Wait for the end of an awaited process: `(exit status or minus the signal, nanoseconds since 1970)`.

        None when `seconds` have gone by. One caller a process: it is forgotten with the answer.
        """
        with self._changed:
            if not self._changed.wait_for(lambda: self._awaited[pid] is not None, seconds):
                return None
            ended = self._awaited.pop(pid)
        assert ended is not None  # noqa: S101 - waited for above
        return os.waitstatus_to_exitcode(ended[0]), ended[1]

    def end(self) -> None:
        """Kill and reap whatever is still awaited, and start nothing more: the last act of the first thread."""
        with self._changed:
            self._closed = True
            for pid in [pid for pid, ended in self._awaited.items() if ended is None]:
                with suppress(ProcessLookupError):
                    os.kill(pid, signal.SIGKILL)
                with suppress(ChildProcessError):
                    self._awaited[pid] = os.waitpid(pid, 0)[1], time_ns()
            self._changed.notify_all()
