"""What is told of a launch, as frozen values. Times are wall clock in nanoseconds, 0 where there is none.

Zone: any. May import: `orchestrator.{faults,launch,lifecycle}`. Pure.
"""

from __future__ import annotations

from dataclasses import dataclass
from enum import StrEnum

from orchestrator.faults import Diagnosis
from orchestrator.launch import Awaited, Failure, Launch
from orchestrator.lifecycle import State, Transition, Zone


class Outcome(StrEnum):
    """What became of a step."""

    DONE = "done"
    FAILED = "failed"
    AWAITED = "awaited"
    NOT_REACHED = "not reached"


class Signer(StrEnum):
    """On whose word a message stands. Whatever is not signed is the word of an untrusted host."""

    EVENT_KEY = "event key"
    OPERATOR = "operator's key"
    UNSIGNED = "unsigned"
    FORGED = "forged"


@dataclass(frozen=True, slots=True)
class Attempt:
    """One attempt of a step that failed. `counted` is False where the fact came when nobody awaited it any more."""

    index: int
    at_ns: int
    number: int
    diagnosis: Diagnosis
    zone: Zone
    actor: str
    counted: bool


@dataclass(frozen=True, slots=True)
class Step:
    """One transition of the pod (`container` is empty) or of a container.

    `share` is this step's part of the time that all the launch's steps took, 0 to 1; `index` is the fact that ended it.
    """

    container: str
    transition: Transition
    outcome: Outcome
    began_ns: int = 0
    ended_ns: int = 0
    index: int = 0
    attempts: int = 0
    failed: tuple[Attempt, ...] = ()
    share: float = 0.0

    @property
    def nanoseconds(self) -> int:
        """How long it took; 0 for one that has not ended."""
        return max(0, self.ended_ns - self.began_ns) if self.ended_ns else 0


@dataclass(frozen=True, slots=True)
class Verdict:
    """What was judged (`subject`), by which policy, and the judge's own words. `zone` is where it was judged."""

    about: str
    container: str
    subject: str
    policy: str
    verdict: str
    zone: Zone
    index: int


@dataclass(frozen=True, slots=True)
class Evidence:
    """What proves which enclave this is. Digests and keys in hex; `expected_measurement` is what the host said."""

    measurement: str
    expected_measurement: str
    tcb_status: str
    simulated: bool
    quote_bytes: int
    quote_sha256: str
    token_sha256: str
    event_public_key: str
    kbs: str
    index: int


@dataclass(frozen=True, slots=True)
class Cause:
    """One likely cause. `tell` says what to look at to know; `evident`, that the launch itself shows it."""

    what: str
    tell: str
    evident: bool = False


@dataclass(frozen=True, slots=True)
class Explained:
    """A failure with what to do about it. `container` is empty for the pod's own."""

    container: str
    failure: Failure
    attempts_allowed: int
    next_action: str
    causes: tuple[Cause, ...]


@dataclass(frozen=True, slots=True)
class Told:
    """One message of the history: who said what, on whose word, and what it changed.

    `effect` is empty for a fact that counted, else why it changed nothing. `index` is 0 and `zone` None for what is no
    fact. `details` are the statement's members as text; bytes stand as length and SHA-256.
    """

    sequence: int
    index: int
    at_ns: int
    kind: str
    container: str
    attempt: int
    zone: Zone | None
    actor: str
    signer: Signer
    effect: str
    digest: str
    details: tuple[tuple[str, str], ...]


@dataclass(frozen=True, slots=True)
class Order:
    """Somebody ordered something of the launch (`container` is empty) or of a container, and why.

    `actor` is a name as claimed; `signer` says whether a key that the launch names stands for it.
    """

    index: int
    at_ns: int
    container: str
    what: str
    actor: str
    signer: Signer
    reason: str


@dataclass(frozen=True, slots=True)
class Change:
    """One thing that a message changed, of the pod (`container` is empty) or of a container. Empty text: none."""

    container: str
    what: str
    before: str
    after: str


@dataclass(frozen=True, slots=True)
class LaunchStory:
    """Everything that a person asks of one launch. `launch` has the identities; the rest is told.

    `stopped` is what ended it before it was done, where nothing failed.
    `working_ns` is the time that steps took; what lies between them (a container asked for later) is not in it.
    """

    launch: Launch
    title: str
    verdict: str
    reached: State
    began_ns: int
    changed_ns: int
    working_ns: int
    steps: tuple[Step, ...]
    waiting: tuple[Awaited, ...]
    evidence: Evidence | None
    verdicts: tuple[Verdict, ...]
    failures: tuple[Explained, ...]
    stopped: Explained | None
    orders: tuple[Order, ...]
    facts: tuple[Told, ...]

    @property
    def failure(self) -> Explained | None:
        """The first failure, which is the pod's if it has one."""
        return self.failures[0] if self.failures else None

    def steps_of(self, container: str) -> tuple[Step, ...]:
        """The steps of the pod (empty) or of one container."""
        return tuple(step for step in self.steps if step.container == container)

    def name_of(self, container: str) -> str:
        """What a person calls a container: its name in the pod, else the start of its id; "pod" for the pod."""
        known = self.launch.containers.get(container)
        return (known.requested.name if known else "") or container[:12] or "pod"
