"""How a call fails on the wire: gRPC's status codes, and which one a fault becomes.

containerd turns codes into its own errors (errdefs.FromGRPC) and acts on some: NOT_FOUND while deleting is success,
UNAVAILABLE and the rest reach the kubelet as text.
"""

from __future__ import annotations

from enum import IntEnum
from typing import Final

from orchestrator.faults import Code, Diagnosis, Fault, Permanent


class StatusCode(IntEnum):
    """The codes used here (google.rpc.Code)."""

    OK = 0
    UNKNOWN = 2
    INVALID_ARGUMENT = 3
    DEADLINE_EXCEEDED = 4
    NOT_FOUND = 5
    ALREADY_EXISTS = 6
    RESOURCE_EXHAUSTED = 8
    FAILED_PRECONDITION = 9
    UNIMPLEMENTED = 12
    INTERNAL = 13
    UNAVAILABLE = 14


class Refusal(Permanent):
    """A call answered by a status of its own choice; the message is all that the caller is told."""

    def __init__(self, status: StatusCode, message: str, code: Code = Code.INPUT) -> None:
        super().__init__(code, message)
        self.status = status


_STATUS_OF: Final = {
    Code.NOT_FOUND: StatusCode.NOT_FOUND,
    Code.INPUT: StatusCode.INVALID_ARGUMENT,
    Code.EXEC_DENIED: StatusCode.FAILED_PRECONDITION,
}


def status_of(fault: Fault) -> StatusCode:
    """The status by which a fault is answered."""
    if isinstance(fault, Refusal):
        return fault.status
    if fault.temporary:
        return StatusCode.UNAVAILABLE
    return _STATUS_OF.get(fault.code, StatusCode.UNKNOWN)


def words_of(fault: Fault) -> str:
    """What the caller reads: for a refusal its message, else the whole diagnosis on one line."""
    return fault.diagnosis.message if isinstance(fault, Refusal) else one_line(fault.diagnosis)


def one_line(diagnosis: Diagnosis) -> str:
    """`E-ATTEST-002: what happened (expected this; got that; try these)`: a kubelet's event is one line."""
    told = (("expected", diagnosis.expected), ("got", diagnosis.got), ("try", diagnosis.advice))
    details = "; ".join(f"{label} {value}" for label, value in told if value)
    return f"{diagnosis.code}: {diagnosis.message}" + (f" ({details})" if details else "")
