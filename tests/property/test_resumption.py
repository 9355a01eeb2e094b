"""Whatever is ordered, told or thrown into a held launch: nothing is used twice, and only an operator goes back."""

from __future__ import annotations

from dataclasses import replace
from functools import partial
from itertools import pairwise

from hypothesis import given, settings
from hypothesis import strategies as st

from orchestrator import events
from orchestrator.events import Fact, Foreign, Recorded
from orchestrator.fold import apply
from orchestrator.launch import Launch, Progress, awaited, new
from orchestrator.lifecycle import HOLD, State, Zone
from tests.simulators import history
from tests.simulators.history import APP, OPERATOR, POD, SIDECAR, EventKey
from tests.simulators.weather import BODIES, CONTAINERS, KEY, OTHER_KEY, Message

HELD = replace(history.pod_requested(), hold_seconds=60, operators=(OPERATOR.public,))
AGENTS = (KEY, OTHER_KEY)
"""Event keys of the agents that a pod may have one after the other."""


def write(launch: Launch, body: events.Body, container: str, attempt: int, zone: Zone, key: EventKey | None) -> bytes:
    fact = Fact(POD, body, zone, "weather", container, attempt, history.START_NS + launch.index * 10**9)
    return events.encode(fact, launch.index + 1, launch.head, key.sign if key else None)


def answer(launch: Launch, which: int, fails: bool, temporary: bool) -> bytes:
    """What the right one says of an awaited step; what containerd asks next where none is."""
    steps = [step for step in awaited(launch) if step.transition is not HOLD]
    if steps:
        step = steps[which % len(steps)]
        name, zone = step.transition.name, step.transition.zone
        agent = AGENTS[len(launch.formerly) % 2] if not launch.attested else _agent(launch)
        body = history.attested(POD, agent) if name == "attest" else BODIES[name]
        if fails and name != "teardown":
            body = history.step_failed(name, temporary=temporary)
        return write(launch, body, step.container, step.attempt, zone, agent if zone is Zone.ENCLAVE else None)
    if launch.requested is None:
        return write(launch, HELD, "", 0, Zone.HOST, None)
    container = CONTAINERS[1 + which % 2]
    body = events.StartRequested() if container in launch.containers else history.container_requested(container)
    return write(launch, body, container, 0, Zone.HOST, None)


def _agent(launch: Launch) -> EventKey:
    return next(key for key in AGENTS if launch.attested and key.public == launch.attested.event_public_key)


def order(launch: Launch, container: str, start: str, key: EventKey) -> bytes:
    body = events.ResumeRequested(start, "why", "alice", key.public)
    return write(launch, body, container, 0, Zone.HOST, key)


def told(launch: Launch, body: events.Body, container: str) -> bytes:
    return write(launch, body, container, 0, Zone.HOST, None)


answers = st.builds(
    lambda which, fails, temporary: partial(answer, which=which, fails=fails, temporary=temporary),
    st.integers(0, 3),
    st.sampled_from([False, False, False, True]),
    st.booleans(),
)
orders = st.builds(
    lambda container, start, key: partial(order, container=container, start=start, key=key),
    st.sampled_from(CONTAINERS),
    st.sampled_from(["", "", "", "launch_agent", "decrypt_image", "seal_fs", "hold"]),
    st.sampled_from([OPERATOR, OPERATOR, OPERATOR, OTHER_KEY, KEY]),
)
happenings = st.builds(
    lambda body, container: partial(told, body=body, container=container),
    st.sampled_from([events.Exited(1, 1), events.AgentLost(1), events.StopRequested("x")]),
    st.sampled_from(CONTAINERS),
)
held_storms = st.lists(answers | answers | answers | orders | happenings, max_size=60)


def play(messages: list[Message]) -> list[tuple[Recorded, Launch]]:
    launch, played = new(POD), []
    for sequence, make in enumerate(messages, 1):
        recorded = events.read(sequence, make(launch))
        assert not isinstance(recorded, Foreign)
        launch = apply(launch, recorded)
        played.append((recorded, launch))
    return played


def every_progress(launch: Launch) -> dict[str, Progress]:
    return {"": launch.progress, **{c.id: c.progress for c in launch.containers.values()}}


@settings(max_examples=400)
@given(held_storms)
def test_a_step_that_was_awaited_and_is_not_any_more_is_never_awaited_again(messages: list[Message]) -> None:
    over: set[tuple[str, str, int]] = set()
    now: set[tuple[str, str, int]] = set()
    for _, launch in play(messages):
        before, now = now, {step.key for step in awaited(launch) if step.transition is not HOLD}
        over |= before - now
        assert not over & now


@settings(max_examples=400)
@given(held_storms)
def test_only_an_operators_order_brings_back_what_has_failed(messages: list[Message]) -> None:
    launches = [(None, new(POD)), *play(messages)]
    for (_, before), (recorded, after) in pairwise(launches):
        for id_, progress in every_progress(before).items():
            if not progress.live and every_progress(after)[id_].live:
                assert isinstance(recorded.fact.body, events.ResumeRequested)
                assert recorded.fact.body.operator == OPERATOR.public
                assert progress.state is State.FAILED
                assert not progress.torn_down


@settings(max_examples=400)
@given(held_storms)
def test_what_failed_is_held_or_removed_and_never_both(messages: list[Message]) -> None:
    for _, launch in play(messages):
        for step in awaited(launch):
            if step.transition is HOLD:
                progress = every_progress(launch)[step.container]
                assert progress.state is State.FAILED
                assert progress.failure is not None
                assert step.not_before_ns == step.deadline_ns
        asked = [step.container for step in awaited(launch) if step.transition.name in ("hold", "teardown")]
        assert len(asked) == len(set(asked))


@settings(max_examples=400)
@given(held_storms)
def test_nothing_that_a_run_before_made_is_in_what_goes_on(messages: list[Message]) -> None:
    launches = [(None, new(POD)), *play(messages)]
    for (_, before), (recorded, after) in pairwise(launches):
        if recorded is None or not isinstance(recorded.fact.body, events.ResumeRequested):
            continue
        for id_ in (APP, SIDECAR):
            was, now = before.containers.get(id_), after.containers.get(id_)
            if was is not None and now is not None and was is not now:
                made = (now.decrypted, now.sealed, now.started, now.delivered, now.booted, now.progress.exit)
                assert made == (None,) * 6
                assert now.progress.first > was.progress.attempt
                assert now.requested == was.requested
