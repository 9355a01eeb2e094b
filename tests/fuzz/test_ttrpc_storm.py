"""Half a minute of storms in the suite; `just fuzz-ttrpc` goes on for ten."""

from __future__ import annotations

import pytest

from tests.fuzz.campaign import storm

SEED = 4
SESSIONS = 5
"""Three shims in a pod that stays, with and without a zygote, and two whose sandbox is stormed too."""


@pytest.mark.timeout(600)
async def test_a_shim_answers_lives_keeps_nothing_and_tells_no_wrong_fact_whatever_it_is_sent() -> None:
    told = await storm(SEED, range(1, 1 + SESSIONS))
    assert told.ended == told.sessions == SESSIONS
    assert told.answers[0] > 0
