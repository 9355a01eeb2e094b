"""The agent's two keys: what they sign, strangers check."""

from __future__ import annotations

import base64
import hashlib

import nkeys
import pytest
from cryptography.exceptions import InvalidSignature
from cryptography.hazmat.primitives.asymmetric.ed25519 import Ed25519PublicKey

from workers.enclave.event_key import BusKey, EventKey

POD = "a1b2c3d4" * 8


def test_what_the_event_key_signs_verifies_under_its_public_half_only() -> None:
    key, other = EventKey(), EventKey()
    signature = key.sign(b"a fact")
    assert len(signature) == 64
    Ed25519PublicKey.from_public_bytes(key.public).verify(signature, b"a fact")
    for public, message in ((other.public, b"a fact"), (key.public, b"another")):
        with pytest.raises(InvalidSignature):
            Ed25519PublicKey.from_public_bytes(public).verify(signature, message)


def test_the_quotes_report_data_binds_the_key_to_the_pod_as_documented() -> None:
    key = EventKey()
    data = key.report_data(POD)
    assert data == hashlib.sha256(b"enclave-cc/event-key/v1\0" + POD.encode() + b"\0" + key.public).digest() + bytes(32)
    assert len({data, key.report_data("b" * 64), EventKey().report_data(POD)}) == 3


def test_the_bus_key_is_a_user_nkey_as_another_library_reads_it() -> None:
    for _ in range(20):
        nkey = BusKey().nkey
        assert len(nkey) == 56
        assert nkey.startswith("U")
        raw = base64.b32decode(nkey)
        assert raw[0] == nkeys.PREFIX_BYTE_USER
        assert int.from_bytes(raw[-2:], "little") == nkeys.crc16(raw[:-2])


def test_the_answer_to_the_buss_challenge_is_its_signature_in_base64() -> None:
    key = BusKey()
    public = base64.b32decode(key.nkey)[1:33]
    Ed25519PublicKey.from_public_bytes(public).verify(base64.b64decode(key.answer("nonce-1")), b"nonce-1")


def test_two_agents_have_nothing_in_common() -> None:
    assert EventKey().public != EventKey().public
    assert BusKey().nkey != BusKey().nkey
