"""What is drawn is inside the drawing, in order, and to scale but for the gaps that are told."""

from __future__ import annotations

from dataclasses import replace

from hypothesis import given
from hypothesis import strategies as st

from orchestrator.console.timeline import NARROWEST, timeline
from orchestrator.console.wording import (
    ago,
    clock,
    counted,
    duration,
    instant,
    machine_time,
    percent,
    rate,
    short,
    size,
)
from orchestrator.lifecycle import TRANSITIONS
from orchestrator.story import Outcome, Step, describe
from tests.simulators.history import APP, History

SECOND = 10**9


def step(number: int, began_ns: int, ended_ns: int, outcome: Outcome = Outcome.DONE) -> Step:
    return Step("", TRANSITIONS[number % 7], outcome, began_ns, ended_ns)


@given(st.lists(st.tuples(st.integers(1, 10**15), st.integers(0, 10**13)), max_size=12))
def test_every_bar_lies_in_the_drawing_and_later_ones_further_right(spans: list[tuple[int, int]]) -> None:
    steps = [step(number, began, began + length) for number, (began, length) in enumerate(sorted(spans))]
    drawn = timeline(steps, 0)
    lefts = [bar.left for bar in drawn.bars]
    assert lefts == sorted(lefts)
    for bar in drawn.bars:
        assert 0 <= bar.left <= 100 - NARROWEST + 1e-6
        assert bar.width >= NARROWEST
        assert bar.left + bar.width <= 100 + NARROWEST + 1e-6


def test_bars_are_to_scale() -> None:
    drawn = timeline([step(0, SECOND, 2 * SECOND), step(1, 2 * SECOND, 5 * SECOND)], 0)
    assert [round(bar.width) for bar in drawn.bars] == [25, 75]
    assert [at for _, at in drawn.ticks] == [0, SECOND, 2 * SECOND, 3 * SECOND, 4 * SECOND]
    assert drawn.nanoseconds == 4 * SECOND


def test_days_between_two_steps_are_a_narrow_break_that_is_told() -> None:
    day = 86_400 * SECOND
    drawn = timeline([step(0, SECOND, 2 * SECOND), step(1, day, day + SECOND)], 0)
    (gap,) = drawn.breaks
    assert gap.nanoseconds == day - 2 * SECOND
    assert gap.width < 5
    assert [round(bar.width) for bar in drawn.bars] == [49, 49]
    assert drawn.ticks == (), "an axis with a break has no scale to write on it"


def test_a_step_under_way_lasts_until_now() -> None:
    drawn = timeline([step(0, SECOND, 2 * SECOND), step(1, 2 * SECOND, 0, Outcome.AWAITED)], 4 * SECOND)
    assert round(drawn.bars[1].width) == 67


def test_what_has_not_begun_has_no_bar_and_nothing_at_all_is_no_error() -> None:
    assert timeline([step(0, 0, 0, Outcome.NOT_REACHED)], SECOND).bars == ()
    assert timeline([], SECOND).bars == ()
    assert len(timeline([step(0, SECOND, SECOND)], SECOND).bars) == 1


def test_failed_attempts_are_marked_where_they_ended() -> None:
    history = History()
    history.up_to_attested()
    history.container()
    for attempt in (1, 2):
        history.now_ns += SECOND
        history.failed("decrypt_image", container=APP, attempt=attempt, temporary=True)
    history.now_ns += SECOND
    history.decrypted(attempt=3)
    steps = describe(history.launch(), history.records()).steps
    bar = next(bar for bar in timeline(steps, 0).bars if bar.step.transition.name == "decrypt_image")
    assert len(bar.marks) == 2
    assert bar.left < bar.marks[0] < bar.marks[1] < bar.left + bar.width
    late = replace(bar.step, failed=tuple(replace(attempt, counted=False) for attempt in bar.step.failed))
    assert timeline([late], 0).bars[0].marks == ()


def test_numbers_and_times_as_people_read_them() -> None:
    told = [
        duration(n) for n in (0, 400_000, 451_000_000, 1_250_000_000, 184 * SECOND, 7_500 * SECOND, 273_600 * SECOND)
    ]
    assert told == ["–", "0.4 ms", "451 ms", "1.25 s", "3 min 04 s", "2 h 05 min", "3 d 04 h"]
    assert [ago(SECOND, SECOND * n) for n in (1, 13, 241, 10_801, 172_801)] == [
        "just now",
        "12 s ago",
        "4 min ago",
        "3 h ago",
        "2 d ago",
    ]
    assert ago(0, 5) == "–"
    assert instant(1_767_225_600_250_000_000) == "2026-01-01 00:00:00.250 UTC"
    assert machine_time(1_767_225_600_250_000_000) == "2026-01-01T00:00:00.250Z"
    assert clock(1_767_225_600_250_000_000) == "00:00:00.250"
    assert (instant(0), clock(0), machine_time(0)) == ("–", "–", "")
    assert [size(n) for n in (0, 512, 41_000_000)] == ["0 B", "512 B", "39.1 MiB"]
    assert (rate(41_000_000, 812_000_000), rate(1, 0)) == ("48.2 MiB/s", "–")
    assert [percent(p) for p in (0, 0.004, 0.42, 1)] == ["–", "<1 %", "42 %", "100 %"]
    assert short("sha256:" + "ab" * 32, 6) == "ababab"
    assert [counted(1, "launch", "launches"), counted(10_000, "launch", "launches"), counted(2, "fact")] == [
        "1 launch",
        "10,000 launches",
        "2 facts",
    ]
