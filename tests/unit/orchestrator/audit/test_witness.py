"""A witness cosigns what only grew, says so as tlog-witness asks, and keeps the proof of what did not."""

from __future__ import annotations

from http import HTTPStatus
from pathlib import Path

import pytest

from orchestrator.audit.checkpoint import Checkpoint
from orchestrator.audit.log import Log
from orchestrator.audit.merkle import EMPTY_ROOT
from orchestrator.audit.note import Note, SigningKey, parse_signatures
from orchestrator.audit.reader import LogReader
from orchestrator.audit.storage import Folder
from orchestrator.audit.witness import Request, Witness, origin_name
from orchestrator.faults import Permanent
from tests.simulators.audit_logs import (
    LOG_KEY,
    ORIGIN,
    TIME,
    WITNESS_KEYS,
    WITNESSES,
    entry,
    grow,
    signing_key,
    write,
)


@pytest.fixture
def witness(tmp_path: Path) -> Witness:
    return make(tmp_path)


def make(folder: Path, key: SigningKey = WITNESSES[0]) -> Witness:
    return Witness(Folder(folder / "witness"), key, [LOG_KEY.verifier()], lambda: TIME + 0.9)


def request(log: Log, old: int, size: int | None = None) -> bytes:
    """What the log would send: its tree as it is, proved from `old`."""
    reader = LogReader(log.store)
    proof = reader.prove_consistency(old, log.size) if old <= log.size else ()
    return Request(old, proof, log.sign(TIME)).encode()


def signed(checkpoint: Checkpoint, key: SigningKey = LOG_KEY) -> Note:
    return Note(checkpoint.text(), (key.sign(checkpoint.text()),))


def other_history(folder: Path, size: int) -> Log:
    """The same log, by the same key, with another entry in it."""
    log = Log.open_(Folder(folder), LOG_KEY)
    grow(log, size, (entry(number) if number != 2 else b"another" for number in range(size)))
    return log


def test_each_checkpoint_that_grew_is_cosigned_with_the_time(witness: Witness, tmp_path: Path) -> None:
    log = write(tmp_path / "log", 0)
    for old, new in ((0, 0), (0, 3), (3, 3), (3, 256), (256, 300)):
        grow(log, new)
        body = request(log, old)
        answer = witness.add_checkpoint(body)
        assert answer.status is HTTPStatus.OK, answer.body
        note = Request.parse(body).note.with_(parse_signatures(answer.body))
        (verified,) = note.verified_by([WITNESS_KEYS[0]])
        assert verified.time == TIME
        assert answer.body.endswith("\n")
    served = witness.checkpoint(origin_name(ORIGIN))
    assert (served.status, Checkpoint.parse(Note.parse(served.body.encode()).text).size) == (HTTPStatus.OK, 300)


def test_another_old_size_is_told_the_right_one(witness: Witness, tmp_path: Path) -> None:
    log = write(tmp_path / "log", 5)
    witness.add_checkpoint(request(log, 0))
    answer = witness.add_checkpoint(request(log, 0))
    assert (answer.status, answer.body, answer.type) == (HTTPStatus.CONFLICT, "5\n", "text/x.tlog.size")


def test_a_rewound_log_gets_no_cosignature_and_leaves_proof(witness: Witness, tmp_path: Path) -> None:
    witness.add_checkpoint(request(write(tmp_path / "log", 9), 0))
    answer = witness.add_checkpoint(request(write(tmp_path / "rewound", 5), 9))
    assert answer.status is HTTPStatus.BAD_REQUEST
    assert "E-AUDIT-006" in answer.body
    assert kept(tmp_path) == 1


def test_a_split_view_gets_no_cosignature_and_leaves_proof(witness: Witness, tmp_path: Path) -> None:
    witness.add_checkpoint(request(write(tmp_path / "log", 9), 0))
    for number, size in enumerate((9, 12), 1):
        answer = witness.add_checkpoint(request(other_history(tmp_path / f"split-{size}", size), 9))
        assert answer.status is HTTPStatus.UNPROCESSABLE_ENTITY
        assert "E-AUDIT-005" in answer.body
        assert kept(tmp_path) == number
    assert Checkpoint.parse(Note.parse(witness.checkpoint(origin_name(ORIGIN)).body.encode()).text).size == 9


def kept(folder: Path) -> int:
    """How many proofs of misbehaviour; each is a signed checkpoint."""
    found = list((folder / "witness" / f"{origin_name(ORIGIN)}.refused").iterdir())
    for path in found:
        assert Request.parse(path.read_bytes()).note.verified_by([LOG_KEY.verifier()])
    return len(found)


def test_it_remembers_over_a_restart_and_refuses_a_memory_that_is_not_its_own(tmp_path: Path) -> None:
    log = write(tmp_path / "log", 9)
    make(tmp_path).add_checkpoint(request(log, 0))
    assert make(tmp_path).add_checkpoint(request(log, 0)).body == "9\n"
    with pytest.raises(Permanent):
        make(tmp_path, WITNESSES[1])
    (tmp_path / "witness" / origin_name(ORIGIN)).write_bytes(b"")
    with pytest.raises(Permanent):
        make(tmp_path)


@pytest.mark.parametrize(
    ("status", "body"),
    [
        (
            HTTPStatus.NOT_FOUND,
            Request(0, (), signed(Checkpoint("x.example", 0, EMPTY_ROOT), signing_key("x.example"))),
        ),
        (HTTPStatus.FORBIDDEN, Request(0, (), signed(Checkpoint(ORIGIN, 0, EMPTY_ROOT), signing_key(seed="other")))),
        (HTTPStatus.FORBIDDEN, Request(0, (), signed(Checkpoint(ORIGIN, 0, EMPTY_ROOT), WITNESSES[1]))),
        (HTTPStatus.UNPROCESSABLE_ENTITY, Request(0, (), signed(Checkpoint(ORIGIN, 0, bytes(32))))),
        (HTTPStatus.UNPROCESSABLE_ENTITY, Request(0, (bytes(32),), signed(Checkpoint(ORIGIN, 4, bytes(32))))),
        (HTTPStatus.BAD_REQUEST, Request(5, (), signed(Checkpoint(ORIGIN, 4, bytes(32))))),
        (HTTPStatus.BAD_REQUEST, b""),
        (HTTPStatus.BAD_REQUEST, b"old 0\n\n"),
        (HTTPStatus.BAD_REQUEST, b"old 00\n\n" + signed(Checkpoint(ORIGIN, 0, EMPTY_ROOT)).encode()),
        (HTTPStatus.BAD_REQUEST, b"old 0\nx\n\n" + signed(Checkpoint(ORIGIN, 0, EMPTY_ROOT)).encode()),
        (HTTPStatus.BAD_REQUEST, b"old 0\n" + b"A" * 43 + b"=\n" * 64 + b"\n" + b"x"),
        (HTTPStatus.BAD_REQUEST, b"\xff" * 100_000),
    ],
)
def test_whatever_else_is_sent_is_refused_with_the_protocols_status(
    witness: Witness, status: HTTPStatus, body: Request | bytes
) -> None:
    answer = witness.add_checkpoint(body if isinstance(body, bytes) else body.encode())
    assert answer.status is status, answer.body


def test_a_log_that_was_never_cosigned_has_no_checkpoint(witness: Witness) -> None:
    for name in (origin_name(ORIGIN), origin_name("x"), "..", "writer.lock"):
        assert witness.checkpoint(name).status is HTTPStatus.NOT_FOUND
