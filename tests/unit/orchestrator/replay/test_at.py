"""Time travel gives a part of the chain: what was there at a moment, whichever way the moment is said."""

from __future__ import annotations

import pytest
from hypothesis import given
from hypothesis import strategies as st

from orchestrator.events import Foreign, Recorded
from orchestrator.faults import Code, Permanent
from orchestrator.fold import fold
from orchestrator.lifecycle import State
from orchestrator.replay.at import Moment, until
from tests.simulators.history import START_NS, History
from tests.simulators.weather import play, storm


def launched() -> History:
    made = History()
    made.up_to_booted()
    return made


def state_at(made: History, moment: str) -> State:
    return fold(made.pod, until(made.records(), Moment.parse(moment))).state


@pytest.mark.parametrize(
    ("moment", "state"),
    [("1", State.REQUESTED), ("2", State.SANDBOX), ("4", State.ATTESTED), ("7", State.FS_SEALED), ("11", "app-booted")],
)
def test_a_number_gives_the_launch_after_that_fact(moment: str, state: State) -> None:
    assert state_at(launched(), moment) is State(state)


def test_a_time_gives_everything_stated_up_to_then() -> None:
    made = launched()
    assert state_at(made, "2026-01-01T00:00:00.040Z") is State.ATTESTED
    assert state_at(made, "2026-01-01T01:00:00.040+01:00") is State.ATTESTED
    assert state_at(made, "2026-01-01T00:00:00.039") is State.AGENT_UP
    assert until(made.records(), Moment.parse("2025-12-31T23:59:59Z")) == []
    assert state_at(made, "2030-01-01T00:00:00Z") is State.APP_BOOTED


def test_a_time_since_the_first_fact_needs_no_calendar() -> None:
    made = launched()
    assert state_at(made, "+0s") is State.REQUESTED
    assert state_at(made, "+30ms") is State.ATTESTED
    assert state_at(made, "+0.03s") is State.ATTESTED
    assert state_at(made, "+1h") is State.APP_BOOTED


@pytest.mark.parametrize(
    "text", ["0", "-1", "+1", "+1.5", "1.5", "yesterday", "", "+-1s", "\N{ARABIC-INDIC DIGIT ONE}"]
)
def test_what_is_no_moment_is_refused(text: str) -> None:
    with pytest.raises(Permanent) as refused:
        Moment.parse(text)
    assert refused.value.code is Code.INPUT


def test_a_fact_that_has_not_come_yet_is_refused() -> None:
    with pytest.raises(Permanent, match="no fact 12 yet"):
        until(launched().records(), Moment(index=12))


@given(storm, st.integers(1, 40), st.integers(0, 10**12))
def test_what_was_there_is_always_a_beginning_of_the_history(messages: list, index: int, since_ns: int) -> None:
    history = [message for message, _ in play(messages)]
    facts = [message for message in history if isinstance(message, Recorded)]
    for moment in (Moment(at_ns=START_NS + since_ns), Moment(since_ns=since_ns)):
        there = until(history, moment)
        assert there == history[: len(there)]
    if index <= len(facts):
        there = until(history, Moment(index=index))
        assert there == history[: len(there)]
        assert sum(isinstance(message, Recorded) for message in there) == index


def test_what_is_no_fact_belongs_to_the_fact_before_it() -> None:
    made = History()
    made.requested()
    made.garbage(b"junk")
    made.sandboxed()
    assert [type(message) for message in until(made.records(), Moment(index=1))] == [Recorded, Foreign]
