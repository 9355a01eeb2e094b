"""The geometry of a launch's timeline: where each step's bar begins and how long it is. Pure.

Zone: host. May import: `orchestrator.story`.

The axis is the time in which some step was at work. Between the calls of containerd nothing happens, sometimes for
days; such a gap is drawn as a narrow break of fixed width and told in words, so that milliseconds stay visible.
"""

from __future__ import annotations

from bisect import bisect_right
from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from itertools import count, pairwise
from typing import Final

from orchestrator.story import Outcome, Step

BREAK: Final = 0.03
"""A break's width, as a part of the time at work."""

LONGEST_GAP: Final = 0.05
"""A gap up to this part of the time at work is drawn as long as it is."""

NARROWEST: Final = 0.5
"""Per cent of the width that a bar has at least, so that one sees it."""


@dataclass(frozen=True, slots=True)
class Bar:
    """One step. `left` and `width` in per cent of the drawing; `marks` are where its failed attempts ended."""

    step: Step
    left: float
    width: float
    marks: tuple[float, ...]


@dataclass(frozen=True, slots=True)
class Break:
    """A gap that is not drawn to scale: where it is (per cent) and how long it was."""

    left: float
    width: float
    nanoseconds: int


@dataclass(frozen=True, slots=True)
class Timeline:
    """Bars in the order of the steps; `ticks` are (per cent, nanoseconds at work until there)."""

    bars: tuple[Bar, ...]
    breaks: tuple[Break, ...]
    ticks: tuple[tuple[float, int], ...]
    nanoseconds: int


@dataclass(frozen=True, slots=True)
class _Axis:
    """Stretches of wall clock and where they are drawn: time `starts[i]` is at `lefts[i]`, going on at `scale`."""

    starts: Sequence[int]
    lefts: Sequence[float]
    ends: Sequence[int]
    scale: float

    def at(self, time_ns: int) -> float:
        i = max(0, bisect_right(self.starts, time_ns) - 1)
        return self.lefts[i] + (min(time_ns, self.ends[i]) - self.starts[i]) * self.scale


def timeline(steps: Iterable[Step], now_ns: int) -> Timeline:
    """Lay out what has begun; a step that is awaited lasts until `now_ns`."""
    spans = [(step, step.began_ns, max(step.began_ns, _end(step, now_ns))) for step in steps if step.began_ns]
    stretches = _merge([(began, ended) for _, began, ended in spans])
    work = sum(ended - began for began, ended in stretches)
    if not work:
        return Timeline(tuple(Bar(step, 0, NARROWEST, ()) for step, _, _ in spans), (), (), 0)
    gaps = [after[0] - before[1] for before, after in pairwise(stretches)]
    drawn = [gap if gap <= LONGEST_GAP * work else BREAK * work for gap in gaps]
    scale = 100 / (work + sum(drawn))
    lefts, breaks, left = [], [], 0.0
    for i, (began, ended) in enumerate(stretches):
        lefts.append(left)
        left += (ended - began) * scale
        if i < len(gaps):
            if gaps[i] > LONGEST_GAP * work:
                breaks.append(Break(left, drawn[i] * scale, gaps[i]))
            left += drawn[i] * scale
    axis = _Axis([began for began, _ in stretches], lefts, [ended for _, ended in stretches], scale)
    bars = tuple(_bar(axis, step, began, ended) for step, began, ended in spans)
    return Timeline(bars, tuple(breaks), () if breaks else _ticks(work + sum(gaps), scale), work)


def _end(step: Step, now_ns: int) -> int:
    return step.ended_ns if step.outcome is not Outcome.AWAITED else now_ns


def _bar(axis: _Axis, step: Step, began: int, ended: int) -> Bar:
    left = axis.at(began)
    width = max(NARROWEST, axis.at(ended) - left)
    marks = tuple(axis.at(attempt.at_ns) for attempt in step.failed if attempt.counted)
    return Bar(step, min(left, 100 - NARROWEST), width, marks)


def _merge(spans: list[tuple[int, int]]) -> list[tuple[int, int]]:
    """Overlapping and touching spans as one, in order."""
    merged: list[tuple[int, int]] = []
    for began, ended in sorted(spans):
        if merged and began <= merged[-1][1]:
            merged[-1] = (merged[-1][0], max(merged[-1][1], ended))
        else:
            merged.append((began, ended))
    return merged


def _ticks(whole: int, scale: float) -> tuple[tuple[float, int], ...]:
    """Round times, three to six of them, 1, 2 or 5 times a power of ten nanoseconds apart."""
    sizes = (digit * 10**zeros for zeros in count() for digit in (1, 2, 5))
    step = next(size for size in sizes if whole <= 5 * size)
    return tuple((time * scale, time) for time in range(0, whole + 1, step))
