"""Whatever is done to a sealed log, what is opened is a part of what was written, and any loss is told."""

from __future__ import annotations

import hashlib
from collections.abc import Sequence

import pytest
from hypothesis import assume, given
from hypothesis import strategies as st

from orchestrator.faults import Code
from orchestrator.output.lines import LogLine
from orchestrator.output.opening import Finding, Opening, Text
from orchestrator.output.recipient import RecipientKey
from schemas.sealed_output import STREAMS, Record, StreamWriter
from workers.enclave.boot.output import OutputSeal
from workers.enclave.output import seal_for

KEY = RecipientKey.generate("P-256")
Line = tuple[str, bytes]


def sealed(container: str) -> OutputSeal:
    seal = seal_for([KEY.public], "p", container, 1, terminal=False)
    assert seal is not None
    return seal


MINE, OTHER = sealed("mine"), sealed("other")
texts = st.lists(st.tuples(st.sampled_from(STREAMS), st.binary(min_size=1, max_size=40)), max_size=12)


def log(seal: OutputSeal, written: Sequence[Line]) -> list[LogLine]:
    """As containerd writes it down: the streams in one file."""
    writers = {stream: StreamWriter(seal.key, seal.head, stream) for stream in STREAMS}
    raws = [(stream, writers[stream].text(text)) for stream, text in written]
    raws += [(stream, writer.end()) for stream, writer in writers.items()]
    return [LogLine("", stream, line) for stream, raw in raws for line in raw.splitlines()]


def opened(lines: Sequence[LogLine]) -> tuple[dict[str, bytes], list[Code]]:
    opening = Opening(KEY, hashlib.sha256(MINE.head).hexdigest())
    told = [each for line in lines for each in opening.feed(line)] + list(opening.finish())
    found = [each.diagnosis.code for each in told if isinstance(each, Finding)]
    assert opening.ended == (Code.OUTPUT_CUT not in found)
    texts = [each for each in told if isinstance(each, Text)]
    return {stream: b"".join(t.written for t in texts if t.stream == stream) for stream in STREAMS}, found


def whole(written: Sequence[Line]) -> dict[str, bytes]:
    return {stream: b"".join(text for of, text in written if of == stream) for stream in STREAMS}


@given(texts)
def test_what_was_written_is_read(written):
    assert opened(log(MINE, written)) == (whole(written), [])


@given(texts, st.data())
def test_the_streams_may_be_mixed_as_the_host_likes(written, data):
    lines = log(MINE, written)
    order = data.draw(st.permutations([line.stream for line in lines]))
    by_stream = {stream: iter([line for line in lines if line.stream == stream]) for stream in STREAMS}
    assert opened([next(by_stream[stream]) for stream in order]) == (whole(written), [])


@given(texts, st.data())
def test_any_part_that_is_lost_is_told(written, data):
    lines = log(MINE, written)
    lost = data.draw(st.sets(st.integers(0, len(lines) - 1), min_size=1))
    # Heads repeat one another: one is enough for both streams.
    assume(any(b".head." not in lines[place].content for place in lost))
    _, found = opened([line for place, line in enumerate(lines) if place not in lost])
    assert found
    assert set(found) <= {Code.OUTPUT_GAP, Code.OUTPUT_CUT}


@given(texts, st.data())
def test_a_record_that_comes_again_or_elsewhere_is_told_and_not_read_again(written, data):
    lines = log(MINE, written)
    record = data.draw(st.sampled_from([line for line in lines if b".head." not in line.content]))
    place = data.draw(st.integers(lines.index(record) + 1, len(lines)))
    assert opened([*lines[:place], record, *lines[place:]]) == (whole(written), [Code.OUTPUT_REPEATED])
    moved = [line for line in lines if line is not record]
    other = data.draw(st.integers(0, len(moved)))
    again = [*moved[:other], record, *moved[other:]]
    in_order = [line for line in again if line.stream == record.stream and b".head." not in line.content]
    kept = [line for line in lines if line.stream == record.stream and b".head." not in line.content]
    assert bool(opened(again)[1]) == (in_order != kept)


@given(texts, st.data())
def test_an_altered_record_is_told_and_nothing_of_it_is_read(written, data):
    lines = log(MINE, written)
    place = data.draw(st.integers(0, len(lines) - 1))
    content = bytearray(lines[place].content)
    at = data.draw(st.integers(0, len(content) - 1))
    content[at] ^= data.draw(st.integers(1, 255))
    read, found = opened([*lines[:place], LogLine("", lines[place].stream, bytes(content)), *lines[place + 1 :]])
    assert found
    assert all(is_part(read[stream], whole(written)[stream]) for stream in STREAMS)


@given(texts, texts, st.data())
def test_another_containers_output_is_never_taken_for_this_ones(written, others, data):
    lines, foreign = log(MINE, written), log(OTHER, others)
    place = data.draw(st.integers(0, len(lines)))
    read, found = opened([*lines[:place], *foreign, *lines[place:]])
    assert read == whole(written)
    assert set(found) == {Code.OUTPUT_FORGED}


@given(texts)
def test_a_stream_is_never_taken_for_the_other(written):
    lines = log(MINE, [*written, ("stdout", b"x")])
    assume(any(line.stream == "stdout" for line in lines))
    swapped = []
    for line in lines:
        record = Record.parse(line.content.decode())
        other = STREAMS[1 - STREAMS.index(record.stream)]
        moved = Record(other, record.kind, record.number, record.content)
        swapped.append(LogLine("", other, moved.line().encode()))
    read, found = opened(swapped)
    assert read == dict.fromkeys(STREAMS, b"")
    assert Code.OUTPUT_FORGED in found


@pytest.mark.parametrize("early", [True, False])
def test_a_stream_that_the_container_does_not_have_is_told(early):
    seal = seal_for([KEY.public], "p", "mine", 1, terminal=True)
    assert seal is not None
    writer = StreamWriter(seal.key, seal.head, "stdout")
    lines = [LogLine("", "stdout", raw) for raw in (writer.text(b"x") + writer.end()).splitlines()]
    # Under the right key, even: an enclave that seals for a terminal has nothing to say there.
    foreign = LogLine("", "stderr", StreamWriter(seal.key, seal.head, "stderr").text(b"y").splitlines()[1])
    opening = Opening(KEY, hashlib.sha256(seal.head).hexdigest())
    told = [each for line in ([foreign, *lines] if early else [*lines, foreign]) for each in opening.feed(line)]
    assert [each.diagnosis.code for each in told if isinstance(each, Finding)] == [Code.OUTPUT_FORGED]
    assert [each.written for each in told if isinstance(each, Text)] == [b"x"]
    assert list(opening.finish()) == []


@given(st.lists(st.binary(max_size=60)))
def test_any_other_line_is_told_and_not_read(junk):
    assert opened([LogLine("", "stdout", line) for line in junk])[0] == dict.fromkeys(STREAMS, b"")


def is_part(read: bytes, written: bytes) -> bool:
    """Whether bytes were only left out."""
    rest = iter(written)
    return all(byte in rest for byte in read)
