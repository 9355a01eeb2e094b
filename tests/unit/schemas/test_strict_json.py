"""JSON from a stranger: read strictly or not at all."""

from __future__ import annotations

import base64
import contextlib
import json

import pytest
from hypothesis import given
from hypothesis import strategies as st

from schemas.strict_json import (
    Malformed,
    base64_bytes,
    base64url,
    base64url_bytes,
    integer,
    nested,
    only,
    parse_object,
    strings,
    text,
)


@pytest.mark.parametrize(
    "document",
    [
        b"",
        b"[]",
        b"1",
        b'"x"',
        b"null",
        b"{",
        b"{}x",
        b'{"a": 1, "a": 2}',
        b'{"a": {"b": 1, "b": 1}}',
        b'{"a": NaN}',
        b'{"a": Infinity}',
        b'{"a": 1e999}',
        b'{"a": "\\ud800"}',
        b'{"\\udfff": 1}',
        b'{"a": "\xff"}',
        b"\xef\xbb\xbf{}",
        b'{"a":' * 5000 + b"1" + b"}" * 5000,
        b'{"a": ' + b"9" * 5000 + b"}",
    ],
)
def test_what_is_no_plain_object_is_refused(document):
    with pytest.raises(Malformed):
        parse_object(document)


def test_a_pair_of_surrogates_is_one_character():
    assert parse_object(b'{"a": "\\ud83d\\ude00"}') == {"a": "\U0001f600"}


@given(st.binary() | st.text())
def test_anything_is_an_object_or_refused(document):
    with contextlib.suppress(Malformed):
        assert isinstance(parse_object(document), dict)


@given(st.dictionaries(st.text(), st.integers() | st.text() | st.booleans() | st.none()))
def test_what_is_an_object_is_read_as_it_is(members):
    assert parse_object(json.dumps(members)) == members


MEMBERS = parse_object('{"s": "x", "i": 1, "b": true, "f": 1.0, "o": {}, "l": ["a"], "m": ["a", 1], "n": null}')


@pytest.mark.parametrize(
    ("take", "fitting", "value"),
    [(text, "s", "x"), (integer, "i", 1), (nested, "o", {}), (strings, "l", ("a",))],
)
def test_a_member_is_taken_by_its_type_alone(take, fitting, value):
    assert take(MEMBERS, fitting) == value
    for name in (*MEMBERS.keys() - {fitting}, "absent"):
        with pytest.raises(Malformed, match=name):
            take(MEMBERS, name)


def test_unknown_members_are_refused_where_a_format_is_closed():
    only({"a": 1}, "a", "b")
    with pytest.raises(Malformed, match="unknown member 'c'"):
        only({"a": 1, "c": 1}, "a", "b")


@given(st.binary())
def test_bytes_come_back_from_both_alphabets(raw):
    assert base64_bytes(base64.b64encode(raw).decode(), "x", size=len(raw)) == raw
    assert base64url_bytes(base64url(raw), "x", size=len(raw)) == raw


@pytest.mark.parametrize("encoded", ["e30", "e31=", "e30==", " e30=", "e30=\n", "e3=0", "-_-_", "é", "=", "e30=e30="])
def test_base64_has_one_form(encoded):
    with pytest.raises(Malformed):
        base64_bytes(encoded, "x")


@pytest.mark.parametrize("encoded", ["e30=", "e31", "e", "+/+/", " e30", "e30\n", "é", "="])
def test_base64url_has_one_form_without_padding(encoded):
    with pytest.raises(Malformed):
        base64url_bytes(encoded, "x")


def test_a_length_is_checked_and_told_without_the_value():
    with pytest.raises(Malformed, match="x: 3 bytes are expected, 2 came"):
        base64_bytes("e30=", "x", size=3)


def test_a_malformed_value_is_never_quoted():
    for broken in ('{"secret": "hunter2", "secret": "hunter2"}', '{"secret": hunter2}'):
        with pytest.raises(Malformed) as malformed:
            parse_object(broken)
        assert "hunter2" not in str(malformed.value)
