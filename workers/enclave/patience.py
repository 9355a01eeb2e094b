"""Asking again while the world is away: the host worker, whose doors are the only way out, may be starting anew.

Zone: enclave. May import: `orchestrator.faults`, the standard library. For what has one attempt and may be asked
twice; a step with attempts of its own leaves the repetition to the orchestrator, whose history then tells it.
"""

from __future__ import annotations

import asyncio
from collections.abc import Callable
from typing import Final, TypeVar

from orchestrator.faults import Temporary

FIRST_PAUSE: Final = 0.1
LONGEST_PAUSE: Final = 1.0
Answer = TypeVar("Answer")


async def answered(ask: Callable[[], Answer], seconds: float = 20) -> Answer:
    """What `ask`, called in a thread, returns; a `Temporary` of it is passed on once `seconds` have gone by."""
    loop = asyncio.get_running_loop()
    ends, pause = loop.time() + seconds, FIRST_PAUSE
    while True:
        try:
            return await asyncio.to_thread(ask)
        except Temporary:
            if loop.time() + pause > ends:
                raise
        await asyncio.sleep(pause)
        pause = min(2 * pause, LONGEST_PAUSE)
