"""One writer a folder: an exclusive lock that ends with its holder's process.

Zone: host. May import: `orchestrator.faults`, the standard library.

It stops two writers of one machine. Two machines with copies of the key are stopped by the lease on the bus
(`orchestrator.bus.lease`), and what neither stops, the witnesses do.
"""

from __future__ import annotations

import fcntl
import os
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Final

from orchestrator.faults import Code, Permanent

LOCK: Final = "writer.lock"


@contextmanager
def sole_writer(folder: Path) -> Iterator[None]:
    """Hold the folder's lock. Raises Permanent(AUDIT_LEASE) when another process does."""
    folder.mkdir(parents=True, exist_ok=True)
    descriptor = os.open(folder / LOCK, os.O_RDWR | os.O_CREAT | os.O_CLOEXEC, 0o600)
    try:
        try:
            fcntl.flock(descriptor, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except BlockingIOError:
            raise Permanent(
                Code.AUDIT_LEASE,
                "another process writes this log",
                expected=f"nobody else to hold {folder / LOCK}",
                got="a live holder",
                advice="it may be the stack's own: see `enclave-cc status`; two writers would fork the log",
            ) from None
        yield
    finally:
        os.close(descriptor)
