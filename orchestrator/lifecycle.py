"""The life of a pod, on one page: states, transitions, who executes each, how long it may take, how often.

Zone: any. May import: `transitions`, the standard library. No I/O.

    sandbox --> agent-up --> attested                                        the pod
                                '--> image-decrypted --> fs-sealed --> config-delivered --> app-booted
                                                                             each of its containers

- Three states belong to the pod, four to each container. The pod's own state, seen from outside, is that of its least
  advanced live container once it is attested.
- A transition is executed in the zone named beside it, by the worker file of the same name
  (`workers/host/create_sandbox.py`), and answered by one fact.
- `deliver_config` has a half in each zone: the host starts boot init (`start_app`), the enclave judges and delivers.
- A step that fails for a `Temporary` reason is tried again until `attempts` are used, each with its own deadline.
- Where a pod asks for it, what failed for good is held for a while before it is torn down, and an operator may resume
  it: it goes on with the transition that failed, or from the container's beginning where what it needs is spent.
- After the boot a container runs until it has `exited`. At any time a launch may be `failed`, `stopping` and, when all
  that was made for it has been removed, `gone`.
"""

from __future__ import annotations

from dataclasses import dataclass
from enum import StrEnum
from typing import Final

from transitions import Machine


class State(StrEnum):
    """Where a pod or one of its containers is. The first seven are a launch in order."""

    REQUESTED = "requested"
    SANDBOX = "sandbox"
    AGENT_UP = "agent-up"
    ATTESTED = "attested"
    IMAGE_DECRYPTED = "image-decrypted"
    FS_SEALED = "fs-sealed"
    CONFIG_DELIVERED = "config-delivered"
    APP_BOOTED = "app-booted"
    EXITED = "exited"
    FAILED = "failed"
    STOPPING = "stopping"
    GONE = "gone"


LAUNCH_STATES: Final = (
    State.SANDBOX,
    State.AGENT_UP,
    State.ATTESTED,
    State.IMAGE_DECRYPTED,
    State.FS_SEALED,
    State.CONFIG_DELIVERED,
    State.APP_BOOTED,
)
"""The seven persisted states of a successful launch, in order."""


class Zone(StrEnum):
    """Where a transition is executed. Host: untrusted. Enclave: its facts are signed."""

    HOST = "host"
    ENCLAVE = "enclave"


class Subject(StrEnum):
    """What a transition moves."""

    POD = "pod"
    CONTAINER = "container"


@dataclass(frozen=True, slots=True)
class Transition:
    """One row of the table. `deadline` is in seconds for one attempt; `attempts` counts the first."""

    name: str
    subject: Subject
    source: State
    target: State
    zone: Zone
    deadline: float
    attempts: int


TRANSITIONS: Final = (
    Transition("create_sandbox", Subject.POD, State.REQUESTED, State.SANDBOX, Zone.HOST, 30, 3),
    Transition("launch_agent", Subject.POD, State.SANDBOX, State.AGENT_UP, Zone.HOST, 60, 2),
    Transition("attest", Subject.POD, State.AGENT_UP, State.ATTESTED, Zone.ENCLAVE, 60, 5),
    Transition("decrypt_image", Subject.CONTAINER, State.REQUESTED, State.IMAGE_DECRYPTED, Zone.ENCLAVE, 900, 5),
    Transition("seal_fs", Subject.CONTAINER, State.IMAGE_DECRYPTED, State.FS_SEALED, Zone.ENCLAVE, 300, 1),
    Transition("deliver_config", Subject.CONTAINER, State.FS_SEALED, State.CONFIG_DELIVERED, Zone.ENCLAVE, 60, 1),
    Transition("boot_app", Subject.CONTAINER, State.CONFIG_DELIVERED, State.APP_BOOTED, Zone.ENCLAVE, 60, 1),
)
"""The launch. From `seal_fs` on there is one attempt: what those steps need lives in one enclave's memory only."""

HOST_HALF: Final = Transition("start_app", Subject.CONTAINER, State.FS_SEALED, State.FS_SEALED, Zone.HOST, 60, 1)
"""The host's half of `deliver_config`: runc starts the app enclave's boot init. Moves no state."""

TEARDOWN: Final = Transition("teardown", Subject.POD, State.STOPPING, State.GONE, Zone.HOST, 120, 10)
"""Removes what was made, for a pod or one container; also after a failure. Retried until it is done."""

HOLD: Final = Transition("hold", Subject.POD, State.FAILED, State.STOPPING, Zone.HOST, 0, 1)
"""What failed is kept until its pod's hold is over; nobody executes it. Its deadline is the pod's own."""

BY_NAME: Final = {t.name: t for t in (*TRANSITIONS, HOST_HALF, TEARDOWN)}

_LIVE: Final = (State.REQUESTED, *LAUNCH_STATES)


def machine(subject: Subject) -> Machine:
    """The declared state machine of a pod or of a container, for drawing and for introspection.

    `compile_table` makes the dict that the fold uses; a Machine a pod would cost 30 KB each.
    """
    rows = [t for t in TRANSITIONS if t.subject is subject]
    states = [State.REQUESTED.value, *(t.target.value for t in rows)]
    exited, failed, stopping, gone = State.EXITED.value, State.FAILED.value, State.STOPPING.value, State.GONE.value
    built = Machine(
        model=None,
        states=[*states, exited, failed, stopping, gone],
        initial=State.REQUESTED.value,
        auto_transitions=False,
    )
    for row in rows:
        built.add_transition(row.name, row.source.value, row.target.value)
    for state in states:
        built.add_transition("exit", state, exited)
        built.add_transition("fail", state, failed)
    for state in (*states, exited, failed):
        built.add_transition("stop", state, stopping)
    for state in (stopping, failed):
        built.add_transition("teardown", state, gone)
    return built


def compile_table(subject: Subject) -> dict[tuple[State, str], State]:
    """`(state, trigger) -> state`, read from the declared machine. A missing key is a refused trigger."""
    built = machine(subject)
    return {
        (State(source), trigger): State(str(edge.dest))
        for trigger, event in built.events.items()
        for source, edges in event.transitions.items()
        for edge in edges
    }


POD_TABLE: Final = compile_table(Subject.POD)
CONTAINER_TABLE: Final = compile_table(Subject.CONTAINER)


def next_transition(subject: Subject, state: State) -> Transition | None:
    """The transition that a launch in `state` waits for; None when the next move is somebody else's."""
    return next((t for t in TRANSITIONS if t.subject is subject and t.source is state), None)


def rank(state: State) -> int:
    """How far a launch has come: 0 for requested, 7 for app-booted. Raises ValueError for a state after that."""
    return _LIVE.index(state)
