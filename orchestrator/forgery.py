"""Whether a message was stated by whom it claims: signatures, the key's binding to the quote, who may say what.

Zone: any. May import: `orchestrator.{events,launch,lifecycle}`, `schemas.sgx`, `cryptography`. Pure.

What this does not prove: that the quote was made by a genuine CPU. That needs collateral and a point in time; it is the
key broker's and the auditor's check.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import Final

from cryptography.exceptions import InvalidSignature
from cryptography.hazmat.primitives.asymmetric.ed25519 import Ed25519PublicKey

from orchestrator import events
from orchestrator.events import Recorded
from orchestrator.launch import Launch
from orchestrator.lifecycle import BY_NAME, Zone
from schemas import sgx

QUOTE_REPORT: Final = slice(48, 432)
"""Where the ISV enclave report body lies in a DCAP quote v3 (Intel SGX ECDSA quote library reference, A.4)."""

_ENCLAVE_FACTS: Final = (
    events.Attested,
    events.ImageDecrypted,
    events.FsSealed,
    events.ConfigDelivered,
    events.AppBooted,
    events.ExecAdmitted,
    events.ExecRefused,
)


def why_forged(launch: Launch, recorded: Recorded) -> str | None:
    """Why this message is a forgery given the launch so far, or None; rules 3 and 4 of `orchestrator.fold`."""
    fact, body = recorded.fact, recorded.fact.body
    if isinstance(body, events.StepFailed):
        row = BY_NAME.get(body.transition)
        # A deadline that passed is stated by the orchestrator, which is host zone, for any transition.
        if fact.zone is Zone.HOST or row is None:
            return None
        key = launch.attested.event_public_key if launch.attested else None
        return None if key is None else _bad_signature(recorded, key)
    expected = Zone.ENCLAVE if isinstance(body, _ENCLAVE_FACTS) else Zone.HOST
    if isinstance(body, events.Unknown):
        expected = fact.zone
    if fact.zone is not expected:
        return f"a fact of the {expected} zone was stated by the {fact.zone} zone"
    if fact.zone is Zone.HOST:
        return None
    if isinstance(body, events.Attested):
        return _bad_signature(recorded, body.event_public_key) or _unbound_key(fact.pod, body)
    if launch.attested is None:
        return "an enclave's fact came before the enclave was attested"
    return _bad_signature(recorded, launch.attested.event_public_key)


def signed_by(recorded: Recorded, public_key: bytes) -> bool:
    """Whether the message carries a good signature under this Ed25519 key (32 bytes) for its place in the chain."""
    message = events.signed_bytes(recorded.index, recorded.previous, recorded.statement)
    try:
        Ed25519PublicKey.from_public_bytes(public_key).verify(recorded.signature, message)
    except (InvalidSignature, ValueError):
        return False
    return True


def why_not_ordered(recorded: Recorded, operator: bytes, operators: Sequence[bytes] | None) -> str | None:
    """Why an order does not count: signed badly, or by nobody whom the launch names (None: whoever signs)."""
    if operators is not None and operator not in operators:
        return "its signer is no operator whom this launch names"
    message = events.signed_bytes(recorded.index, recorded.previous, recorded.statement)
    try:
        Ed25519PublicKey.from_public_bytes(operator).verify(recorded.signature, message)
    except (InvalidSignature, ValueError):
        return "the signature does not verify under the operator's key"
    return None


def _bad_signature(recorded: Recorded, public_key: bytes) -> str | None:
    good = signed_by(recorded, public_key)
    return None if good else "the signature does not verify under the launch's event key"


def _unbound_key(pod: str, body: events.Attested) -> str | None:
    try:
        report = sgx.ReportBody.parse(body.quote[QUOTE_REPORT])
    except ValueError as error:
        return f"its quote does not parse: {error}"
    if report.report_data != events.event_key_binding(pod, body.event_public_key).ljust(64, b"\0"):
        return "its quote does not bind the event key to this pod"
    if report.mrenclave.hex() != body.measurement:
        return f"its quote is of enclave {report.mrenclave.hex()}, not {body.measurement}"
    return None
