from __future__ import annotations

import struct

import pytest
from hypothesis import given
from hypothesis import strategies as st

from workers.host.shim.ttrpc.frame import MAX_DATA, REQUEST, RESPONSE, Decoder, Frame, encode

FRAMES = st.lists(st.tuples(st.integers(0, 2**32 - 1), st.sampled_from((REQUEST, RESPONSE)), st.binary(max_size=300)))


@given(FRAMES, st.lists(st.integers(1, 40), min_size=1))
def test_frames_come_out_as_they_went_in_however_the_bytes_are_cut(
    frames: list[tuple[int, int, bytes]], cuts: list[int]
) -> None:
    wire = b"".join(encode(*frame) for frame in frames)
    decoder, found, turn = Decoder(), [], 0
    while wire:
        size = cuts[turn % len(cuts)]
        found += decoder.feed(wire[:size])
        wire, turn = wire[size:], turn + 1
    assert found == [Frame(stream, kind, 0, data) for stream, kind, data in frames]


def test_the_header_is_what_the_protocol_says() -> None:
    assert encode(0x01020304, REQUEST, b"xy") == bytes.fromhex("00000002 01020304 01 00") + b"xy"


def test_a_frame_over_four_mebibytes_is_skipped_and_told_and_the_next_one_is_read() -> None:
    decoder = Decoder()
    header = struct.pack(">IIBB", MAX_DATA + 5, 7, REQUEST, 0)
    found = list(decoder.feed(header))
    assert found == [Frame(7, REQUEST, 0, None)]
    for _ in range(MAX_DATA // 65536):
        assert list(decoder.feed(bytes(65536))) == []
        assert len(decoder._buffer) == 0
    assert list(decoder.feed(bytes(5) + encode(9, REQUEST, b"next"))) == [Frame(9, REQUEST, 0, b"next")]


def test_a_frame_of_exactly_four_mebibytes_passes() -> None:
    (frame,) = Decoder().feed(encode(1, REQUEST, bytes(MAX_DATA)))
    assert frame.data is not None
    assert len(frame.data) == MAX_DATA


def test_what_the_peer_would_refuse_is_not_sent() -> None:
    with pytest.raises(ValueError, match="do not fit"):
        encode(1, REQUEST, bytes(MAX_DATA + 1))
