"""A resource's reply: decrypted whole under our key or refused, and never a word of it before."""

from __future__ import annotations

import json

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from deploy.kbs.jwe import seal
from schemas.strict_json import Malformed, base64url, base64url_bytes
from workers.enclave.kbs.tee_key import TeeKey

KEY = TeeKey()
PLAIN = b"the key of a layer"
REPLY = seal(KEY.public, PLAIN)


def test_what_is_sealed_to_a_key_is_read_by_it_alone():
    assert KEY.decrypt(REPLY) == PLAIN
    with pytest.raises(Malformed, match="does not decrypt"):
        TeeKey().decrypt(REPLY)


@pytest.mark.parametrize("size", [0, 1, 65_536, 2 * 2**20])
def test_every_size_up_to_the_bound(size):
    assert KEY.decrypt(seal(KEY.public, bytes(size))) == bytes(size)


def test_a_reply_over_the_bound_is_refused():
    with pytest.raises(Malformed):
        KEY.decrypt(seal(KEY.public, bytes(2 * 2**20 + 16)))


def altered_header(**changes):
    reply = json.loads(REPLY)
    header = json.loads(base64url_bytes(reply["protected"], "x")) | changes
    header = {name: value for name, value in header.items() if value is not None}
    return json.dumps(reply | {"protected": base64url(json.dumps(header).encode())}).encode()


@pytest.mark.parametrize(
    "changes",
    [
        {"alg": "dir"},
        {"alg": "ECDH-ES"},
        {"alg": "RSA-OAEP-256"},
        {"alg": "PBES2-HS256+A128KW"},
        {"enc": "A128CBC-HS256"},
        {"enc": None},
        {"zip": "DEF"},
        {"crit": ["x"], "x": 1},
        {"kid": "1"},
        {"epk": None},
        {"epk": {}},
        {"epk": {"kty": "EC", "crv": "P-256", "x": "AA", "y": "AA"}},
        {"epk": {"kty": "EC", "crv": "P-521", "x": "AA", "y": "AA"}},
        {"epk": {"kty": "OKP", "crv": "X25519", "x": "AA"}},
        {"epk": {"kty": "EC", "crv": "P-256", "x": 1, "y": 2}},
    ],
)
def test_another_header_is_refused(changes):
    with pytest.raises(Malformed):
        KEY.decrypt(altered_header(**changes))


@pytest.mark.parametrize("name", ["protected", "encrypted_key", "iv", "ciphertext", "tag"])
def test_each_member_is_needed_and_authenticated(name):
    reply = json.loads(REPLY)
    value = reply[name]
    for other in (value[:-2], "", value + "AAAA", value + "=", ("A" if value[0] != "A" else "B") + value[1:], 1, None):
        with pytest.raises(Malformed):
            KEY.decrypt(json.dumps(reply | {name: other}).encode())
    del reply[name]
    with pytest.raises(Malformed):
        KEY.decrypt(json.dumps(reply).encode())


@pytest.mark.parametrize("more", [{"aad": "AA"}, {"recipients": []}, {"unprotected": {}}, {"header": {}}])
def test_a_member_more_is_refused(more):
    with pytest.raises(Malformed):
        KEY.decrypt(json.dumps(json.loads(REPLY) | more).encode())


@settings(max_examples=100, deadline=None)
@given(
    st.binary() | st.dictionaries(st.text(), st.text() | st.integers()).map(lambda reply: json.dumps(reply).encode())
)
def test_anything_else_is_refused(reply):
    with pytest.raises(Malformed):
        KEY.decrypt(reply)


@settings(max_examples=100, deadline=None)
@given(at=st.integers(0, len(REPLY) - 1), bit=st.integers(0, 7))
def test_any_flipped_bit_is_refused(at, bit):
    altered = bytearray(REPLY)
    altered[at] ^= 1 << bit
    with pytest.raises(Malformed):
        KEY.decrypt(bytes(altered))
