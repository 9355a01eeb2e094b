"""A shim's log: one JSON object a line, as every process's, into the bundle's FIFO `log`, which containerd copies.

Never waits, never fails: a log is no service. `orchestrator.log` writes the same lines; its library is larger than all
of a shim.
"""

from __future__ import annotations

import json
import os
from contextlib import suppress
from datetime import UTC, datetime

_target = ("shim", -1)


def log_as(process: str, descriptor: int) -> None:
    """From now on, to `descriptor`."""
    global _target  # noqa: PLW0603 - a process has one log
    _target = process, descriptor


def log_to(bundle: str) -> None:
    """A shim's, from now on. A bundle without the FIFO loses what is logged."""
    descriptor = -1
    with suppress(OSError):
        # For reading too, so that a containerd that is being restarted breaks nothing.
        descriptor = os.open(f"{bundle}/log", os.O_RDWR | os.O_NONBLOCK | os.O_CLOEXEC)
    log_as("shim", descriptor)


def log(level: str, event: str, **fields: object) -> None:
    """Write a line, if it fits."""
    process, descriptor = _target
    line = {"process": process, **fields, "level": level, "timestamp": datetime.now(UTC).isoformat(), "event": event}
    with suppress(OSError):
        os.write(descriptor, (json.dumps(line, default=str) + "\n").encode(errors="replace"))
