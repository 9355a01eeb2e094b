"""Waiting for what happens in another process or thread: polled, under a bound that only a failure reaches."""

from __future__ import annotations

import time
from collections.abc import Callable
from typing import TypeVar

from orchestrator.faults import Fault

Found = TypeVar("Found")


def eventually(look: Callable[[], Found | None], seconds: float = 60) -> Found:
    """What `look` finds once it finds something true; a fault or a failed assertion in it is nothing found, but the
    last one is told when the time is over.
    """
    ends = time.monotonic() + seconds
    told: Exception | None = None
    while True:
        try:
            found = look()
        except (Fault, AssertionError) as failure:
            found, told = None, failure
        if found:
            return found
        if time.monotonic() > ends:
            raise AssertionError(f"nothing within {seconds} s") from told
        time.sleep(0.02)
