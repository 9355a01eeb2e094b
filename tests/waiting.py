"""Waiting for what happens in another process or thread: polled, under a bound that only a failure reaches."""

from __future__ import annotations

import time
from collections.abc import Callable
from typing import TypeVar

from orchestrator.faults import Fault

Found = TypeVar("Found")


def eventually(look: Callable[[], Found | None], seconds: float = 60) -> Found:
    """What `look` finds once it finds something true; a fault that it raises is nothing found."""
    ends = time.monotonic() + seconds
    while True:
        try:
            found = look()
        except Fault:
            found = None
        if found:
            return found
        if time.monotonic() > ends:
            raise AssertionError(f"nothing within {seconds} s")
        time.sleep(0.02)
