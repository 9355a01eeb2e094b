"""How long things took: printed as a table when the run is over, and judged by nobody."""

from __future__ import annotations

import time
from collections.abc import Callable

from tests.tables import TABLE

Record = Callable[[str, object], None]


def took(record: Record, what: str, began: float) -> None:
    """Put the seconds since `began` (of the monotonic clock) into the table."""
    record(TABLE, ("a Kubernetes", what, "seconds", f"{time.monotonic() - began:.1f}"))
