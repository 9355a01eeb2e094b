"""A step whose pod is taken away under it: containerd removes what it made, and says why by another way.

A shim that was lost is one: containerd removes the pod's network and bundle while the request to stop the launch is on
its way. A step that fails for it must not be the launch's verdict, so it may be tried again, and the request is heard.
"""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

from orchestrator.faults import Code, Permanent, Temporary


@contextmanager
def told_as_taken_away(*made: str) -> Iterator[None]:
    """`made` are paths that containerd made for the pod; empty ones are none.

    Raises Temporary(RUNTIME) for a Permanent(RUNTIME, AGENT_NOT_STARTED) while one of them is gone.
    """
    try:
        yield
    except Permanent as fault:
        gone = next((path for path in made if path and not Path(path).exists()), "")
        if fault.code not in {Code.RUNTIME, Code.AGENT_NOT_STARTED} or not gone:
            raise
        raise Temporary(
            Code.RUNTIME,
            "what containerd made for the pod was taken away meanwhile",
            expected=gone,
            got="no such file",
            advice="see who removes the pod: its shim may have been lost",
        ) from fault
