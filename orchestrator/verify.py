"""Verifying a history offline: what it proves, what it does not.

Zone: any; an auditor needs nothing but the messages, a root and collateral. May import:
`orchestrator.{events,faults,fold,launch,lifecycle}`, `schemas.sgx`, `dcap_qvl`.

Checks, in order; the first that fails raises:

1. The chain: each message names the digest of the one before, from the first.
2. Every fact of the enclave zone carries a good signature under the launch's event key, at its place in the chain.
3. That key is bound to this pod by the report data of the quote in the history.
4. With a root and collateral: the quote is genuine under that root at the time of the fact that carries it, and is not
   a debug enclave's.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import dcap_qvl

from orchestrator.events import Attested, Foreign, Recorded
from orchestrator.faults import Code, Permanent
from orchestrator.fold import apply
from orchestrator.launch import Launch, new
from orchestrator.lifecycle import Zone


@dataclass(frozen=True, slots=True)
class Verified:
    """A history that holds. `proved` and `not_proved` are sentences for a person."""

    launch: Launch
    facts: int
    signed: int
    proved: tuple[str, ...]
    not_proved: tuple[str, ...]


def verify(
    pod: str, history: Sequence[Recorded | Foreign], *, root_der: bytes | None = None, collateral: str | None = None
) -> Verified:
    """Check a whole history. Raises Permanent: BUS_HISTORY (1), FACT_FORGED (2, 3), ATTEST_QUOTE (4), NOT_FOUND."""
    facts = [recorded for recorded in history if isinstance(recorded, Recorded)]
    if not facts:
        raise Permanent(Code.NOT_FOUND, "there is no history to verify", expected="at least one fact", got="none")
    launch, signed = new(pod), 0
    for recorded in history:
        before, launch = launch, apply(launch, recorded)  # checks 1 to 3 are the fold's own
        if isinstance(recorded, Recorded):
            _refuse_forged(before, launch)
            signed += recorded.fact.zone is Zone.ENCLAVE and bool(recorded.signature)
    proved = [f"the chain of {len(facts)} facts is whole, up to head {launch.head.hex()[:16]}…"]
    not_proved = ["that no fact came after the last one shown: compare the head with one that was published"]
    attested = next((r for r in facts if isinstance(r.fact.body, Attested)), None)
    if attested is None or not isinstance(attested.fact.body, Attested):
        not_proved.append("anything about an enclave: this launch was never attested")
        return Verified(launch, len(facts), signed, tuple(proved), tuple(not_proved))
    body = attested.fact.body
    proved.append(f"{signed} facts were signed by one key, which the quote binds to this pod")
    if root_der is None or collateral is None:
        not_proved.append("that the quote comes from a genuine CPU: no root and collateral were given")
    else:
        status = _check_quote(body.quote, root_der, collateral, attested.fact.at_ns // 10**9)
        proved.append(f"the quote of enclave {body.measurement[:16]}… is genuine under the given root; TCB {status}")
    if body.simulated:
        not_proved.append("protection from this node's root: the CPU is simulated")
    not_proved.append("that host facts (pids, exits, requests) are true: the host is not trusted and does not sign")
    return Verified(launch, len(facts), signed, tuple(proved), tuple(not_proved))


def _refuse_forged(before: Launch, after: Launch) -> None:
    """Raise when the message that led from `before` to `after` was a forgery."""
    failure = after.progress.failure
    if failure is not None and failure is not before.progress.failure and failure.diagnosis.code is Code.FACT_FORGED:
        told = failure.diagnosis
        raise Permanent(told.code, told.message, expected=told.expected, got=told.got, advice=told.advice)
    if len(after.ignored) > len(before.ignored) and after.ignored[-1].why.startswith("forged"):
        entry = after.ignored[-1]
        raise Permanent(Code.FACT_FORGED, f"message {entry.index} ({entry.kind}) is forged", got=entry.why)


def _check_quote(quote: bytes, root_der: bytes, collateral: str, at: int) -> str:
    try:
        report = dcap_qvl.verify_with_root_ca(quote, dcap_qvl.QuoteCollateralV3.from_json(collateral), root_der, at)
    except ValueError as error:
        raise Permanent(
            Code.ATTEST_QUOTE,
            "the quote in the history is not genuine under the given root",
            expected="a DCAP quote whose chain ends at that root, in date when the fact was stated",
            got=str(error)[:500],
            advice="check that root and collateral are those of the machine that ran the pod",
        ) from error
    return str(report.status)
