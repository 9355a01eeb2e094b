"""What a verified attestation token says about this enclave, and why that may not be good enough.

Source: EAR (draft-ietf-rats-ear), whose numbers are AR4SI's (draft-ietf-rats-ar4si section 2.3): 2 to 31 affirms,
32 to 95 warns, 96 and above contraindicates, -1 to 1 says nothing.
"""

from __future__ import annotations

from dataclasses import asdict, dataclass
from typing import Final

from orchestrator.faults import Code, Permanent

AFFIRMING: Final = "affirming"


@dataclass(frozen=True, slots=True)
class TrustVector:
    """The eight trustworthiness claims, each -128 to 127."""

    instance_identity: int = 0
    configuration: int = 0
    executables: int = 0
    file_system: int = 0
    hardware: int = 0
    runtime_opaque: int = 0
    storage_opaque: int = 0
    sourced_data: int = 0

    def __str__(self) -> str:
        return ", ".join(f"{name.replace('_', '-')} {value}" for name, value in asdict(self).items() if value)


@dataclass(frozen=True, slots=True)
class Claims:
    """An appraisal as the broker signed it.

    `measurement` is MRENCLAVE in 64 hex digits, `tcb_status` Intel's word ("UpToDate"), `simulated` whether the quote's
    root is not Intel's, `expires_at` unix seconds.
    """

    status: str
    tcb_status: str
    measurement: str
    simulated: bool
    debug: bool
    config_id: str
    vector: TrustVector
    expires_at: int


def require_affirming(claims: Claims) -> None:
    """Return when the status affirms; else `Permanent` for the first reason of: executables, configuration, hardware.

    The order is that of usefulness: an unlisted enclave's configuration is nobody's concern.
    """
    if claims.status == AFFIRMING:
        return
    vector = claims.vector
    if not _affirms(vector.executables):
        raise Permanent(
            Code.ATTEST_NOT_LISTED,
            "the owner's policy does not list this enclave",
            expected="a measurement listed as reference value sgx_mr_enclave",
            got=claims.measurement,
            advice="after checking the build: enclave-cc kbs reference-value sgx_mr_enclave <measurement>...",
        )
    if not _affirms(vector.configuration):
        raise _configuration(claims)
    if not _affirms(vector.hardware):
        raise Permanent(
            Code.ATTEST_TCB,
            "the owner's policy does not accept this hardware",
            expected="genuine hardware of an allowed TCB status",
            got=f"{'SIMULATED hardware' if claims.simulated else 'Intel hardware'}, TCB status {claims.tcb_status}",
            advice="update the platform; for a simulated CPU: enclave-cc kbs reference-value allow_simulated true",
        )
    raise Permanent(
        Code.ATTEST_NOT_LISTED, "the owner's policy does not affirm this enclave", expected=AFFIRMING, got=str(vector)
    )


def _configuration(claims: Claims) -> Permanent:
    if claims.debug:
        return Permanent(
            Code.ATTEST_DEBUG,
            "the enclave can be debugged, so it keeps no secret",
            expected="attribute DEBUG clear",
            got="DEBUG set",
            advice="build the enclave without debug",
        )
    return Permanent(
        Code.AGENT_INIT_DATA,
        "the owner's policy does not list this enclave's configuration",
        expected="a digest of init-data listed as reference value sgx_config_id",
        got=claims.config_id,
        advice="was the pod launched with the init-data the owner published?",
    )


def _affirms(claim: int) -> bool:
    return 2 <= claim <= 31 or -32 <= claim <= -2
