"""What a verification says: numbered checks, what they prove, and what they do not.

Zone: any. May import: `orchestrator.faults`, the standard library. Pure.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass, field
from typing import Final, TypeVar

from orchestrator.faults import Diagnosis, Fault, Permanent

MOST_FAULTS: Final = 100
"""Faults told of one check. Whoever altered more altered everything."""

_Result = TypeVar("_Result")


@dataclass(frozen=True, slots=True)
class Check:
    """One numbered check: what it asks, and the faults it found. `told` says what was looked at."""

    number: int
    asks: str
    faults: tuple[Diagnosis, ...] = ()
    told: str = ""

    @property
    def passed(self) -> bool:
        """Whether nothing was found."""
        return not self.faults


@dataclass(frozen=True, slots=True)
class Report:
    """All checks that were made, in order. `proved` and `not_proved` are sentences for a person."""

    checks: tuple[Check, ...]
    proved: tuple[str, ...]
    not_proved: tuple[str, ...]

    @property
    def faults(self) -> tuple[Diagnosis, ...]:
        """Everything that was found."""
        return tuple(fault for check in self.checks for fault in check.faults)

    def require(self) -> None:
        """Raise the first fault, if there is one: a verdict must not be passed over."""
        for told in self.faults:
            raise Permanent(told.code, told.message, expected=told.expected, got=told.got, advice=told.advice)


@dataclass(slots=True)
class Examination:
    """A report in the making."""

    checks: list[Check] = field(default_factory=list)
    proved: list[str] = field(default_factory=list)
    not_proved: list[str] = field(default_factory=list)

    def ask(self, number: int, asks: str, look: Callable[[Findings], _Result]) -> _Result | None:
        """Make one check. What it raises is its fault; None is returned then, and the caller stops if it must."""
        findings, result = Findings(), None
        try:
            result = look(findings)
        except Fault as fault:
            findings.faults.append(fault.diagnosis)
        self.conclude(number, asks, findings)
        return result

    def conclude(self, number: int, asks: str, findings: Findings) -> None:
        """Note a check that was made elsewhere."""
        told = f"{findings.untold} more of the kind" if findings.untold else findings.told
        self.checks.append(Check(number, asks, tuple(findings.faults), told))

    @property
    def passed(self) -> bool:
        """Whether nothing was found so far."""
        return all(check.passed for check in self.checks)

    def report(self) -> Report:
        """What was found. Nothing is called proved when anything was."""
        return Report(tuple(self.checks), tuple(self.proved) if self.passed else (), tuple(self.not_proved))


@dataclass(slots=True)
class Findings:
    """The faults of one check, for those that go on after the first: MOST_FAULTS of them and the number of the rest."""

    faults: list[Diagnosis] = field(default_factory=list)
    untold: int = 0
    told: str = ""

    def add(self, fault: Fault) -> None:
        """Note a fault."""
        if len(self.faults) < MOST_FAULTS:
            self.faults.append(fault.diagnosis)
        else:
            self.untold += 1
