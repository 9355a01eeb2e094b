"""How a call fails at the calling end."""

from __future__ import annotations

from orchestrator.faults import Code, Permanent, Temporary
from workers.host.shim.ttrpc.status import StatusCode


class CallFailed(Permanent):
    """The server answered with a status."""

    def __init__(self, method: str, status: int, message: str) -> None:
        name = next((known.name for known in StatusCode if known == status), str(status))
        super().__init__(Code.RUNTIME, f"{method} was answered {name}: {message}")
        self.status = status
        self.words = message


def away(path: str, got: str) -> Temporary:
    """Nobody answers at `path`."""
    return Temporary(Code.RUNTIME, "a TTRPC server does not answer", expected=f"one that listens at {path}", got=got)
