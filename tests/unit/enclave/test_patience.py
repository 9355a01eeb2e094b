"""What is asked of a world that is away is asked again, until it answers, refuses, or has been away for too long."""

from __future__ import annotations

import pytest

from orchestrator.faults import Code, Permanent, Temporary
from workers.enclave.patience import FIRST_PAUSE, answered


class World:
    """Away for its first `calls`, then it answers with how often it was asked, or with `end`."""

    def __init__(self, calls: int, end: Exception | None = None) -> None:
        self.calls = calls
        self.end = end
        self.asked = 0

    def ask(self) -> int:
        self.asked += 1
        if self.asked <= self.calls:
            raise Temporary(Code.BUS_AWAY, "away")
        if self.end is not None:
            raise self.end
        return self.asked


async def test_an_answer_that_is_there_is_asked_for_once() -> None:
    world = World(0)
    assert await answered(world.ask) == world.asked == 1


async def test_who_is_away_is_asked_again_until_there_is_an_answer() -> None:
    assert await answered(World(3).ask) == 4


async def test_a_refusal_is_not_asked_again() -> None:
    world = World(1, Permanent(Code.INPUT, "no"))
    with pytest.raises(Permanent, match=Code.INPUT):
        await answered(world.ask)
    assert world.asked == 2


async def test_an_absence_that_lasts_is_told_as_what_it_is() -> None:
    world = World(1000)
    with pytest.raises(Temporary, match=Code.BUS_AWAY):
        await answered(world.ask, 5 * FIRST_PAUSE)
    assert 1 < world.asked <= 5
