"""Records of an attested channel: what an attacker on the wire can do to them is end them."""

from __future__ import annotations

import pytest

from orchestrator.faults import Code, Permanent
from schemas.sgx import Attributes, ReportBody
from workers.enclave.tee.record import MAX_PLAINTEXT_BYTES, Session

PEER = ReportBody(bytes(32), bytes(32), Attributes(5, 3), bytes(64))


@pytest.fixture
def ends():
    return Session(PEER, sends=b"1" * 32, receives=b"2" * 32), Session(PEER, sends=b"2" * 32, receives=b"1" * 32)


def opened(session, record):
    assert session.record_length(record[:4]) == len(record) - 4
    return session.open(record[:4], record[4:])


def refused(call, *arguments) -> None:
    with pytest.raises(Permanent) as fault:
        call(*arguments)
    assert fault.value.code is Code.CONFIG_LOCAL_ATTESTATION


@pytest.mark.parametrize("message", [b"", b"x", bytes(MAX_PLAINTEXT_BYTES)])
def test_a_record_opens_at_the_other_end(ends, message):
    one, two = ends
    assert opened(two, one.seal(message)) == message
    assert opened(one, two.seal(message)) == message


def test_a_record_does_not_open_where_it_was_sealed(ends):
    one, _ = ends
    record = one.seal(b"reflected")
    refused(opened, one, record)


def test_a_record_opens_once_and_in_order(ends):
    one, two = ends
    first, second = one.seal(b"1"), one.seal(b"2")
    refused(opened, two, second)
    refused(opened, two, first)


def test_a_replayed_record_ends_the_session(ends):
    one, two = ends
    record = one.seal(b"1")
    assert opened(two, record) == b"1"
    refused(opened, two, record)
    refused(opened, two, one.seal(b"2"))
    refused(two.seal, b"3")


def test_every_flipped_byte_ends_the_session():
    for at in range(4 + 3 + 16):
        one = Session(PEER, sends=b"1" * 32, receives=b"2" * 32)
        two = Session(PEER, sends=b"2" * 32, receives=b"1" * 32)
        record = bytearray(one.seal(b"abc"))
        record[at] ^= 1
        refused(two.open, bytes(record[:4]), bytes(record[4:]))


@pytest.mark.parametrize("length", [0, 15, MAX_PLAINTEXT_BYTES + 17, 2**32 - 1])
def test_a_length_that_no_record_has_is_refused_before_anything_is_read(ends, length):
    refused(ends[0].record_length, length.to_bytes(4, "big"))


def test_a_message_too_long_is_the_callers_mistake_and_ends_nothing(ends):
    one, two = ends
    with pytest.raises(Permanent) as fault:
        one.seal(bytes(MAX_PLAINTEXT_BYTES + 1))
    assert fault.value.code is Code.INPUT
    assert opened(two, one.seal(b"next")) == b"next"
