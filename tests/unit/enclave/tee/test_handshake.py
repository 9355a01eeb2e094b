"""Mutual local attestation against everything that sits between two enclaves."""

from __future__ import annotations

import pytest
from cryptography.hazmat.primitives.asymmetric.x25519 import X25519PrivateKey
from hypothesis import given, settings
from hypothesis import strategies as st

from orchestrator.faults import Code, Permanent
from tests.simulators.direct_tee import DirectTee, machine
from workers.enclave.tee.handshake import (
    ANSWER_BYTES,
    CONFIRMATION_BYTES,
    HELLO_BYTES,
    PROOF_BYTES,
    Initiator,
    Responder,
)
from workers.enclave.tee.judge import OnlyMeasurements

AGENT, BOOT, OTHER = b"a" * 32, b"b" * 32, b"o" * 32


def wants(*measurements: bytes, **more) -> OnlyMeasurements:
    return OnlyMeasurements(frozenset(measurements), **more)


def refused(call, *arguments, code=Code.CONFIG_LOCAL_ATTESTATION) -> Permanent:
    with pytest.raises(Permanent) as fault:
        call(*arguments)
    assert fault.value.code is code
    return fault.value


@pytest.fixture
def initiator(boot, wants_agent):
    return Initiator(boot, wants_agent)


@pytest.fixture
def responder(agent, wants_boot):
    return Responder(agent, wants_boot)


def test_two_wanted_enclaves_end_with_one_channel_and_each_others_identity(initiator, responder):
    hello = initiator.hello()
    answer = responder.answer(hello)
    proof = initiator.prove(answer)
    confirmation, at_agent = responder.finish(proof)
    at_boot = initiator.finish(confirmation)
    assert (len(hello), len(answer), len(proof), len(confirmation)) == (
        HELLO_BYTES,
        ANSWER_BYTES,
        PROOF_BYTES,
        CONFIRMATION_BYTES,
    )
    assert (at_agent.peer.mrenclave, at_boot.peer.mrenclave) == (BOOT, AGENT)
    for sender, receiver in ((at_boot, at_agent), (at_agent, at_boot)):
        record = sender.seal(b"secret")
        assert b"secret" not in record
        assert receiver.open(record[:4], record[4:]) == b"secret"


def test_no_two_handshakes_share_a_message_or_a_key(agent, boot, wants_agent, wants_boot):
    seen = set()
    for _ in range(3):
        one, two = Initiator(boot, wants_agent), Responder(agent, wants_boot)
        hello = one.hello()
        answer = two.answer(hello)
        proof = one.prove(answer)
        confirmation, session = two.finish(proof)
        seen |= {hello, answer, proof, confirmation, session.seal(b"same")}
    assert len(seen) == 15


@pytest.mark.parametrize("field", ["key", "nonce", "target"])
def test_a_man_in_the_middle_who_changes_the_hello_is_found_by_the_initiator(initiator, responder, field):
    at = {"target": 8 + 32, "nonce": 8 + 512, "key": 8 + 512 + 32}[field]
    hello = bytearray(initiator.hello())
    hello[at] ^= 1
    refused(initiator.prove, responder.answer(bytes(hello)))


def test_a_man_in_the_middle_with_keys_of_his_own_has_no_report_for_them(initiator, responder):
    """The classic: his key to each side, each side's own report passed on."""
    his = X25519PrivateKey.generate().public_key().public_bytes_raw()
    hello = initiator.hello()
    answer = responder.answer(hello[:-32] + his)
    refused(initiator.prove, answer[:32] + his + answer[64:])


def test_an_unlisted_enclave_between_the_two_is_refused_by_both(cpu, initiator, responder):
    his = DirectTee(cpu, OTHER)
    towards_boot = Responder(his, wants(BOOT))
    fault = refused(initiator.prove, towards_boot.answer(initiator.hello()), code=Code.CONFIG_APP_MEASUREMENT)
    assert fault.diagnosis.got == OTHER.hex()
    towards_agent = Initiator(his, wants(AGENT))
    proof = towards_agent.prove(responder.answer(towards_agent.hello()))
    refused(responder.finish, proof, code=Code.CONFIG_APP_MEASUREMENT)


def test_the_same_enclave_on_another_machine_is_refused_by_both(initiator, responder):
    elsewhere = machine()
    his_agent = Responder(DirectTee(elsewhere, AGENT), wants(BOOT))
    refused(initiator.prove, his_agent.answer(initiator.hello()))
    his_boot = Initiator(DirectTee(elsewhere, BOOT), wants(AGENT))
    answer = responder.answer(his_boot.hello())
    refused(his_boot.prove, answer)


def test_a_debug_enclave_is_refused_unless_it_is_allowed(cpu, agent):
    def meet(judge):
        one, two = Initiator(DirectTee(cpu, BOOT, debug=True), wants(AGENT)), Responder(agent, judge)
        return two.finish, one.prove(two.answer(one.hello()))

    refused(*meet(wants(BOOT)), code=Code.CONFIG_APP_MEASUREMENT)
    finish, proof = meet(wants(BOOT, allow_debug=True))
    assert finish(proof)[1].peer.attributes.debug


def test_an_enclave_with_another_config_is_refused_where_one_is_asked_for(cpu, agent):
    def meet(judge):
        one, two = Initiator(DirectTee(cpu, BOOT, config_id=b"c" * 64), wants(AGENT)), Responder(agent, judge)
        return two.finish, one.prove(two.answer(one.hello()))

    refused(*meet(wants(BOOT, config_id=bytes(64))), code=Code.CONFIG_APP_MEASUREMENT)
    finish, proof = meet(wants(BOOT, config_id=b"c" * 64))
    assert finish(proof)[1].peer.config_id == b"c" * 64


def test_a_replayed_hello_and_proof_open_nothing(agent, boot, wants_agent, wants_boot):
    one, two = Initiator(boot, wants_agent), Responder(agent, wants_boot)
    hello = one.hello()
    proof = one.prove(two.answer(hello))
    two.finish(proof)
    again = Responder(agent, wants_boot)
    again.answer(hello)
    refused(again.finish, proof)


def test_a_replayed_answer_is_refused(agent, boot, wants_agent, wants_boot):
    one, two = Initiator(boot, wants_agent), Responder(agent, wants_boot)
    answer = two.answer(one.hello())
    one.prove(answer)
    fresh = Initiator(boot, wants_agent)
    fresh.hello()
    refused(fresh.prove, answer)


def test_a_report_made_in_one_role_does_not_count_in_the_other(cpu):
    """Both enclaves have one measurement, and the host sends the initiator's own report back as the responder's.

    The twin's initiator attests at the very transcript at which the responder would: only the role tells them apart.
    """
    twin = DirectTee(cpu, AGENT)
    one = Initiator(twin, wants(AGENT))
    two = Responder(twin, wants(AGENT))
    two_as_initiator = _WrongRole(twin, wants(AGENT))
    hello = one.hello()
    refused(one.prove, two_as_initiator.answer(hello))
    again = Initiator(twin, wants(AGENT))
    assert len(again.prove(two.answer(again.hello()))) == PROOF_BYTES


class _WrongRole(Responder):
    """Answers with a report in the initiator's role."""

    __slots__ = ()

    def _statement(self, role: bytes) -> bytes:
        return super()._statement(role.replace(b"responder", b"initiator"))


def test_the_enclave_that_attests_must_be_the_one_that_said_hello(cpu, agent, boot):
    """Both are listed; the second finishes what the first began, with the first one's secrets."""
    second = DirectTee(cpu, OTHER)
    one, two = Initiator(boot, wants(AGENT)), Responder(agent, wants(BOOT, OTHER))
    answer = two.answer(one.hello())
    one._tee = _Two(boot, second)
    fault = refused(two.finish, one.prove(answer))
    assert "said hello" in fault.diagnosis.message


class _Two:
    """Checks as one enclave and reports as another: what two colluding enclaves can do."""

    def __init__(self, checks: DirectTee, reports: DirectTee) -> None:
        self.verify_report = checks.verify_report
        self.report = reports.report


class _LowOrder(Responder):
    __slots__ = ()

    def _public_key(self) -> bytes:
        return bytes(32)


def test_a_public_key_of_low_order_is_refused_even_from_a_wanted_enclave(initiator, agent, wants_boot):
    answer = _LowOrder(agent, wants_boot).answer(initiator.hello())
    fault = refused(initiator.prove, answer)
    assert "low order" in fault.diagnosis.message


def test_a_handshake_runs_once_and_in_order(initiator, responder):
    refused(Initiator.finish, initiator, bytes(32))
    refused(initiator.hello)
    hello = Initiator(initiator._tee, initiator._judge).hello()
    responder.answer(hello)
    refused(responder.answer, hello)
    refused(responder.finish, bytes(PROOF_BYTES))


def test_a_handshake_that_failed_is_dead(initiator, responder):
    answer = responder.answer(initiator.hello())
    refused(initiator.prove, answer[:-1] + bytes([answer[-1] ^ 1]))
    refused(initiator.prove, answer)


@pytest.mark.parametrize("length", [0, 1, HELLO_BYTES - 1, HELLO_BYTES + 1])
def test_a_message_of_another_length_is_refused(agent, wants_boot, length):
    refused(Responder(agent, wants_boot).answer, bytes(length))


def test_another_version_of_the_protocol_is_refused(initiator, responder):
    fault = refused(responder.answer, b"ecc-la/2" + initiator.hello()[8:])
    assert fault.diagnosis.expected == "ecc-la/1"


@settings(max_examples=150, deadline=None)
@given(st.data())
def test_one_flipped_bit_anywhere_never_lets_both_sides_finish(data):
    cpu = machine()
    one = Initiator(DirectTee(cpu, BOOT), wants(AGENT))
    two = Responder(DirectTee(cpu, AGENT), wants(BOOT))
    which = data.draw(st.integers(0, 3))

    def passes(index: int, message: bytes) -> bytes:
        if index != which:
            return message
        at = data.draw(st.integers(0, len(message) * 8 - 1))
        changed = bytearray(message)
        changed[at // 8] ^= 1 << at % 8
        return bytes(changed)

    def run() -> None:
        confirmation, _ = two.finish(passes(2, one.prove(passes(1, two.answer(passes(0, one.hello()))))))
        one.finish(passes(3, confirmation))

    refused(run)


def test_nothing_secret_is_in_a_fault(initiator, responder):
    answer = responder.answer(initiator.hello())
    fault = refused(initiator.prove, answer[:-1] + bytes([answer[-1] ^ 1]))
    assert initiator._key.private_bytes_raw().hex() not in fault.diagnostics()
