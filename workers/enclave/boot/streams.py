"""The workload's own standard streams: the host's as they are, a terminal, or what seals every byte for the owner.

Zone: enclave. May import: `workers.enclave`, `orchestrator.faults`, the standard library.

|  | crun gives the workload | what it writes |
|---|---|---|
| plain | the host's three streams | goes to the host as it is |
| a terminal | a terminal, whose master stays here | is copied to the host's output |
| sealed | pipes, or a terminal | is read here and sealed (`output`); the host's output gets records |

Standard input is the host's word in any case.
"""

from __future__ import annotations

import os
import time
from collections.abc import Mapping
from pathlib import Path
from typing import Final

from orchestrator.faults import Code, Permanent
from workers.enclave.boot.output import OutputSeal, SealedStream
from workers.enclave.boot.terminal import ConsoleSocket, Terminal

INPUT: Final = 0
OUTPUTS: Final = {"stdout": 1, "stderr": 2}
"""The streams' names, and their descriptors on both sides."""


class WorkloadStreams:
    """Made before the workload is created, `connect`ed when it is, and `drain`ed when it has ended."""

    def __init__(self, console: Path | None, seal: OutputSeal | None, owner: tuple[int, int]) -> None:
        """`console`: where a console socket is made, if the workload is to have a terminal. `owner`: its uid and gid.

        A workload that opens /dev/stdout opens its pipe by name, as the user that it is.
        """
        self._terminal: Terminal | None = None
        self._sealed: list[SealedStream] = []
        self._theirs: dict[int, int] = {}
        self._console = ConsoleSocket(console) if console else None
        self._null = os.open(os.devnull, os.O_RDWR | os.O_CLOEXEC)
        for stream, host in OUTPUTS.items():
            if seal is not None and stream in seal.streams:
                reading, writing = os.pipe2(os.O_CLOEXEC)
                os.fchown(writing, *owner)
                self._sealed.append(SealedStream(seal.begin(stream), reading, host))
                self._theirs[host] = writing

    @property
    def console(self) -> Path | None:
        """The console socket for crun."""
        return self._console.path if self._console else None

    @property
    def given(self) -> Mapping[int, int]:
        """Which of our descriptors is each of the workload's; with a terminal, nothing is given."""
        if self._console is not None:
            return dict.fromkeys((INPUT, *OUTPUTS.values()), self._null)
        return self._theirs

    def connect(self) -> None:
        """The workload exists: take its terminal's master, and let go of its ends of the pipes.

        Raises Permanent(BOOT_PROCESS) when crun handed no terminal over.
        """
        if self._console is not None:
            try:
                master = self._console.master()
            except OSError as error:
                raise Permanent(
                    Code.BOOT_PROCESS,
                    "the workload has no terminal",
                    expected="a terminal, handed over by crun",
                    got=type(error).__name__,
                    advice="see the kernel's log",
                ) from error
            finally:
                self._console.close()
            target = self._theirs.pop(OUTPUTS["stdout"], None)
            self._terminal = Terminal(master, os.dup(INPUT), os.dup(OUTPUTS["stdout"]) if target is None else target)
        self._close()

    def resize(self, rows: int, columns: int) -> None:
        """The terminal's size, if there is one."""
        if self._terminal is not None:
            self._terminal.resize(rows, columns)

    def drain(self, seconds: float) -> None:
        """Wait until all that the workload wrote has gone to the host, which may be slow to take it."""
        ends = time.monotonic() + seconds
        self._close()
        if self._terminal is not None:
            self._terminal.drain(seconds)
        for stream in self._sealed:
            stream.drain(max(0.0, ends - time.monotonic()))

    def _close(self) -> None:
        for descriptor in self._theirs.values():
            os.close(descriptor)
        self._theirs = {}
        if self._null >= 0:
            os.close(self._null)
            self._null = -1
