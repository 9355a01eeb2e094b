"""A cluster's processes: each with a log of its own, none of which outlives the test run that started it."""

from __future__ import annotations

import os
import signal
import socket
import subprocess
from collections.abc import Callable, Mapping
from contextlib import suppress
from pathlib import Path
from typing import Final

from tests.waiting import eventually

ENDS_WITHIN: Final = 20
LOG_TAIL: Final = 3000


class Process:
    """One program. It is killed with the thread that started it, however that one ends."""

    def __init__(self, name: str, command: list[str], logs: Path, environment: Mapping[str, str] | None = None) -> None:
        """Nothing is started."""
        self.name = name
        self._command = command
        self._environment = {**os.environ, **(environment or {})}
        self._log = logs / f"{name}.log"
        self._process: subprocess.Popen[bytes] | None = None

    def start(self) -> None:
        """Start it; done when it has been started, not when it is ready."""
        with self._log.open("ab") as log:
            self._process = subprocess.Popen(
                ["setpriv", "--pdeathsig", "KILL", *self._command],
                stdin=subprocess.DEVNULL,
                stdout=log,
                stderr=log,
                env=self._environment,
                start_new_session=True,
            )

    def wait(self, ready: Callable[[], bool], seconds: float = 60) -> None:
        """Wait until it is ready; fails with the end of its log when it ends before that."""

        def look() -> bool:
            if self._process is None or self._process.poll() is not None:
                raise RuntimeError(f"{self.name} has ended; its log ends: {self.tail()}")
            return ready()

        try:
            eventually(look, seconds)
        except AssertionError as error:
            raise RuntimeError(f"{self.name} is not ready; its log ends: {self.tail()}") from error

    def stop(self, how: signal.Signals = signal.SIGTERM) -> None:
        """End it and wait until it is gone; killed when it does not end."""
        if self._process is None:
            return
        with suppress(ProcessLookupError):
            self._process.send_signal(how)
        try:
            self._process.wait(ENDS_WITHIN)
        except subprocess.TimeoutExpired:
            self._process.kill()
            self._process.wait(ENDS_WITHIN)
        self._process = None

    def tail(self) -> str:
        """The end of its log."""
        return self._log.read_text(errors="replace")[-LOG_TAIL:] if self._log.exists() else ""


def free_ports(count: int) -> list[int]:
    """TCP ports of 127.0.0.1 that nobody uses now, held all at once while they are chosen."""
    probes = [socket.create_server(("127.0.0.1", 0)) for _ in range(count)]
    try:
        return [int(probe.getsockname()[1]) for probe in probes]
    finally:
        for probe in probes:
            probe.close()
