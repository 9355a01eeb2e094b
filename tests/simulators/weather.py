"""Histories that hypothesis makes up: a launch that may go right, with anything thrown in at any place."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import replace
from functools import partial
from typing import TypeAlias

from hypothesis import strategies as st

from orchestrator import events
from orchestrator.events import Body, Fact, Foreign, Recorded
from orchestrator.faults import Code
from orchestrator.fold import apply
from orchestrator.launch import Launch, awaited, new
from orchestrator.lifecycle import BY_NAME, HOST_HALF, TEARDOWN, Zone
from tests.simulators import history
from tests.simulators.history import APP, POD, SIDECAR, EventKey

KEY, OTHER_KEY = EventKey(), EventKey()
CONTAINERS = ("", APP, SIDECAR)

BODIES: dict[str, Body] = {
    "create_sandbox": events.SandboxCreated(POD, 1, "/proc/1/ns/net"),
    "launch_agent": history.agent_up(),
    "attest": history.attested(POD, KEY),
    "decrypt_image": history.image_decrypted(),
    "seal_fs": events.FsSealed("cd" * 32, 1, 1, "store"),
    HOST_HALF.name: events.AppStarted("x", 1, "00" * 32),
    "deliver_config": events.ConfigDelivered("ef" * 32, "allowed", "00" * 32),
    "boot_app": events.AppBooted(1, 1),
    TEARDOWN.name: events.TornDown(("x",)),
    "PodRequested": history.pod_requested(),
    "ContainerRequested": history.container_requested(),
    "StartRequested": events.StartRequested(),
    "Exited": events.Exited(1, 1),
    "StopRequested": events.StopRequested("x"),
    "AgentLost": events.AgentLost(1),
    "ExecAdmitted": events.ExecAdmitted("x", "web/health", ("/bin/health", "*"), False, 1),
    "ExecRefused": events.ExecRefused("x", "E-EXEC-001", "no rule admits it", 2),
}
"""The fact that answers each transition, and those that answer none."""

Message: TypeAlias = Callable[[Launch], bytes]
"""What is written next, given the launch so far: its place in the chain depends on that."""


def _envelope(
    launch: Launch, body: Body, container: str, attempt: int, zone: Zone, key: EventKey | None, at_ns: int
) -> bytes:
    fact = Fact(POD, body, zone, "weather", container, attempt, at_ns)
    return events.encode(fact, launch.index + 1, launch.head, key.sign if key else None)


def _step_failed(transition: str, *, temporary: bool) -> Body:
    return events.StepFailed(transition, Code.RUNTIME.value, "m", "e", "g", "a", temporary)


times = st.integers(0, 2**63 - 1) | st.integers(history.START_NS, history.START_NS + 10**12)
bodies = st.sampled_from(list(BODIES.values())) | st.builds(
    _step_failed, st.sampled_from([*BY_NAME, "no such step"]), temporary=st.booleans()
)


@st.composite
def anything(draw: st.DrawFn) -> Message:
    """A fact of any kind from anybody, in its right place in the chain."""
    body, container = draw(bodies), draw(st.sampled_from(CONTAINERS))
    attempt, zone = draw(st.integers(0, 3)), draw(st.sampled_from(list(Zone)))
    key, at_ns = draw(st.sampled_from([None, KEY, OTHER_KEY])), draw(times)
    return lambda launch: _envelope(launch, body, container, attempt, zone, key, at_ns)


def _answer(launch: Launch, which: int, at_ns: int, failing: Body | None = None) -> bytes:
    """What the right one would say of the `which`th step that is awaited; where none is, what containerd asks next."""
    steps = awaited(launch)
    if steps:
        step = steps[which % len(steps)]
        name, zone = step.transition.name, step.transition.zone
        body = replace(failing, transition=name) if isinstance(failing, events.StepFailed) else BODIES[name]
        return _envelope(launch, body, step.container, step.attempt, zone, KEY if zone is Zone.ENCLAVE else None, at_ns)
    if launch.requested is None:
        return _envelope(launch, BODIES["PodRequested"], "", 0, Zone.HOST, None, at_ns)
    container = CONTAINERS[1 + which % 2]
    name = "StartRequested" if container in launch.containers else "ContainerRequested"
    return _envelope(launch, BODIES[name], container, 0, Zone.HOST, None, at_ns)


moments = st.integers(history.START_NS, history.START_NS + 10**12)


@st.composite
def an_answer(draw: st.DrawFn) -> Message:
    """The truth about a step that is awaited: mostly that it is done."""
    which, at_ns = draw(st.integers(0, 5)), draw(moments)
    failing = _step_failed("", temporary=draw(st.booleans())) if draw(st.integers(0, 9)) == 9 else None
    return lambda launch: _answer(launch, which, at_ns, failing)


@st.composite
def a_lie(draw: st.DrawFn) -> Message:
    """The right fact at the right place, by the wrong one: unsigned, signed by another key, of the other zone."""
    which, key = draw(st.integers(0, 5)), draw(st.sampled_from([None, OTHER_KEY, KEY]))
    zone, later = draw(st.sampled_from([Zone.ENCLAVE, Zone.ENCLAVE, Zone.HOST])), draw(st.sampled_from([0, 0, 0, 1]))

    def write(launch: Launch) -> bytes:
        steps = awaited(launch)
        if not steps:
            return b""
        step = steps[which % len(steps)]
        body, attempt = BODIES[step.transition.name], step.attempt + later
        return _envelope(launch, body, step.container, attempt, zone, key, history.START_NS)

    return write


@st.composite
def a_stretch(draw: st.DrawFn) -> list[Message]:
    """A launch in which nothing goes wrong, as far as it came."""
    whiches = draw(st.lists(st.integers(0, 1), min_size=0, max_size=20))
    return [partial(_answer, which=which, at_ns=history.START_NS + 10**9 * n) for n, which in enumerate(whiches)]


def a_request() -> st.SearchStrategy[Message]:
    """What containerd asks."""

    def message(name: str, container: str) -> Message:
        return lambda launch: _envelope(launch, BODIES[name], container, 0, Zone.HOST, None, history.START_NS)

    containers = st.sampled_from([APP, SIDECAR])
    return st.builds(message, st.sampled_from(["ContainerRequested", "StartRequested"]), containers)


def junk() -> st.SearchStrategy[Message]:
    """Bytes."""
    return st.binary(max_size=60).map(lambda raw: lambda _: raw)


calm = st.lists(an_answer() | an_answer() | an_answer() | a_request(), max_size=30)
"""Launches that mostly go right."""

_wild = st.lists(an_answer() | a_lie() | a_request() | anything() | junk(), max_size=20)
storm = st.builds(lambda quiet, wild, after: quiet + wild + after, a_stretch(), _wild, a_stretch())
"""A launch into which, at some moment, anything is thrown; and what is said after that."""


def play(messages: list[Message]) -> list[tuple[Recorded | Foreign, Launch]]:
    """Each message as read, and the launch after it. A message that breaks the chain is left out."""
    launch, played = new(POD), []
    for sequence, write in enumerate(messages, 1):
        recorded = events.read(sequence, write(launch))
        if isinstance(recorded, Recorded) and (recorded.index, recorded.previous) != (launch.index + 1, launch.head):
            continue
        launch = apply(launch, recorded)
        played.append((recorded, launch))
    return played
