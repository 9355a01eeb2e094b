"""The waterfall's parts make up the whole, and belong to the launch that they are said to be of."""

from __future__ import annotations

from dataclasses import replace
from itertools import pairwise

import pytest

from orchestrator.events import Recorded
from orchestrator.lifecycle import LAUNCH_STATES
from tests.bench.waterfall import CALLS, STEPS, Calls, by_call, cut, ratios, rows, summary
from tests.simulators.history import History

MS = 1_000_000


def launched() -> tuple[History, Calls]:
    """A launch whose calls lie half-way between the facts around them."""
    history = History()
    history.up_to_booted()
    at = {
        type(record.fact.body).__name__: record.fact.at_ns
        for record in history.records()
        if isinstance(record, Recorded)
    }
    third = (at["ContainerRequested"] - at["Attested"]) // 3
    begun, booted = at["PodRequested"] - 5 * MS, at["AppBooted"]
    return history, Calls(begun, (at["Attested"] + third, at["Attested"] + 2 * third, booted + 2 * MS, booted + 9 * MS))


def test_the_steps_of_a_launch_add_up_to_it() -> None:
    history, calls = launched()
    took = cut(calls, history.records(), history.launch())
    assert sum(took) == calls.durations()["total"]
    assert dict(zip([step.name for step in STEPS], took, strict=True))["containerd: network, shim"] == 5 * MS
    assert took[-1] == calls.durations()["first answer"] == 7 * MS


def test_every_state_of_a_launch_is_a_step() -> None:
    assert tuple(step.state for step in STEPS if step.state) == LAUNCH_STATES


def test_facts_that_are_not_in_the_order_of_a_launch_are_refused() -> None:
    history, calls = launched()
    with pytest.raises(ValueError, match="not in the order"):
        cut(replace(calls, begun=calls.ends[-1]), history.records(), history.launch())


def test_shares_add_up_to_one_and_steps_begin_where_the_last_ended() -> None:
    history, calls = launched()
    took = cut(calls, history.records(), history.launch())
    fall = rows([took, [2 * each for each in took]])
    assert sum(row.share for row in fall) == pytest.approx(1)
    for before, after in pairwise(fall):
        assert after.start_ms == pytest.approx(before.start_ms + before.summary.median)


def test_a_summary_is_in_milliseconds() -> None:
    found = summary([number * MS for number in range(1, 12)])
    assert (found.lower, found.median, found.upper, found.p90) == (3.5, 6, 8.5, 10)


def test_a_ratio_says_how_many_times_longer() -> None:
    fast = Calls(0, (1 * MS, 2 * MS, 3 * MS, 4 * MS))
    slow = Calls(0, (3 * MS, 6 * MS, 9 * MS, 12 * MS))
    found = ratios(by_call([slow, slow]), by_call([fast, fast]))
    assert found == dict.fromkeys((*CALLS, "total"), 3)
