"""Rounds: one process is killed while pods talk, some end, a command streams; what was written is held to what is kept.

Three things are nature, and the same under runc (`just soak-kills` shows that beside):

- A command's stream ends in containerd itself, so it is cut when containerd dies; the next one is whole.
- What containerd has read of a log and not written yet dies with it. So the pods are silent at that instant, and talk
  again while it is away.
- containerd takes a pod whose shim died for dead, and has it removed: what was running is killed. A kubelet reads 255,
  for a status that is not known; the history has the real one, also of what had ended and was not told yet.
"""

from __future__ import annotations

import os
import signal
from collections.abc import Callable, Iterable, Sequence
from concurrent.futures import ThreadPoolExecutor
from contextlib import suppress
from dataclasses import dataclass
from enum import StrEnum
from pathlib import Path
from typing import Final

from deploy.local.cri import ContainerState, Kubelet
from orchestrator.events import Foreign, Recorded
from tests.e2e import victims
from tests.e2e.cluster import Cluster
from tests.e2e.streams import Counted
from tests.e2e.talkers import STREAM_STATUS, Images, Talker, Talkers, halted, resumed
from tests.waiting import eventually

KILLED: Final = 137
UNKNOWN: Final = 255
EXEC_BYTES: Final = "bytes of exec"
CONFIDENTIAL: Final = "enclave-cc"
_RUNC_SHIM: Final = b"containerd-shim-runc-v2"


class Victim(StrEnum):
    """Who is killed; all but a shim are started again by the stack's supervisor."""

    CONTAINERD = "containerd"
    SHIM = "shim"
    SHIM_WITH_EXIT = "shim, an exit untold"
    ZYGOTE = "zygote"
    WORKER = "worker"
    BUS = "bus"
    ORCHESTRATOR = "orchestrator"


NODE_ALONE: Final = (Victim.CONTAINERD, Victim.SHIM, Victim.SHIM_WITH_EXIT)
"""Those that a pod under runc has too."""


@dataclass(frozen=True, slots=True)
class Count:
    """So much was written, and so much of it is there."""

    written: int
    kept: int

    def __str__(self) -> str:
        return f"{self.kept:,} of {self.written:,}"


@dataclass(frozen=True, slots=True)
class Outcome:
    """What came of a round: counts by what they count. `cut` is of a stream that ended with containerd, by nature.

    `lost` has a line for each thing that was lost.
    """

    counts: dict[str, Count]
    refused: int
    wrong: tuple[str, ...] = ()
    cut: Count | None = None

    @property
    def lost(self) -> list[str]:
        """Nothing, when all is well."""
        less = [f"{what}: {count}" for what, count in self.counts.items() if count.kept != count.written]
        return [*less, *self.wrong, *([f"{self.refused} facts refused"] if self.refused else [])]

    def cells(self) -> dict[str, str]:
        """Its row of a table, by column."""
        told = {what: str(count) for what, count in self.counts.items()}
        if self.cut is not None:
            told[EXEC_BYTES] = f"{told[EXEC_BYTES]}, after {self.cut} that were cut"
        return {**told, "facts refused": str(self.refused)}


class Rounds:
    """So many pods under one handler, and what happens to them round by round. A command streams so many pieces."""

    def __init__(self, cluster: Cluster, kubelet: Kubelet, made: Images, *, handler: str, pieces: int) -> None:
        """`kubelet` is the handler's. Nothing runs until `start`."""
        self._cluster = cluster
        self._kubelet = kubelet
        self._confidential = handler == CONFIDENTIAL
        reference = made.sealed if self._confidential else made.plain
        kubelet.pull(reference)
        self._talkers = Talkers(cluster, kubelet, reference)
        self._pieces = pieces
        self._length, self._digest = made.stream(pieces)
        self._running: list[Talker] = []
        self._ended: list[Talker] = []
        self._counted: dict[str, Count] = {}
        self._names = iter(range(1000))
        self._missed: list[str] = []

    def start(self, pods: int, at_once: int = 4) -> None:
        """Launch so many, so many at once."""
        with ThreadPoolExecutor(at_once) as threads:
            self._running += threads.map(lambda _: self._start(), range(pods))

    def strike(self, victim: Victim, ending: int) -> Outcome:
        """Kill it while a command streams; so many pods end meanwhile, and are started again afterwards."""
        pods, self._missed = list(self._running), []
        lost = pods[-1] if victim in (Victim.SHIM, Victim.SHIM_WITH_EXIT) else None
        ends = pods[1 : 1 + ending]
        live = [talker for talker in pods if talker not in ends and talker is not lost]
        before = self._histories()
        stream = self._stream(pods[0])
        stream.flows()
        is_back = self._kill(victim, lost)
        for talker in ends:
            talker.tell(signal.SIGTERM)
        resumed(live)
        eventually(is_back)
        cut = None
        if victim is Victim.CONTAINERD:
            stream.go_on()
            cut, stream = Count(self._length, stream.received), self._stream(pods[0])
        came = self._finish(stream)
        exits = self._count(ends, self._has_ended)
        if lost is not None:
            exits = Count(exits.written + 1, exits.kept + self._lost_is_told(lost, victim))
        lived = self._count(live, self._goes_on)
        halted(live)
        lines = self._lines(pods)
        resumed(live)
        wrong = (*self._broken(before), *self._missed)
        counts = {"pods live": lived, "log lines": lines, "exits": exits, EXEC_BYTES: came}
        outcome = Outcome(counts, self._refused(), wrong, cut)
        self._make_up(ends, lost)
        return outcome

    def finish(self) -> Outcome:
        """All of them end; everyone who ever ended is asked for."""
        for talker in self._running:
            talker.tell(signal.SIGTERM)
        self._ended += self._running
        self._missed = []
        exits = self._count(self._ended, self._has_ended)
        return Outcome({"log lines": self._lines(self._running), "exits": exits}, self._refused(), (*self._missed,))

    def _start(self) -> Talker:
        return self._talkers.start(f"talk-{next(self._names)}")

    def _make_up(self, ends: Sequence[Talker], lost: Talker | None) -> None:
        """As a kubelet does: another container in the same pod; another pod for one that is gone."""
        self._ended += ends
        for talker in ends:
            self._running[self._running.index(talker)] = self._talkers.again(talker)
        if lost is not None:
            self._running.remove(lost)
            self._ended = [talker for talker in self._ended if talker.pod is not lost.pod]
            self._cluster.remove(lost.pod.id)
            self._running.append(self._start())

    def _kill(self, victim: Victim, lost: Talker | None) -> Callable[[], bool]:
        """`kill -9`; whether what comes of it has come."""
        if lost is not None:
            halted([lost])
            shim = self._shim_of(lost)
            if victim is Victim.SHIM_WITH_EXIT:
                os.kill(shim, signal.SIGSTOP)
                lost.tell(signal.SIGTERM)
                eventually(lambda: lost.is_over)
            victims.kill(shim)
            return lambda: not self._kubelet.pod_status(lost.pod).ready
        if victim is Victim.CONTAINERD:
            halted(self._running)
        pid = self._cluster.pid(victim)
        victims.kill(pid)
        return lambda: self._kubelet.ready() and all(s.ready and s.pid != pid for s in self._cluster.stack.status())

    def _shim_of(self, talker: Talker) -> int:
        if self._confidential:
            return victims.shim_of(self._cluster, talker.pod.id)
        for process in Path("/proc").glob("[0-9]*"):
            with suppress(OSError):
                words = (process / "cmdline").read_bytes().split(b"\0")
                if words[0].endswith(_RUNC_SHIM) and talker.pod.id.encode() in words:
                    return int(process.name)
        raise AssertionError(f"{talker.pod.name} has no shim")

    def _stream(self, talker: Talker) -> Counted:
        url = self._kubelet.exec_url(talker.container, ("/bin/sh", "/stream", str(self._pieces)))
        return Counted(url, self._length)

    def _finish(self, stream: Counted) -> Count:
        """What came of it; a byte too few where all came, but not as it was given."""
        as_given = (stream.go_on(), stream.status) == (self._digest, STREAM_STATUS)
        return Count(self._length, stream.received if as_given else min(stream.received, self._length - 1))

    def _has_ended(self, talker: Talker) -> bool:
        """Whether containerd and the history say that it ended with its own status."""
        told = self._talkers.has_ended(talker)
        return told and (not self._confidential or self._exit_in_history(talker) == talker.code)

    def _lost_is_told(self, talker: Talker, victim: Victim) -> bool:
        """Whether somebody knows the status of a container whose shim died, when containerd knows that it ended."""
        if not _within(lambda: self._talkers.status(talker.container)[0] is ContainerState.EXITED):
            return False
        _, told = self._talkers.status(talker.container)
        if not self._confidential:
            return told == (talker.code if victim is Victim.SHIM_WITH_EXIT else UNKNOWN)
        code = talker.code if victim is Victim.SHIM_WITH_EXIT else KILLED
        return told == UNKNOWN and _within(lambda: self._exit_in_history(talker) == code)

    def _exit_in_history(self, talker: Talker) -> int | None:
        exited = self._cluster.launch_of(talker.pod.id).containers[talker.container].progress.exit
        return exited.code if exited is not None else None

    def _goes_on(self, talker: Talker) -> bool:
        """Whether it runs, and containerd writes what it says from now on."""
        ready, (state, _) = self._kubelet.pod_status(talker.pod).ready, self._talkers.status(talker.container)
        before = len(talker.spoken().lines)
        return ready and state is ContainerState.RUNNING and _within(lambda: len(talker.spoken().lines) > before)

    def _count(self, talkers: Sequence[Talker], look: Callable[[Talker], bool]) -> Count:
        missed = [talker for talker in talkers if not _within(lambda talker=talker: look(talker))]
        self._missed += [f"{talker.pod.name} ({talker.code}): {self._what_is(talker)}" for talker in missed]
        return Count(len(talkers), len(talkers) - len(missed))

    def _what_is(self, talker: Talker) -> str:
        state, code = self._talkers.status(talker.container)
        history = f", {self._exit_in_history(talker)} to its history" if self._confidential else ""
        return f"{state.name} {code} to containerd{history}; its process {'has ended' if talker.is_over else 'runs'}"

    def _lines(self, talkers: Iterable[Talker]) -> Count:
        """Those that came since they were counted last. All of the talkers have said how many they wrote."""
        written = kept = 0
        for talker in talkers:
            spoken = talker.spoken()
            last = self._counted.get(talker.container, Count(0, 0))
            now = Count(spoken.said, len(spoken.lines) if spoken.whole else len({*spoken.lines}) - 1)
            written, kept = written + now.written - last.written, kept + now.kept - last.kept
            self._counted[talker.container] = now
        return Count(written, kept)

    def _histories(self) -> dict[str, list[Recorded | Foreign]]:
        return self._cluster.histories() if self._confidential else {}

    def _broken(self, before: dict[str, list[Recorded | Foreign]]) -> tuple[str, ...]:
        """A line for each history that does not begin as it did before."""
        after = self._histories()
        return tuple(f"history of {pod}" for pod, facts in before.items() if after[pod][: len(facts)] != facts)

    def _refused(self) -> int:
        """Facts that the fold ignored, of all pods that there are."""
        if not self._confidential:
            return 0
        return sum(len(self._cluster.launch_of(talker.pod.id).ignored) for talker in self._running)


def _within(look: Callable[[], bool]) -> bool:
    """Whether it comes true."""
    try:
        return eventually(look)
    except AssertionError:
        return False
