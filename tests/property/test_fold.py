"""What holds of the fold for every history there can be."""

from __future__ import annotations

from itertools import pairwise

from cryptography.exceptions import InvalidSignature
from hypothesis import given, settings
from hypothesis import strategies as st

from orchestrator import events
from orchestrator.events import Command, Recorded
from orchestrator.faults import Code, Diagnosis, Permanent
from orchestrator.fold import apply, fold
from orchestrator.launch import Launch, Progress, awaited, new
from orchestrator.lifecycle import (
    BY_NAME,
    CONTAINER_TABLE,
    LAUNCH_STATES,
    POD_TABLE,
    TEARDOWN,
    TRANSITIONS,
    State,
    Subject,
    Zone,
)
from schemas import facts_pb2
from tests.simulators.history import APP, POD, History
from tests.simulators.weather import BODIES, KEY, Message, anything, bodies, calm, junk, play, storm, times

POD_STATES = [t.target for t in TRANSITIONS if t.subject is Subject.POD]
CONTAINER_STATES = [t.target for t in TRANSITIONS if t.subject is Subject.CONTAINER]
ENCLAVE_STATES = {t.target for t in TRANSITIONS if t.zone is Zone.ENCLAVE}


def every_progress(launch: Launch) -> dict[str, Progress]:
    return {"": launch.progress, **{c.id: c.progress for c in launch.containers.values()}}


def fold_or_refuse(raws: list[bytes]) -> Launch | None:
    """The fold; None for a history that is refused as broken. Whatever else is raised fails the test."""
    try:
        return fold(POD, (events.read(n, raw) for n, raw in enumerate(raws, 1)))
    except Permanent as fault:
        if fault.code is not Code.BUS_HISTORY:
            raise
        return None


@given(st.lists(st.binary(max_size=200), max_size=8))
def test_for_any_bytes_the_fold_gives_a_launch_or_says_that_the_history_is_broken(raws: list[bytes]) -> None:
    launch = fold_or_refuse(raws)
    assert launch is None or (launch.state in State and awaited(launch) is not None)


@st.composite
def altered(draw: st.DrawFn) -> list[bytes]:
    """A whole launch with bytes changed, messages lost, repeated and moved."""
    made = History()
    made.up_to_booted()
    raws = list(made.raw)
    for _ in range(draw(st.integers(1, 4))):
        at = draw(st.integers(0, len(raws) - 1))
        match draw(st.sampled_from(["flip", "lose", "repeat", "move", "cut"])):
            case "flip":
                place = draw(st.integers(0, max(0, len(raws[at]) - 1)))
                raws[at] = raws[at][:place] + bytes([draw(st.integers(0, 255))]) + raws[at][place + 1 :]
            case "lose" if len(raws) > 1:
                del raws[at]
            case "repeat":
                raws.insert(at, raws[at])
            case "move":
                raws.append(raws.pop(at))
            case _:
                raws[at] = raws[at][: draw(st.integers(0, len(raws[at])))]
    return raws


@settings(max_examples=60)
@given(altered())
def test_an_altered_history_is_broken_or_folds_and_never_goes_further_than_it_did(raws: list[bytes]) -> None:
    launch = fold_or_refuse(raws)
    assert launch is None or every_progress(launch).keys() <= {"", APP}


@settings(max_examples=300)
@given(storm)
def test_each_state_is_reached_once_and_in_order(messages: list[Message]) -> None:
    for _, launch in play(messages):
        assert [p.state for p in launch.progress.passed] == POD_STATES[: len(launch.progress.passed)]
        for container in launch.containers.values():
            passed = [p.state for p in container.progress.passed]
            assert passed == CONTAINER_STATES[: len(passed)]


@settings(max_examples=300)
@given(storm)
def test_every_move_is_one_that_the_lifecycle_declares(messages: list[Message]) -> None:
    moves = {(source, target) for table in (POD_TABLE, CONTAINER_TABLE) for (source, _), target in table.items()}
    # A pod that is gone takes along whatever its containers were.
    moves |= {(state, State.GONE) for state in State}
    launches = [new(POD), *(launch for _, launch in play(messages))]
    for before, after in pairwise(launches):
        was, now = every_progress(before), every_progress(after)
        for id_, progress in was.items():
            assert progress.state is now[id_].state or (progress.state, now[id_].state) in moves


@settings(max_examples=300)
@given(storm)
def test_no_step_is_awaited_whose_state_is_passed_or_whose_launch_is_over(messages: list[Message]) -> None:
    for _, launch in play(messages):
        steps = awaited(launch)
        assert len({step.key for step in steps}) == len(steps)
        for step in steps:
            progress = every_progress(launch)[step.container]
            row = step.transition
            if row.target in LAUNCH_STATES and row.target is not row.source:
                assert row.target not in {p.state for p in progress.passed}
                assert progress.state is row.source
            assert progress.state is not State.GONE
            assert launch.progress.state is not State.GONE
            assert step.not_before_ns < step.deadline_ns
            assert 1 <= step.attempt <= max(row.attempts, progress.teardown_attempt)


@settings(max_examples=300)
@given(storm)
def test_an_answer_counts_only_if_exactly_it_was_awaited(messages: list[Message]) -> None:
    answers = {type(BODIES[name]): name for name in BY_NAME}
    before = new(POD)
    for recorded, launch in play(messages):
        if isinstance(recorded, Recorded) and launch.ignored == before.ignored:
            fact = recorded.fact
            name = fact.body.transition if isinstance(fact.body, events.StepFailed) else answers.get(type(fact.body))
            if name is not None:
                assert (fact.container, name, fact.attempt) in {step.key for step in awaited(before)}
        before = launch


@settings(max_examples=300)
@given(storm)
def test_whatever_is_to_be_removed_is_awaited_until_it_is(messages: list[Message]) -> None:
    for _, launch in play(messages):
        if launch.requested is None or launch.progress.state is State.GONE:
            continue
        removed = {step.container for step in awaited(launch) if step.transition is TEARDOWN}
        ending = {
            id_
            for id_, progress in every_progress(launch).items()
            if progress.state in (State.FAILED, State.STOPPING) and not progress.torn_down
        }
        assert removed == ({""} if "" in ending else ending)


@settings(max_examples=300)
@given(storm)
def test_every_awaited_step_can_be_put_into_a_command(messages: list[Message]) -> None:
    for _, launch in play(messages):
        for step in awaited(launch):
            command = Command(
                POD, step.container, step.transition.name, step.attempt, launch.sequence, step.deadline_ns
            )
            assert Command.decode(command.encode()) == command


@settings(max_examples=300)
@given(storm)
def test_nothing_advances_in_the_enclave_without_the_enclaves_signature(messages: list[Message]) -> None:
    signers = {}
    for recorded, launch in play(messages):
        if isinstance(recorded, Recorded):
            signers[recorded.index] = _signed_by_the_agent(recorded)
        for progress in every_progress(launch).values():
            assert all(signers[p.index] for p in progress.passed if p.state in ENCLAVE_STATES)


def _signed_by_the_agent(recorded: Recorded) -> bool:
    message = events.signed_bytes(recorded.index, recorded.previous, recorded.statement)
    try:
        KEY.private.public_key().verify(recorded.signature, message)
    except InvalidSignature:
        return False
    return True


@settings(max_examples=300)
@given(storm)
def test_a_launch_that_is_over_stays_over(messages: list[Message]) -> None:
    over: set[str] = set()
    for _, launch in play(messages):
        for id_, progress in every_progress(launch).items():
            assert not (id_ in over and progress.live)
            if not progress.live:
                over.add(id_)


@settings(max_examples=200)
@given(storm, st.integers(0, 40))
def test_folding_a_part_and_then_the_rest_is_folding_the_whole(messages: list[Message], cut: int) -> None:
    played = play(messages)
    records = [recorded for recorded, _ in played]
    halfway = played[cut - 1][1] if 0 < cut <= len(played) else new(POD)
    rest = records[cut:] if 0 < cut <= len(played) else records
    whole = fold(POD, records)
    again = halfway
    for recorded in rest:
        again = apply(again, recorded)
    assert whole == again == (played[-1][1] if played else new(POD))


@settings(max_examples=300)
@given(storm)
def test_whatever_changed_nothing_is_listed_and_whatever_is_not_listed_counted(messages: list[Message]) -> None:
    before = new(POD)
    for _, launch in play(messages):
        if launch.ignored == before.ignored:
            assert launch.index == before.index + 1
            assert (launch.progress, launch.containers, launch.requested) != (
                before.progress,
                before.containers,
                before.requested,
            )
        before = launch


@settings(max_examples=300)
@given(calm)
def test_a_launch_where_everybody_tells_the_truth_has_nothing_forged(messages: list[Message]) -> None:
    for _, launch in play(messages):
        assert not any(entry.why.startswith("forged") for entry in launch.ignored)


@given(st.lists(anything() | junk(), max_size=30))
def test_weather_alone_attests_nothing_that_the_agent_did_not_sign(messages: list[Message]) -> None:
    for recorded, launch in play(messages):
        if launch.attested is not None:
            assert launch.attested.event_public_key == KEY.public
            assert isinstance(recorded, Recorded | events.Foreign)


# --- the wire ---------------------------------------------------------------------------------------------------------

words = st.text(st.characters(codec="utf-8"), max_size=40)


@given(bodies, st.sampled_from(list(Zone)), words, st.integers(0, 2**32 - 1), times, st.binary(max_size=32))
def test_a_fact_comes_back_as_it_went(body, zone, actor, attempt, at_ns, previous) -> None:
    fact = events.Fact(POD, body, zone, actor, "c1", attempt, at_ns)
    recorded = events.decode(5, events.encode(fact, 9, previous, KEY.sign))
    assert (recorded.fact, recorded.index, recorded.previous) == (fact, 9, previous)
    assert _signed_by_the_agent(recorded)


@given(bodies, words)
def test_a_diagnosis_of_any_text_can_be_told(body: events.Body, text: str) -> None:
    broken = text + "\ud800" + text
    fact = events.Fact(POD, events.StepFailed.of("attest", Diagnosis(Code.INTERNAL, broken)), Zone.HOST, "x")
    assert events.decode(1, events.encode(fact, 1, b"", None)).fact == fact


@given(storm, st.integers(1000, 5000), st.binary(min_size=1, max_size=50))
def test_fields_of_a_later_version_survive_and_change_nothing(
    messages: list[Message], number: int, value: bytes
) -> None:
    """A later writer adds a field to the statement and to the envelope; this reader keeps and hashes both."""
    extra = _varint(number << 3 | 2) + _varint(len(value)) + value
    for recorded, launch in play(messages):
        if not isinstance(recorded, Recorded):
            continue
        envelope = facts_pb2.Envelope(
            id=recorded.id,
            index=recorded.index,
            previous=recorded.previous,
            statement=recorded.statement + extra,
            signature=recorded.signature,
        )
        raw = envelope.SerializeToString() + extra
        later = events.decode(recorded.sequence, raw)
        assert (later.fact, later.statement) == (recorded.fact, recorded.statement + extra)
        assert later.digest != recorded.digest
        assert launch.index >= recorded.index


def _varint(value: int) -> bytes:
    out = b""
    while value > 127:
        out, value = out + bytes([value & 127 | 128]), value >> 7
    return out + bytes([value])


@given(storm, st.integers(100, 5000))
def test_a_kind_of_a_later_version_is_passed_over_wherever_it_stands(messages: list[Message], number: int) -> None:
    """Its place in the chain is taken; the launch is what it was."""
    played = play(messages)
    before = played[-1][1] if played else new(POD)
    statement = facts_pb2.Statement(pod=POD, zone=facts_pb2.ZONE_HOST, at_ns=1).SerializeToString()
    statement += _varint(number << 3 | 2) + b"\x00"
    raw = facts_pb2.Envelope(id=b"i" * 16, index=before.index + 1, previous=before.head, statement=statement)
    recorded = events.decode(99, raw.SerializeToString())
    assert isinstance(recorded.fact.body, events.Unknown)
    after = apply(before, recorded)
    assert (after.progress, after.containers) == (before.progress, before.containers)
    assert after.ignored[-1].kind == "unknown"
    assert awaited(after) == awaited(before)
