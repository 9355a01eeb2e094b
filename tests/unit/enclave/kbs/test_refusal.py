"""What a broker says becomes the one right fault, whether it is ours or Trustee."""

from __future__ import annotations

import json

import pytest
from hypothesis import given
from hypothesis import strategies as st

from orchestrator.faults import Code, Permanent, Temporary
from schemas.strict_json import Malformed
from workers.enclave.kbs import Claims, ResourceUri, TrustVector
from workers.enclave.kbs.appraisal import require_affirming
from workers.enclave.kbs.channel import Reply, Unreachable
from workers.enclave.kbs.refusal import Refusal

PREFIX = "https://github.com/confidential-containers/kbs/errors/"
URI = ResourceUri("a", "b", "c")
FAILED = "Attestation error: RCAR handshake Attest failed"


def refusal(variant, detail, status=401):
    return Refusal.read(Reply(status, json.dumps({"type": PREFIX + variant, "detail": detail}).encode(), None))


@pytest.mark.parametrize(
    ("detail", "kind", "code"),
    [
        ("KBS Client Protocol Version Mismatch: expect =0.4.0", Permanent, Code.ATTEST_PROTOCOL),
        (f"{FAILED}: [nonce] x", Permanent, Code.ATTEST_NONCE),
        (f"{FAILED}: [debug] x", Permanent, Code.ATTEST_DEBUG),
        (f"{FAILED}: [quote] x", Permanent, Code.ATTEST_QUOTE),
        (f"{FAILED}: [report-data] x", Permanent, Code.ATTEST_QUOTE),
        (f"{FAILED}: [init-data] x", Permanent, Code.AGENT_INIT_DATA),
        (f"{FAILED}: [session] x", Temporary, Code.ATTEST_KBS_AWAY),
        (f"{FAILED}: [policy] x", Permanent, Code.ATTEST_QUOTE),
        (f"{FAILED}: [something-new] x", Permanent, Code.ATTEST_QUOTE),
        (FAILED, Permanent, Code.ATTEST_QUOTE),
    ],
)
def test_a_refused_handshake(detail, kind, code):
    fault = refusal("AttestationError", detail).at_attestation()
    assert (type(fault), fault.code) == (kind, code)
    assert detail in fault.diagnosis.got
    assert fault.diagnosis.expected not in {"", "a token"}, "what to hold against what was got"


@pytest.mark.parametrize(
    ("variant", "code"),
    [
        ("PolicyDeny", Code.KEY_DENIED),
        ("PluginInternalError", Code.KEY_UNKNOWN),
        ("TokenVerifierError", Code.KEY_DENIED),
        ("JweError", Code.KEY_DENIED),
    ],
)
def test_a_refused_resource(variant, code):
    fault = refusal(variant, "x").at_resource(URI)
    assert (type(fault), fault.code) == (Permanent, code)
    assert str(URI) in str(fault)


@pytest.mark.parametrize("variant", ["TokenNotFound", "TokenVerifierError"])
def test_a_refused_token_is_worth_a_handshake(variant):
    assert refusal(variant, "x").of_the_token
    assert not refusal("PolicyDeny", "x").of_the_token


@pytest.mark.parametrize("status", [429, 500, 502, 503, 504])
def test_a_broker_that_cannot_answer_is_unreachable(status):
    with pytest.raises(Unreachable, match=str(status)):
        Refusal.read(Reply(status, b"", None))


@pytest.mark.parametrize("body", [b"", b"[]", b"{}", b'{"type": "x", "detail": "y"}', b'{"type": 1, "detail": "y"}'])
def test_what_is_no_refusal_is_malformed(body):
    with pytest.raises(Malformed, match="404"):
        Refusal.read(Reply(404, body, None))


@given(variant=st.text(), detail=st.text())
def test_a_brokers_words_are_bounded_and_printable(variant, detail):
    try:
        read = refusal(variant, detail)
    except Malformed:
        return
    for fault in (read.at_attestation(), read.at_resource(URI)):
        assert fault.diagnosis.got.isprintable()
        assert len(fault.diagnosis.got) <= 1024


def claims(**changes):
    vector = {"executables": 3, "configuration": 2, "hardware": 2} | changes.pop("vector", {})
    whole = {
        "status": "warning",
        "tcb_status": "OutOfDate",
        "measurement": "ab" * 32,
        "simulated": False,
        "debug": False,
        "config_id": "cd" * 64,
        "vector": TrustVector(**vector),
        "expires_at": 0,
    }
    return Claims(**(whole | changes))


@pytest.mark.parametrize(
    ("subject", "code", "got"),
    [
        (claims(vector={"executables": 33}), Code.ATTEST_NOT_LISTED, "ab" * 32),
        (claims(vector={"executables": 33, "hardware": 97}), Code.ATTEST_NOT_LISTED, "ab" * 32),
        (claims(vector={"executables": 0, "configuration": 0, "hardware": 0}), Code.ATTEST_NOT_LISTED, "ab" * 32),
        (claims(vector={"configuration": 36}), Code.AGENT_INIT_DATA, "cd" * 64),
        (claims(vector={"configuration": 36}, debug=True), Code.ATTEST_DEBUG, "DEBUG set"),
        (claims(vector={"hardware": 97}), Code.ATTEST_TCB, "Intel hardware, TCB status OutOfDate"),
        (claims(vector={"hardware": 97}, simulated=True), Code.ATTEST_TCB, "SIMULATED hardware, TCB status OutOfDate"),
        (claims(vector={"file_system": 96}), Code.ATTEST_NOT_LISTED, "file-system 96"),
    ],
)
def test_what_is_not_affirmed_has_its_reason(subject, code, got):
    with pytest.raises(Permanent) as fault:
        require_affirming(subject)
    assert fault.value.code == code
    assert got in fault.value.diagnosis.got


def test_what_is_affirmed_passes():
    require_affirming(claims(status="affirming"))
