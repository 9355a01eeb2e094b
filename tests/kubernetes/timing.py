"""How long things took: printed as a table when the run is over, and judged by nobody."""

from __future__ import annotations

import time
from collections.abc import Callable

from tests.tables import TABLE

Record = Callable[[str, object], None]


def took(record: Record, what: str, began: float, how: str = "enclave-cc") -> None:
    """Put the seconds since `began` (of the monotonic clock) into the table, in the column of a runtime."""
    record(TABLE, ("seconds on a real Kubernetes", what, how, f"{time.monotonic() - began:.1f}"))
