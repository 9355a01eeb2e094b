"""Verifying a history offline: what it proves, what it does not.

Zone: any; an auditor needs nothing but the messages, a root and collateral. May import:
`orchestrator.{events,faults,fold,forgery,launch,lifecycle}`, `dcap_qvl`.

Checks, in order; the first that fails raises:

1. The chain: each message names the digest of the one before, from the first.
2. Every fact of the enclave zone that counted carries a good signature under the launch's event key, at its place in
   the chain; no message claims to be an enclave's that is not.
3. That key is bound to this pod by the report data of the quote in the history.
4. With collateral: the quote is genuine under the given root (Intel's, if none is given) at the time of the fact that
   carries it, is of no debug enclave, and of no platform whose TCB is revoked.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import dcap_qvl

from orchestrator.events import Attested, Foreign, ForkedFrom, Recorded, ResumeRequested, kind
from orchestrator.faults import Code, Permanent
from orchestrator.fold import apply
from orchestrator.forgery import signed_by
from orchestrator.launch import Launch, new
from orchestrator.lifecycle import Zone


@dataclass(frozen=True, slots=True)
class Verified:
    """A history that holds. `proved` and `not_proved` are sentences for a person.

    `tcb_status` is what the verifier said of the quote's platform; None where no quote was verified.
    """

    launch: Launch
    facts: int
    signed: int
    proved: tuple[str, ...]
    not_proved: tuple[str, ...]
    tcb_status: str | None = None


def verify(
    pod: str, history: Sequence[Recorded | Foreign], *, root_der: bytes | None = None, collateral: str | None = None
) -> Verified:
    """Check a whole history. `root_der` is a root certificate, `collateral` the JSON of a DCAP quote's collateral.

    Raises Permanent: BUS_HISTORY (1), FACT_FORGED (2, 3), ATTEST_QUOTE (4), NOT_FOUND for an empty history, INPUT for a
    root without collateral.
    """
    facts = [recorded for recorded in history if isinstance(recorded, Recorded)]
    if not facts:
        raise Permanent(Code.NOT_FOUND, "there is no history to verify", expected="at least one fact", got="none")
    if root_der is not None and collateral is None:
        raise Permanent(Code.INPUT, "a root alone verifies no quote", expected="root and collateral", got="a root")
    launch = _fold_refusing_forgeries(pod, history)  # checks 1 to 3
    proved = [f"the chain of {len(facts)} facts is whole, up to head {launch.head.hex()[:16]}…"]
    not_proved = ["that no fact came after the last one shown: compare the head with one that was published"]
    orders = _orders(launch, facts)
    if orders:
        proved.append(f"{len(orders)} orders were signed by operators whom the launch names: {', '.join(orders)}")
        not_proved.append("the names of those operators: the keys are theirs who hold them")
    agents = [*launch.formerly, *([launch.attested] if launch.attested else [])]
    if not agents:
        not_proved.append("anything about an enclave: this launch was never attested")
        return Verified(launch, len(facts), 0, tuple(proved), tuple(not_proved))
    body, status = agents[-1], None
    enclave = [fact for fact in facts if fact.fact.zone is Zone.ENCLAVE]
    signed = sum(any(signed_by(fact, agent.event_public_key) for agent in agents) for fact in enclave)
    whose = "one key, which the quote binds" if len(agents) == 1 else f"{len(agents)} keys, which their quotes bind"
    proved.append(f"{signed} facts were signed by {whose} to this pod")
    if len(enclave) > signed:
        not_proved.append(
            f"who stated the {len(enclave) - signed} failures before the attestation: no quote bound a key yet"
        )
    if collateral is None:
        not_proved.append("that the quote comes from a genuine CPU: no root and collateral were given")
    else:
        for stated in (fact.fact for fact in facts):
            if isinstance(stated.body, Attested) and stated.body in agents:
                status = _check_quote(stated.body, root_der, collateral, stated.at_ns // 10**9)
        under = "the given root" if root_der is not None else "Intel's root"
        proved.append(f"the quote of enclave {body.measurement[:16]}… is genuine under {under}; TCB {status}")
        not_proved.append("when the quote was made: the times in a history are the host's word")
    not_proved.append(f"what enclave {body.measurement[:16]}… is: compare the measurement with the one you built")
    if body.simulated:
        not_proved.append("protection from this node's root: the CPU is simulated")
    not_proved.append("that host facts (pids, exits, requests) are true: the host is not trusted and does not sign")
    return Verified(launch, len(facts), signed, tuple(proved), tuple(not_proved), status)


def _orders(launch: Launch, facts: Sequence[Recorded]) -> list[str]:
    """Who ordered what, of the orders that counted."""
    ignored = {entry.index for entry in launch.ignored}
    return [
        f"{fact.fact.actor} ({kind(fact.fact.body)})"
        for fact in facts
        if isinstance(fact.fact.body, ResumeRequested | ForkedFrom) and fact.index not in ignored
    ]


def _fold_refusing_forgeries(pod: str, history: Sequence[Recorded | Foreign]) -> Launch:
    launch = new(pod)
    for recorded in history:
        before, launch = launch, apply(launch, recorded)
        refuse_forged(before, launch)
    return launch


def refuse_forged(before: Launch, after: Launch) -> None:
    """Raise when the message that led from `before` to `after` was a forgery."""
    failure = after.progress.failure
    if failure is not None and failure is not before.progress.failure and failure.diagnosis.code is Code.FACT_FORGED:
        told = failure.diagnosis
        raise Permanent(told.code, told.message, expected=told.expected, got=told.got, advice=told.advice)
    if len(after.ignored) > len(before.ignored) and after.ignored[-1].why.startswith("forged"):
        entry = after.ignored[-1]
        raise Permanent(
            Code.FACT_FORGED,
            f"message {entry.index} ({entry.kind}) is forged",
            expected="a fact signed by the event key that this launch's quote binds",
            got=entry.why,
            advice="something on the host or the bus invented it; look for who may publish to this pod's subject",
        )


def _check_quote(body: Attested, root_der: bytes | None, collateral: str, at: int) -> str:
    """The platform's TCB status. Raises Permanent(ATTEST_QUOTE)."""
    try:
        parsed = dcap_qvl.QuoteCollateralV3.from_json(collateral)
        if root_der is None:
            report = dcap_qvl.verify(body.quote, parsed, at)
        else:
            report = dcap_qvl.verify_with_root_ca(body.quote, parsed, root_der, at)
    except ValueError as error:
        raise _not_genuine(" ".join(str(error).split())[:500]) from error
    status = str(report.status)
    if status == "Revoked":
        raise _not_genuine("the TCB status Revoked")
    return status


def _not_genuine(got: str) -> Permanent:
    return Permanent(
        Code.ATTEST_QUOTE,
        "the quote in the history is not genuine under this root",
        expected="a quote of a production enclave whose chain ends at that root, in date when the fact was stated",
        got=got,
        advice="check that root and collateral are those of the machine that ran the pod",
    )
