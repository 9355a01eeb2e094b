"""The packets between host worker and boot init: what goes in comes out, and nothing else is taken."""

from __future__ import annotations

import json
from contextlib import suppress

import pytest
from hypothesis import given
from hypothesis import strategies as st

from schemas.execs import (
    MAX_PACKET,
    Done,
    Forget,
    Refused,
    Request,
    Resize,
    Signal,
    Start,
    Wait,
    decode_reply,
    decode_request,
    encode_reply,
    encode_request,
)
from schemas.strict_json import Malformed

words = st.text(st.characters(exclude_categories=["Cs"]), max_size=20)
requests = st.one_of(
    st.builds(Start, words, words, st.lists(words, max_size=5).map(tuple), st.booleans()),
    st.builds(Wait, words, words),
    st.builds(Forget, words, words),
    st.builds(Signal, words, words, st.integers(0, 64)),
    st.builds(Resize, words, words, st.integers(0, 65535), st.integers(0, 65535)),
)
replies = st.builds(Done, *[st.integers(0, 2**63 - 1)] * 3) | st.builds(Refused, *[words] * 5)


@given(requests)
def test_a_request_comes_back_as_it_went(request: Request) -> None:
    assert decode_request(encode_request(request)) == request


@given(replies)
def test_a_reply_comes_back_as_it_went(reply: Done | Refused) -> None:
    assert decode_reply(encode_reply(reply)) == reply


@given(st.binary(max_size=200))
def test_any_bytes_are_a_request_or_malformed(packet: bytes) -> None:
    for decode in (decode_request, decode_reply):
        with suppress(Malformed):
            decode(packet)


@pytest.mark.parametrize(
    "members",
    [
        {},
        {"ask": "run"},
        {"ask": "wait", "container": "c"},
        {"ask": "wait", "container": "c", "exec": "e", "more": 1},
        {"ask": "start", "container": "c", "exec": "e", "args": ["x"], "terminal": 1},
        {"ask": "start", "container": "c", "exec": "e", "args": "x", "terminal": True},
        {"ask": "signal", "container": "c", "exec": "e", "number": 65},
        {"ask": "signal", "container": "c", "exec": "e", "number": -1},
        {"ask": "signal", "container": "c", "exec": "e", "number": True},
        {"ask": "resize", "container": "c", "exec": "e", "rows": 65536, "columns": 1},
        {"ask": "start", "container": "c", "exec": "e", "args": ["x"], "terminal": True, "user": 0},
    ],
)
def test_what_the_table_does_not_have_is_malformed(members: dict[str, object]) -> None:
    with pytest.raises(Malformed):
        decode_request(json.dumps(members).encode())


def test_a_packet_has_its_bound() -> None:
    with pytest.raises(Malformed):
        encode_request(Start("c", "e", ("x" * MAX_PACKET,), False))
    assert len(encode_reply(Refused("c", "m" * 10**6, "e" * 10**6, "g" * 10**6, "a" * 10**6))) < MAX_PACKET
