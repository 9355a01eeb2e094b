"""Reference values as a signed document: each alteration fails for its own reason."""

from __future__ import annotations

import base64
import json
from collections.abc import Callable
from dataclasses import replace
from typing import Any

import pytest

from deploy.publish import references
from deploy.publish.cosign_key import SigningKey
from deploy.publish.references import References, sign, verify
from orchestrator.faults import Code, Permanent
from workers.enclave.image.signature import PublicKey

OURS, STRANGER = SigningKey.generate(), SigningKey.generate()
VALUES = References(
    payload=f"sha256:{'aa' * 32}",
    version="0.1.0",
    issued="2026-11-24T04:30:00Z",
    inputs=f"sha256:{'bb' * 32}",
    measurements={"sim": {"agent": "cc" * 32, "boot": "dd" * 32}, "gramine": {"agent": "ee" * 32}},
)


def refused(raw: bytes, key: PublicKey | None = None) -> Code:
    with pytest.raises(Permanent) as fault:
        verify(raw, key or OURS.public())
    return fault.value.code


def test_what_was_signed_is_what_is_read() -> None:
    assert verify(sign(VALUES, OURS), OURS.public()) == VALUES
    assert VALUES.of("agent") == ("cc" * 32, "ee" * 32)
    assert VALUES.of("boot") == ("dd" * 32,)


def test_what_is_signed_is_dsses_own_encoding() -> None:
    """The example of DSSE's protocol.md."""
    encoded = references._signed("http://example.com/HelloWorld", b"hello world")
    assert encoded == b"DSSEv1 29 http://example.com/HelloWorld 11 hello world"


def test_another_owners_key_is_told_from_an_alteration() -> None:
    assert refused(sign(VALUES, STRANGER)) is Code.REFERENCES_KEY
    assert refused(sign(VALUES, OURS), STRANGER.public()) is Code.REFERENCES_KEY


@pytest.mark.parametrize(
    "change",
    [
        lambda statement: statement["predicate"]["measurements"]["sim"].update(agent="00" * 32),
        lambda statement: statement["predicate"].update(issued="2026-11-25T00:00:00Z"),
        lambda statement: statement["subject"][0]["digest"].update(sha256="00" * 32),
        lambda statement: statement.clear(),
    ],
    ids=["measurement", "time", "payload", "everything"],
)
def test_an_altered_statement_is_refused(change: Callable[[Any], object]) -> None:
    envelope = json.loads(sign(VALUES, OURS))
    statement = json.loads(base64.b64decode(envelope["payload"]))
    change(statement)
    envelope["payload"] = base64.b64encode(json.dumps(statement).encode()).decode()
    assert refused(json.dumps(envelope).encode()) is Code.REFERENCES_ALTERED


def test_a_good_signature_beside_a_strangers_is_enough() -> None:
    envelope, other = json.loads(sign(VALUES, OURS)), json.loads(sign(VALUES, STRANGER))
    envelope["signatures"] = other["signatures"] + envelope["signatures"]
    del envelope["signatures"][1]["keyid"]
    assert verify(json.dumps(envelope).encode(), OURS.public()) == VALUES


@pytest.mark.parametrize(
    "change",
    [
        {"measurements": {}},
        {"measurements": {"sim": {"boot": "dd" * 32}}},
        {"measurements": {"sim": {"agent": "CC" * 32}}},
        {"measurements": {"sim": {"agent": "cc" * 31}}},
        {"issued": "yesterday"},
        {"issued": "2026-11-24T04:30:00+01:00"},
        {"payload": "sha512:00"},
        {"inputs": ""},
        {"version": "1 2"},
    ],
    ids=lambda change: "-".join(f"{value}"[:24] for value in change.items()).replace(" ", ""),
)
def test_what_is_signed_and_yet_no_reference_value_is_refused(change: dict[str, Any]) -> None:
    assert refused(sign(replace(VALUES, **change), OURS)) is Code.REFERENCES_FORMAT


def another(**members: object) -> bytes:
    return json.dumps({**json.loads(sign(VALUES, OURS)), **members}).encode()


@pytest.mark.parametrize(
    "raw",
    [
        b"",
        b"[]",
        b"-----BEGIN PUBLIC KEY-----",
        b" " * (references.LONGEST + 1),
        another(more=1),
        another(payloadType="application/json"),
        another(payload="not base64"),
        another(signatures=[]),
        another(signatures=[{"sig": "AA==", "cert": ""}]),
        another(signatures=[{"sig": "AA=="}] * 9),
        another(signatures={}),
        another(signatures=["AA=="]),
    ],
    ids=["empty", "array", "key", "long", "member", "type", "payload", "none", "cert", "many", "object", "text"],
)
def test_what_is_no_envelope_is_refused(raw: bytes) -> None:
    assert refused(raw) is Code.REFERENCES_FORMAT


def test_a_later_version_of_the_statement_is_not_guessed_at() -> None:
    kind = "application/vnd.in-toto+json"
    body = base64.b64decode(json.loads(sign(VALUES, OURS))["payload"]).replace(b"values:v1", b"values:v2")
    signature = base64.b64encode(OURS.sign(references._signed(kind, body))).decode()
    assert refused(another(payload=base64.b64encode(body).decode(), signatures=[{"sig": signature}])) is (
        Code.REFERENCES_FORMAT
    )
