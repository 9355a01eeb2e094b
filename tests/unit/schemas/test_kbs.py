"""The KBS protocol's shapes."""

from __future__ import annotations

import base64
import hashlib

import pytest
import rfc8785

from schemas.kbs import EcPublicKey, RsaPublicKey, is_segment, report_data, runtime_data, tee_public_key
from schemas.strict_json import Malformed, base64url

X = base64url(bytes(32))
EC = {"kty": "EC", "crv": "P-256", "alg": "ECDH-ES+A256KW", "x": X, "y": X}
RSA = {"kty": "RSA", "alg": "RSA-OAEP-256", "n": base64url(b"\x80" + bytes(255)), "e": "AQAB"}


def test_canonical_hashing_gives_trustees_known_answer():
    # attestation-service/src/lib.rs, the test of parse_runtime_data.
    structured = {"b": 1, "a": "test", "c": {"d": "e"}}
    expected = "e71ce8e70d814ba6639c3612ebee0ff1f76f650f8dbb5e47157e0f3f525cd22c4597480a186427c813ca941da78870c3"
    assert hashlib.sha384(rfc8785.dumps(structured)).hexdigest() == expected
    assert report_data(structured).hex() == expected


def test_runtime_data_has_its_three_members_also_when_one_is_empty():
    nonce = base64.b64encode(bytes(32)).decode()
    runtime = runtime_data(nonce, tee_public_key(EC))
    canonical = (
        f'{{"additional-evidence":"","nonce":"{nonce}",'
        f'"tee-pubkey":{{"alg":"ECDH-ES+A256KW","crv":"P-256","kty":"EC","x":"{X}","y":"{X}"}}}}'
    )
    assert report_data(runtime) == hashlib.sha384(canonical.encode()).digest()


def test_a_key_is_its_closed_set_of_members():
    assert tee_public_key(EC | {"kid": "1", "use": "enc"}) == EcPublicKey("P-256", X, X)
    assert tee_public_key(EC).jwk() == EC
    assert tee_public_key(RSA | {"key_ops": []}) == RsaPublicKey(RSA["n"], RSA["e"])
    assert tee_public_key(RSA).jwk() == RSA
    wide = base64url(bytes(66))
    assert tee_public_key(EC | {"crv": "P-521", "x": wide, "y": wide}).jwk()["crv"] == "P-521"


@pytest.mark.parametrize(
    "change",
    [
        {"kty": "OKP"},
        {"kty": None},
        {"crv": "P-384"},
        {"crv": "P-521"},
        {"alg": "ECDH-ES"},
        {"alg": None},
        {"x": base64url(bytes(31))},
        {"x": base64url(bytes(33))},
        {"y": X + "="},
        {"y": 1},
    ],
)
def test_another_ec_key_is_refused(change):
    with pytest.raises(Malformed):
        tee_public_key(EC | change)


@pytest.mark.parametrize(
    "change",
    [{"alg": "RSA1_5"}, {"alg": "RSA-OAEP"}, {"n": base64url(bytes(128))}, {"n": base64url(bytes(513))}, {"e": ""}],
)
def test_another_rsa_key_is_refused(change):
    with pytest.raises(Malformed):
        tee_public_key(RSA | change)


# Trustee's own cases: kbs/src/plugins/implementations/resource/backend.rs, parse_resource_desc.
@pytest.mark.parametrize(
    "segment", ["default", "1", "123--_default", "___-afds44BC", "1.ok", "2ok.", "3...", "a" * 128]
)
def test_a_segment(segment):
    assert is_segment(segment)


@pytest.mark.parametrize("segment", ["", ".", "..", ".1.ok", "a/b", "a b", "a%", "é", "a\n", "a\0", "a" * 129])
def test_no_segment(segment):
    assert not is_segment(segment)
