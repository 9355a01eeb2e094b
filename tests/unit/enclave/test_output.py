"""Sealing what a workload writes: the key for its readers, and a pipe's bytes as records."""

from __future__ import annotations

import json
import os
import threading
from collections.abc import Iterator
from contextlib import closing

import pytest
from jwcrypto import jwe, jwk

from orchestrator.faults import Code, Permanent
from orchestrator.output.recipient import RecipientKey
from schemas.sealed_output import MOST_TEXT, Head, Kind, Record, StreamKey, StreamWriter
from tests.waiting import eventually
from workers.enclave.boot.output import OutputSeal, SealedStream, pieces
from workers.enclave.output import seal_for

LONGEST_LOG_LINE = 16 * 1024
"""containerd's default: a longer one is split."""


@pytest.fixture
def keys() -> list[RecipientKey]:
    return [RecipientKey.generate("X25519"), RecipientKey.generate("P-256")]


@pytest.fixture
def seal(keys: list[RecipientKey]) -> OutputSeal:
    made = seal_for([key.public for key in keys], "p", "c", 2, terminal=False)
    assert made is not None
    return made


def test_a_stranger_to_this_code_opens_the_key_with_either_readers_private_key(
    keys: list[RecipientKey], seal: OutputSeal
) -> None:
    head = Head.decode(seal.head)
    assert (head.pod, head.container, head.attempt, head.streams) == ("p", "c", 2, ("stdout", "stderr"))
    for key in keys:
        private = jwk.JWK.from_json(key.write().decode())
        assert private.thumbprint() == key.public.thumbprint
        opened = jwe.JWE(algs=["ECDH-ES+A256KW", "A256GCM"])
        opened.deserialize(head.wrapped, private)
        assert opened.payload == seal.key == key.unwrap(head)


def test_another_key_opens_nothing_and_its_bytes_are_told_to_nobody(seal: OutputSeal) -> None:
    with pytest.raises(Permanent) as refused:
        RecipientKey.generate().unwrap(Head.decode(seal.head))
    assert refused.value.code is Code.OUTPUT_KEY
    assert refused.value.__cause__ is None
    assert "key=" not in repr(seal)


def test_each_container_has_a_key_of_its_own_and_one_that_is_sealed_for_nobody_has_none(
    keys: list[RecipientKey], seal: OutputSeal
) -> None:
    public = [key.public for key in keys]
    assert seal_for(public, "p", "c", 2, terminal=False).key != seal.key  # type: ignore[union-attr]  # it is sealed
    assert seal_for([], "p", "c", 2, terminal=False) is None
    assert OutputSeal.decode(json.loads(json.dumps(seal.encode()))) == seal


def test_no_line_is_longer_than_containerd_writes_into_one(keys: list[RecipientKey], seal: OutputSeal) -> None:
    many = seal_for([RecipientKey.generate("P-256").public for _ in range(16)], "p" * 64, "c" * 64, 1, terminal=False)
    assert many is not None
    for each in (seal, many):
        writer = StreamWriter(each.key, each.head, "stderr")
        written = b"".join(writer.text(os.urandom(MOST_TEXT)) for _ in range(200)) + writer.end()
        lines = written.decode().splitlines()
        assert max(map(len, lines)) < LONGEST_LOG_LINE
        records = [Record.parse(line) for line in lines]
        assert [r.number for r in records if r.kind is not Kind.HEAD] == list(range(201))
        assert sum(r.kind is Kind.HEAD for r in records) == 3, "it comes again: a log's beginning may be rotated away"


@pytest.fixture
def pipe() -> Iterator[tuple[int, int]]:
    reading, writing = os.pipe()
    yield reading, writing
    os.close(reading)


def test_a_piece_ends_with_a_line_where_one_ends_and_the_last_one_wherever(pipe: tuple[int, int]) -> None:
    reading, writing = pipe
    os.write(writing, b"one\ntwo\nhal")
    os.close(writing)
    assert list(pieces(reading)) == [b"one\ntwo\n", b"hal"]


def test_every_byte_of_a_long_stream_is_in_a_piece_and_none_is_too_long(pipe: tuple[int, int]) -> None:
    reading, writing = pipe
    sent = os.urandom(1 << 20)
    with closing(os.fdopen(writing, "wb")) as target:
        sending = threading.Thread(target=lambda: (target.write(sent), target.close()))
        sending.start()
        found = list(pieces(reading))
        sending.join()
    assert b"".join(found) == sent
    assert max(map(len, found)) <= MOST_TEXT


def test_a_prompt_is_sealed_without_waiting_for_its_line_even_if_more_keeps_coming(pipe: tuple[int, int]) -> None:
    reading, writing = pipe
    came: list[bytes] = []
    collecting = threading.Thread(target=lambda: came.extend(pieces(reading)))
    reader = pieces(reading)
    os.write(writing, b"> ")
    assert next(reader) == b"> "
    collecting.start()
    eventually(lambda: came or not os.write(writing, b"."))  # and never the end of a line
    os.close(writing)
    collecting.join()
    assert set(b"".join(came)) == set(b".")


def test_a_stream_ends_with_a_record_that_says_so_when_its_last_writer_is_gone(
    pipe: tuple[int, int], seal: OutputSeal
) -> None:
    host, out = pipe
    reading, writing = os.pipe()
    stream = SealedStream(seal.begin("stdout"), reading, out)
    key = StreamKey(seal.key, seal.head, "stdout")
    os.write(writing, b"last words")
    os.close(writing)
    stream.drain(20)
    os.close(out)
    records = [Record.parse(line) for line in eventually(lambda: os.read(host, 1 << 16)).decode().splitlines()]
    assert [(record.kind, key.open(record)) for record in records[1:]] == [
        (Kind.TEXT, b"last words"),
        (Kind.END, b""),
    ]
    assert records[0].content == seal.head
