"""What a launch is: the pod, its containers, how far they came, and which steps somebody must execute now.

Zone: any. May import: `orchestrator.{events,faults,lifecycle}`. Pure values: no I/O, no clock.

`orchestrator.fold` makes these from a history; nothing else does.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field, replace

from orchestrator import events
from orchestrator.faults import Code, Diagnosis
from orchestrator.lifecycle import HOLD, HOST_HALF, TEARDOWN, State, Subject, Transition, next_transition, rank


@dataclass(frozen=True, slots=True)
class Awaited:
    """A step that somebody must execute: not before `not_before_ns`, and not after `deadline_ns`."""

    container: str
    transition: Transition
    attempt: int
    not_before_ns: int
    deadline_ns: int

    @property
    def key(self) -> tuple[str, str, int]:
        """What identifies the step within its pod."""
        return self.container, self.transition.name, self.attempt


@dataclass(frozen=True, slots=True)
class Passed:
    """A state that was reached: when, by which message, and how long its transition took."""

    state: State
    at_ns: int
    index: int
    nanoseconds: int
    attempts: int


@dataclass(frozen=True, slots=True)
class Ignored:
    """A message that changed nothing, and why."""

    index: int
    kind: str
    why: str


@dataclass(frozen=True, slots=True)
class Failure:
    """Why a launch ended: the state it had reached, the transition that failed, the diagnosis."""

    state: State
    transition: str
    attempt: int
    diagnosis: Diagnosis
    index: int


@dataclass(frozen=True, slots=True)
class Progress:
    """The part that a pod and a container share: where it is, since when, and on which attempt.

    `first` is the number of its steps' first attempts: 1, and after a resumption one more than was used before.
    """

    state: State = State.REQUESTED
    since_ns: int = 0
    attempt: int = 1
    not_before_ns: int = 0
    passed: tuple[Passed, ...] = ()
    failure: Failure | None = None
    torn_down: bool = False
    teardown_attempt: int = 1
    exit: events.Exited | None = None
    stop_reason: str = ""
    first: int = 1

    @property
    def live(self) -> bool:
        """Whether the launch goes on: neither failed, stopping, gone nor exited."""
        return self.state not in (State.FAILED, State.STOPPING, State.GONE, State.EXITED)

    @property
    def reached(self) -> State:
        """The last of the seven states that was reached."""
        return self.passed[-1].state if self.passed else State.REQUESTED

    def tries(self, attempt: int) -> int:
        """Which attempt of this run it is: what `Transition.attempts` bounds."""
        return attempt - self.first + 1


@dataclass(frozen=True, slots=True)
class Container:
    """One container of the pod and what is known of it.

    `execs` is how often each rule of the launch policy admitted a command beside the workload; `execs_refused`, how
    often none did. Both as of the last time that was told: see `schemas/facts.proto`.
    """

    id: str
    progress: Progress
    requested: events.ContainerRequested
    start_requested_ns: int = 0
    decrypted: events.ImageDecrypted | None = None
    sealed: events.FsSealed | None = None
    started: events.AppStarted | None = None
    started_attempt: int = 0
    delivered: events.ConfigDelivered | None = None
    booted: events.AppBooted | None = None
    execs: Mapping[str, int] = field(default_factory=dict)
    execs_refused: int = 0


@dataclass(frozen=True, slots=True)
class Launch:
    """A pod's launch as its history tells it. `head` is the digest that the next message must name.

    `formerly` are the attestations of agents that were replaced since: their facts stand under their keys.
    """

    pod: str
    index: int = 0
    sequence: int = 0
    head: bytes = b""
    progress: Progress = Progress()
    requested: events.PodRequested | None = None
    sandbox: events.SandboxCreated | None = None
    agent: events.AgentUp | None = None
    attested: events.Attested | None = None
    agent_lost: bool = False
    containers: Mapping[str, Container] = field(default_factory=dict)
    ignored: tuple[Ignored, ...] = ()
    forked: events.ForkedFrom | None = None
    formerly: tuple[events.Attested, ...] = ()

    @property
    def state(self) -> State:
        """The pod's state as seen from outside: of its least advanced live container once attested."""
        if self.progress.state is not State.ATTESTED or not self.containers:
            return self.progress.state
        live = [c.progress.state for c in self.containers.values() if c.progress.live]
        if live:
            return max(min(live, key=rank), State.ATTESTED, key=rank)
        ended = [c.progress.state for c in self.containers.values() if c.progress.state is not State.GONE]
        return ended[0] if ended else State.ATTESTED

    @property
    def refused_fork(self) -> bool:
        """Whether it is a fork that was stopped before anything was asked for: no node has anything of it."""
        return self.forked is not None and self.requested is None and self.progress.state is State.STOPPING

    @property
    def failure(self) -> Failure | None:
        """The pod's failure, or that of the first container that failed."""
        failures = [self.progress.failure, *(c.progress.failure for c in self.containers.values())]
        return next((f for f in failures if f is not None), None)


def new(pod: str) -> Launch:
    """The launch before anything happened."""
    return Launch(pod)


def awaited(launch: Launch) -> tuple[Awaited, ...]:
    """Every step that somebody must execute now. Of a pod that is gone there is none, nor of one that nobody
    requested, but for the end of a fork that was refused.
    """
    if launch.progress.state is State.GONE or (launch.requested is None and not launch.refused_fork):
        return ()
    if launch.progress.state in (State.FAILED, State.STOPPING) and not launch.progress.torn_down:
        return (_await_end(launch, "", launch.progress),)
    steps: list[Awaited] = []
    if launch.progress.live and (row := next_transition(Subject.POD, launch.progress.state)):
        steps.append(_await(row, "", launch.progress, launch.progress.since_ns))
    for container in launch.containers.values():
        steps.extend(_awaited_of(launch, container))
    return tuple(steps)


def _awaited_of(launch: Launch, container: Container) -> list[Awaited]:
    progress = container.progress
    if progress.state in (State.FAILED, State.STOPPING):
        return [] if progress.torn_down else [_await_end(launch, container.id, progress)]
    if not progress.live or launch.attested is None:
        return []
    steps, asked_ns = [], container.start_requested_ns
    since = max(progress.since_ns, launch.progress.since_ns)
    row = next_transition(Subject.CONTAINER, progress.state)
    if row is not None and row.name != "deliver_config":
        steps.append(_await(row, container.id, progress, since))
    elif row is not None and asked_ns:
        steps.append(_await(row, container.id, progress, max(since, asked_ns)))
    # The enclave may tell what was delivered before the host has told that it started what it was delivered to.
    if asked_ns and not container.started_attempt and rank(progress.state) >= rank(HOST_HALF.source):
        steps.append(_await(HOST_HALF, container.id, replace(progress, attempt=progress.first), max(since, asked_ns)))
    return steps


def _await(row: Transition, container: str, progress: Progress, since_ns: int) -> Awaited:
    start = max(since_ns, progress.not_before_ns)
    return Awaited(container, row, progress.attempt, progress.not_before_ns, start + int(row.deadline * 1e9))


def held(launch: Launch, progress: Progress) -> bool:
    """Whether what failed here is kept for somebody to resume it. Nothing goes on after a forged fact, or a stop."""
    return (
        launch.requested is not None
        and launch.requested.hold_seconds > 0
        and launch.progress.state not in (State.STOPPING, State.GONE)
        and progress.state is State.FAILED
        and not progress.torn_down
        and progress.failure is not None
        and progress.failure.diagnosis.code is not Code.FACT_FORGED
    )


def _await_end(launch: Launch, container: str, progress: Progress) -> Awaited:
    """What comes after a failure or a stop: a hold's end, or the teardown."""
    if launch.requested is not None and held(launch, progress):
        ends = progress.since_ns + launch.requested.hold_seconds * 10**9
        return Awaited(container, HOLD, 0, ends, ends)
    start = max(progress.since_ns, progress.not_before_ns)
    deadline = start + int(TEARDOWN.deadline * 1e9)
    return Awaited(container, TEARDOWN, progress.teardown_attempt, progress.not_before_ns, deadline)
