"""Which peers an enclave will talk to."""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING, Protocol

from orchestrator.faults import Code, Permanent

if TYPE_CHECKING:
    from schemas.sgx import ReportBody


class Judge(Protocol):
    """Called with a body whose MAC was checked, so all of it is true. Raises `Permanent` for an unwanted peer."""

    def __call__(self, peer: ReportBody, /) -> None:
        """Return to accept."""


@dataclass(frozen=True, slots=True)
class OnlyMeasurements:
    """Accepts enclaves with one of these MRENCLAVEs, with this CONFIGID if one is given, and none that may be debugged.

    `allow_debug` is for a pod that is itself debuggable: it has no secret to lose. Raises
    `Permanent(CONFIG_APP_MEASUREMENT)`.
    """

    mrenclaves: frozenset[bytes]
    config_id: bytes | None = None
    allow_debug: bool = False

    def __call__(self, peer: ReportBody, /) -> None:
        """Return to accept."""
        if peer.mrenclave not in self.mrenclaves:
            listed = ", ".join(sorted(measurement.hex() for measurement in self.mrenclaves)) or "none"
            raise _unwanted("its measurement is not listed", listed, peer.mrenclave.hex())
        if peer.attributes.debug and not self.allow_debug:
            raise _unwanted("it may be debugged", "ATTRIBUTES.DEBUG clear", f"flags {peer.attributes.flags:#x}")
        if self.config_id is not None and peer.config_id != self.config_id:
            raise _unwanted("its CONFIGID is another", self.config_id.hex(), peer.config_id.hex())


def _unwanted(why: str, expected: str, got: str) -> Permanent:
    return Permanent(
        Code.CONFIG_APP_MEASUREMENT,
        f"the peer enclave is not wanted: {why}",
        expected=expected,
        got=got,
        advice="agent and boot bundle must be of one release; list the new measurement after an upgrade",
    )
