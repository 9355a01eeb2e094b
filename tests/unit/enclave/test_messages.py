"""What agent and boot init say to each other: understood, or the end of the conversation."""

from __future__ import annotations

import json

import pytest
from hypothesis import given
from hypothesis import strategies as st

from orchestrator.faults import Code, Permanent, Temporary
from workers.enclave import messages

VALUES = st.recursive(
    st.none() | st.booleans() | st.integers() | st.floats(allow_nan=False, allow_infinity=False) | st.text(),
    lambda of: st.lists(of, max_size=3) | st.dictionaries(st.text(max_size=8), of, max_size=3),
    max_leaves=6,
)


@given(st.dictionaries(st.text(min_size=1, max_size=8).filter(lambda n: n not in ("type", "type_")), VALUES))
def test_a_message_is_understood_as_it_was_said(members: dict[str, object]) -> None:
    try:
        raw = messages.pack("config", **members)
        expected = json.loads(raw)
    except (ValueError, UnicodeEncodeError):
        return
    try:
        assert messages.unpack(raw, "hello", "config") == expected
    except Permanent:
        assert "\\ud" in raw.decode(), "half a character cannot be said"


@pytest.mark.parametrize(
    "raw",
    [
        *(b"", b"{", b"[]", b"null", b"7", b'"type"', b"{}", b'{"type": 7}', b'{"type": ["hello"]}', b"\xff"),
        *(b'{"type": "hello", "type": "config"}', b'{"type": "hello", "a": NaN}', b"[" * 100_000, b'{"a":' * 50_000),
        b'{"type": "boot"}',
        b'{"type": "' + b"x" * 100_000 + b'"}',
    ],
)
def test_anything_else_ends_the_conversation_and_is_not_quoted_at_length(raw: bytes) -> None:
    with pytest.raises(Permanent) as raised:
        messages.unpack(raw, "hello", "config")
    assert raised.value.code is Code.CONFIG_LOCAL_ATTESTATION
    assert raised.value.diagnosis.expected == "hello or config"
    assert len(raised.value.diagnosis.got) <= 100


@given(st.binary() | VALUES.map(lambda value: json.dumps(value).encode()))
def test_any_bytes_are_a_message_or_a_fault(raw: bytes) -> None:
    with pytest.raises(Permanent):
        messages.unpack(raw, "no such type")


@pytest.mark.parametrize("type_", ["failed", "refused"])
@pytest.mark.parametrize("kind", [Permanent, Temporary])
def test_a_fault_of_the_other_end_arrives_whole(type_: str, kind: type[Permanent]) -> None:
    fault = kind(Code.BOOT_STORE, "altered", expected="a good unit", got="unit 7", advice="look at the disk")
    with pytest.raises(Permanent) as raised:
        messages.unpack(messages.pack(type_, **messages.told(fault)), "booted")
    assert raised.value.diagnostics() == fault.diagnostics()


@pytest.mark.parametrize("members", [{}, {"code": "E-NEW-001"}, {"code": 7}, {"code": None, "message": []}])
def test_a_fault_of_a_later_version_is_told_as_one_of_the_inside(members: dict[str, object]) -> None:
    with pytest.raises(Permanent) as raised:
        messages.unpack(messages.pack("failed", **members), "booted")
    assert raised.value.code is Code.INTERNAL


def test_an_expected_type_wins_over_its_meaning() -> None:
    assert messages.unpack(b'{"type": "failed"}', "failed") == {"type": "failed"}


def test_a_member_that_is_missing_or_wrong_is_a_fault_that_does_not_quote_it() -> None:
    for read in (lambda: {}["secret"], lambda: int("a secret"), lambda: bytes.fromhex("a secret"), lambda: len(7)):
        with pytest.raises(Permanent) as raised, messages.understood("config"):
            read()
        assert raised.value.code is Code.CONFIG_LOCAL_ATTESTATION
        assert "secret" not in raised.value.diagnostics()
