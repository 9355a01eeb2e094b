"""Whatever comes, the broker answers with a refusal: never with a failure of its own."""

from __future__ import annotations

import base64
import json
import time

import pytest
from cryptography.hazmat.primitives.serialization import Encoding
from cryptography.x509 import load_pem_x509_certificates
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from deploy.kbs.anchors import simulated
from deploy.kbs.api import Call
from deploy.kbs.quote import Quote
from deploy.kbs.refused import EvidenceRefused
from deploy.kbs.verifier import SgxVerifier
from tests.simulators.broker import Enclave

JSON = st.recursive(
    st.none() | st.booleans() | st.integers() | st.floats() | st.text(),
    lambda inner: st.lists(inner, max_size=3) | st.dictionaries(st.text(), inner, max_size=3),
    max_leaves=6,
)
FEW = settings(max_examples=60, deadline=None, suppress_health_check=[HealthCheck.function_scoped_fixture])


def refused(answer):
    assert 400 <= answer.status < 500
    assert answer.content_type is None
    assert set(json.loads(answer.body)) == {"type", "detail"}


@FEW
@given(
    method=st.sampled_from(["GET", "POST", "PUT", "DELETE", "BREW"]),
    path=st.text() | st.sampled_from(["auth", "attest", "resource/a/b/c", "resource-policy", "reference-value/x"]),
    query=st.text(),
    body=st.binary() | JSON.map(lambda value: json.dumps(value).encode()),
    session=st.none() | st.text(),
    authorization=st.none() | st.text() | st.text().map("Bearer {}".format),
)
def test_any_call(caller, method, path, query, body, session, authorization):
    refused(caller.api.answer(Call(method, f"/kbs/v0/{path}", query, body, session, authorization)))


@FEW
@given(
    where=st.sampled_from(
        [
            ("runtime-data",),
            ("runtime-data", "nonce"),
            ("runtime-data", "tee-pubkey"),
            ("runtime-data", "tee-pubkey", "x"),
            ("runtime-data", "tee-pubkey", "crv"),
            ("tee-evidence",),
            ("tee-evidence", "primary_evidence"),
            ("tee-evidence", "primary_evidence", "quote"),
            ("tee-evidence", "additional_evidence"),
            ("init-data",),
            ("init-data", "body"),
        ]
    ),
    what=JSON.filter(lambda value: value is not None),
)
def test_a_good_attestation_with_one_member_replaced(caller, pki, where, what):
    nonce, session = caller.challenge()
    body = caller.evidence(Enclave(pki), nonce, "x")
    inner = body
    for name in where[:-1]:
        inner = inner[name]
    if what == "" and where[-1] == "additional_evidence":
        return
    inner[where[-1]] = what
    refused(caller.send("POST", "attest", json.dumps(body).encode(), session=session))


@FEW
@given(path=st.sampled_from(["attestation-policy", "resource-policy", "reference-value"]), value=JSON)
def test_any_message_of_the_owner(caller, path, value):
    for name in ("payload", "policy"):
        encoded = base64.b64encode(json.dumps(value).encode()).decode()
        body = {"version": "0.1.0", "type": "sample", "policy_id": "default_cpu", name: encoded}
        answer = caller.owner("POST", path, json.dumps(body).encode())
        assert answer.status in {200, 401}


@FEW
@given(st.binary(max_size=2000) | st.binary(max_size=2000).map(lambda tail: bytes.fromhex("0300020000000000") + tail))
def test_any_bytes_as_a_quote(raw):
    with pytest.raises(EvidenceRefused):
        Quote.parse(raw)


@FEW
@given(data=st.data())
def test_a_quote_with_any_part_replaced(caller, pki, data):
    nonce, session = caller.challenge()
    body = caller.evidence(Enclave(pki), nonce)
    quote = bytearray(base64.b64decode(body["tee-evidence"]["primary_evidence"]["quote"]))
    at = data.draw(st.integers(0, len(quote) - 1))
    part = data.draw(st.binary(min_size=1, max_size=64))
    before = bytes(quote)
    quote[at : at + len(part)] = part
    if bytes(quote) == before:
        return
    body["tee-evidence"]["primary_evidence"]["quote"] = base64.b64encode(quote).decode()
    answer = caller.send("POST", "attest", json.dumps(body).encode(), session=session)
    # White space between and after the certificates' PEM is covered by no signature.
    if answer.status != 200:
        refused(answer)
    else:
        assert at > 1012


@pytest.mark.filterwarnings("ignore::cryptography.utils.CryptographyDeprecationWarning")
def test_any_flipped_bit_of_a_platforms_certificates_is_refused(pki, tmp_path):
    pki.store(tmp_path)
    verifier = SgxVerifier((simulated("test", tmp_path / "root.der", tmp_path / "collateral.json"),))
    quote, now = Enclave(pki).quote(bytes(64)), int(time.time())
    at = quote.index(b"-----BEGIN")
    chain = [certificate.public_bytes(Encoding.DER) for certificate in load_pem_x509_certificates(quote[at:])]
    verifier.verify(with_chain(quote[:at], chain), bytes(48), None, now)
    for index in (0, 1):
        for bit in range(0, len(chain[index]) * 8, 5):
            altered, raw = list(chain), bytearray(chain[index])
            raw[bit // 8] ^= 1 << bit % 8
            altered[index] = bytes(raw)
            with pytest.raises(EvidenceRefused):
                verifier.verify(with_chain(quote[:at], altered), bytes(48), None, now)


def with_chain(head, chain):
    """The quote with another chain: the lengths that tell of it are not signed."""
    pem = b"".join(
        b"-----BEGIN CERTIFICATE-----\n" + base64.encodebytes(der) + b"-----END CERTIFICATE-----\n" for der in chain
    )
    whole = head[:-4] + len(pem).to_bytes(4, "little") + pem
    return whole[:432] + (len(whole) - 436).to_bytes(4, "little") + whole[436:]
