"""What a demo saw, as one document (`--json`, version 1).

Zone: any. May import: the standard library.
"""

from __future__ import annotations

from dataclasses import asdict, dataclass, field
from typing import Any


@dataclass(frozen=True, slots=True)
class StateReached:
    """One of the seven states, and the milliseconds from the one before."""

    state: str
    ms: float


@dataclass(frozen=True, slots=True)
class WorkloadAnswer:
    """Whether the workload did its work; `checks` holds what was asked and what it said."""

    ok: bool
    address: str
    checks: tuple[tuple[str, str], ...]


@dataclass(frozen=True, slots=True)
class HistoryVerdict:
    """Whether the history holds: chain, signatures, the quote under the simulated root."""

    verified: bool
    facts: int
    signed: int
    checks: tuple[str, ...]
    not_proved: tuple[str, ...]


@dataclass(frozen=True, slots=True)
class TamperedLaunch:
    """The launch of the altered image: the state where it ended, the code, and the diagnosis as a person reads it."""

    state: str
    code: str
    diagnostics: str


@dataclass(slots=True)
class Report:
    """Filled act by act; a missing part means that the demo did not come so far."""

    image: str = ""
    pod: str = ""
    states: list[StateReached] = field(default_factory=list)
    workload: WorkloadAnswer | None = None
    history: HistoryVerdict | None = None
    tampered: TamperedLaunch | None = None
    left_behind: list[str] | None = None

    @property
    def ok(self) -> bool:
        """Whether everything was as it must be."""
        return (
            len(self.states) == 7
            and self.workload is not None
            and self.workload.ok
            and self.history is not None
            and self.history.verified
            and self.tampered is not None
            and bool(self.tampered.code)
            and not self.left_behind
        )

    def document(self) -> dict[str, Any]:
        """JSON values."""
        return {"version": 1, "ok": self.ok, **asdict(self)}
