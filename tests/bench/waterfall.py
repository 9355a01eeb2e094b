"""Where a launch's time goes: a confidential launch cut at its facts and the kubelet's calls; many of them summed up.

Pure: numbers in, numbers out. Times are nanoseconds of one machine's clock, durations in results milliseconds.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from itertools import pairwise
from statistics import median, quantiles

from orchestrator.events import ContainerRequested, Foreign, PodRequested, Recorded, StartRequested
from orchestrator.launch import Launch
from orchestrator.lifecycle import LAUNCH_STATES

RUN, CREATE, START, ANSWER = "RunPodSandbox", "CreateContainer", "StartContainer", "first answer"
CALLS = (RUN, CREATE, START, ANSWER)


@dataclass(frozen=True, slots=True)
class Calls:
    """One launch as a kubelet sees it: when it began, and when each of `CALLS` was over."""

    begun: int
    ends: tuple[int, int, int, int]

    def durations(self) -> dict[str, int]:
        """By call, and `total`."""
        starts = (self.begun, *self.ends)
        found = {call: end - start for call, start, end in zip(CALLS, starts, self.ends, strict=False)}
        return found | {"total": self.ends[-1] - self.begun}


@dataclass(frozen=True, slots=True)
class Step:
    """A part of the launch that has one name: the way to a state, or what lies between (`state` is then empty)."""

    name: str
    state: str
    call: str


@dataclass(frozen=True, slots=True)
class Row:
    """A step over many launches. `start_ms` is where it begins in the median launch, `share` its part of all time."""

    step: Step
    start_ms: float
    summary: Summary
    share: float


@dataclass(frozen=True, slots=True)
class Summary:
    """Milliseconds: the median, the quartiles around it, and what nine in ten stay below."""

    median: float
    lower: float
    upper: float
    p90: float


STEPS = (
    Step("containerd: network, shim", "", RUN),
    *(Step(f"to {state}", state, RUN) for state in LAUNCH_STATES[:3]),
    Step("back to the kubelet", "", RUN),
    Step("containerd: container", "", CREATE),
    Step("containerd: task", "", START),
    *(Step(f"to {state}", state, START) for state in LAUNCH_STATES[3:5]),
    Step("back, and asked to start", "", START),
    *(Step(f"to {state}", state, START) for state in LAUNCH_STATES[5:]),
    Step("back to the kubelet", "", START),
    Step("until it answers", "", ANSWER),
)


def cut(calls: Calls, history: Sequence[Recorded | Foreign], launch: Launch) -> list[int]:
    """How long each of `STEPS` took; together exactly the whole launch. The pod has one container."""
    (container,) = launch.containers.values()
    facts = [message.fact for message in history if isinstance(message, Recorded)]
    asked = {kind: next(f.at_ns for f in facts if isinstance(f.body, kind)) for kind in _ASKED}
    pod = [passed.at_ns for passed in launch.progress.passed]
    own = [passed.at_ns for passed in container.progress.passed]
    edges = [calls.begun, asked[PodRequested], *pod, *calls.ends[:2], asked[ContainerRequested], *own[:2]]
    edges += [asked[StartRequested], *own[2:], *calls.ends[2:]]
    took = [end - start for start, end in pairwise(edges)]
    if len(took) != len(STEPS) or min(took) < 0:
        raise ValueError(f"the facts of pod {launch.pod} are not in the order of a launch: {took}")
    return took


_ASKED = (PodRequested, ContainerRequested, StartRequested)


def rows(launches: Sequence[Sequence[int]]) -> list[Row]:
    """The waterfall of many launches."""
    whole = sum(map(sum, launches))
    found, start = [], 0.0
    for number, step in enumerate(STEPS):
        taken = [launch[number] for launch in launches]
        found.append(Row(step, start, summary(taken), sum(taken) / whole))
        start += found[-1].summary.median
    return found


def summary(nanoseconds: Sequence[int]) -> Summary:
    """Of at least two durations."""
    ms = [duration / 1e6 for duration in nanoseconds]
    lower, _, upper = quantiles(ms, n=4, method="inclusive")
    return Summary(median(ms), lower, upper, quantiles(ms, n=10, method="inclusive")[8])


def by_call(launches: Sequence[Calls]) -> dict[str, Summary]:
    """Each call over many launches, and their `total`."""
    taken = [launch.durations() for launch in launches]
    return {call: summary([each[call] for each in taken]) for call in (*CALLS, "total")}


def ratios(confidential: Mapping[str, Summary], plain: Mapping[str, Summary]) -> dict[str, float]:
    """How many times longer the confidential median is, by call."""
    return {call: confidential[call].median / plain[call].median for call in confidential}
