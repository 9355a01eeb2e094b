"""Who must have signed a checkpoint before anything in the log is believed."""

from __future__ import annotations

import pytest

from orchestrator.audit.checkpoint import Checkpoint
from orchestrator.audit.note import Note, SigningKey
from orchestrator.audit.policy import Policy
from orchestrator.faults import Code, Permanent
from tests.simulators.audit_logs import LOG_KEY, ORIGIN, WITNESS_KEYS, WITNESSES, policy, signing_key

TEXT = Checkpoint(ORIGIN, 1, bytes(32)).text()


def signed(*witnesses: SigningKey, log: SigningKey | None = LOG_KEY) -> Note:
    own = (log.sign(TEXT), log.cosign(TEXT, 5)) if log else ()
    return Note(TEXT, (*own, *(witness.cosign(TEXT, 6) for witness in witnesses)))


def refused(policy: Policy, note: Note) -> Code:
    with pytest.raises(Permanent) as raised:
        policy.accept(note)
    return raised.value.code


def test_log_and_quorum_together_are_believed_and_named() -> None:
    accepted = policy().accept(signed(*WITNESSES[1:]))
    assert (accepted.checkpoint.size, accepted.log, accepted.log_time) == (1, LOG_KEY.verifier(), 5)
    assert accepted.witnesses == {"w1": 6, "w2": 6}


def test_a_quorum_without_the_log_is_not() -> None:
    assert refused(policy(), signed(*WITNESSES, log=None)) is Code.AUDIT_SIGNATURE


def test_a_quorum_with_another_key_of_the_same_name_is_not() -> None:
    assert refused(policy(), signed(*WITNESSES, log=signing_key(ORIGIN, "replaced"))) is Code.AUDIT_SIGNATURE


def test_the_logs_own_timestamp_is_no_witness() -> None:
    assert refused(policy(1), signed()) is Code.AUDIT_QUORUM


def test_one_witness_counts_once() -> None:
    assert refused(policy(2), signed(WITNESSES[0], WITNESSES[0])) is Code.AUDIT_QUORUM


def test_a_policy_without_a_log_believes_nobody() -> None:
    assert refused(Policy.parse(b"quorum none\n"), signed()) is Code.AUDIT_SIGNATURE


def test_groups_of_groups_are_counted_as_they_say() -> None:
    members = "".join(f"witness w{n} {key}\n" for n, key in enumerate(WITNESS_KEYS))
    text = (
        f"log {LOG_KEY.verifier()}\n{members}group left all w0 w1\ngroup right any w2\ngroup g 2 left right\nquorum g\n"
    )
    nested = Policy.parse(text.encode())
    nested.accept(signed(*WITNESSES))
    assert refused(nested, signed(*WITNESSES[:2])) is Code.AUDIT_QUORUM
    assert refused(nested, signed(*WITNESSES[1:])) is Code.AUDIT_QUORUM
