"""Facts and commands on the wire: exact bytes, strict reading, nothing lost."""

from __future__ import annotations

import hashlib
from dataclasses import replace

import pytest

from orchestrator import events
from orchestrator.events import Command, Fact, Foreign, Recorded
from orchestrator.faults import Permanent
from orchestrator.lifecycle import Zone
from schemas import facts_pb2
from tests.simulators.history import APP, POD, EventKey, History, attested


def stored(fact: Fact, **envelope: object) -> bytes:
    raw = facts_pb2.Envelope.FromString(events.encode(fact, 1, b"", None))
    for name, value in envelope.items():
        setattr(raw, name, value)
    return raw.SerializeToString()


STOP = Fact(POD, events.StopRequested("x"), Zone.HOST, "test", at_ns=5)


def test_every_kind_of_fact_comes_back_as_it_went() -> None:
    made = History()
    made.up_to_booted()
    made.exec_admitted()
    made.exec_refused()
    made.exited()
    made.stop()
    made.torn_down()
    made.agent_lost()
    made.failed("attest")
    made.resume()
    made.forked()
    kinds = set()
    for record in made.records():
        assert isinstance(record, Recorded)
        again = events.decode(1, events.encode(record.fact, record.index, record.previous, None, record.id))
        assert again.fact == record.fact
        kinds.add(type(record.fact.body))
    assert kinds == set(events._FIELD_OF)


def test_the_wire_knows_exactly_the_kinds_that_the_code_knows() -> None:
    oneof = {field.name for field in facts_pb2.Statement.DESCRIPTOR.oneofs_by_name["body"].fields}
    assert oneof == set(events._BODIES)
    for name, body in events._BODIES.items():
        wire = facts_pb2.Statement.DESCRIPTOR.fields_by_name[name].message_type
        assert [field.name for field in wire.fields] == list(body.__dataclass_fields__)


@pytest.mark.parametrize(
    "raw",
    [
        b"",
        b"garbage",
        stored(STOP, id=b"short"),
        stored(STOP, index=0),
        stored(STOP, statement=b""),
        stored(STOP, statement=b"\xff"),
        stored(replace(STOP, at_ns=2**63)),
        facts_pb2.Envelope(
            id=b"x" * 16, index=1, statement=facts_pb2.Statement(pod=POD, zone=1, container="../x").SerializeToString()
        ).SerializeToString(),
        facts_pb2.Envelope(
            id=b"x" * 16, index=1, statement=facts_pb2.Statement(pod="a.b", zone=1).SerializeToString()
        ).SerializeToString(),
        facts_pb2.Envelope(
            id=b"x" * 16, index=1, statement=facts_pb2.Statement(pod=POD, zone=9).SerializeToString()
        ).SerializeToString(),
        b"\0" * (events.MAX_FACT_BYTES + 1),
    ],
    ids=["empty", "junk", "id", "index", "no-statement", "bad-statement", "time", "path", "pod", "zone", "size"],
)
def test_what_is_no_fact_is_foreign_and_says_why(raw: bytes) -> None:
    read = events.read(7, raw)
    assert isinstance(read, Foreign)
    assert (read.sequence, bool(read.why)) == (7, True)
    with pytest.raises(Permanent, match="E-BUS-003"):
        events.decode(7, raw)


@pytest.mark.parametrize("pod", ["", "a.b", "*", "a b", "x" * 129])
def test_a_pod_that_no_reader_would_take_cannot_be_written(pod: str) -> None:
    with pytest.raises(Permanent, match="E-INPUT-001"):
        events.encode_statement(replace(STOP, pod=pod))


@pytest.mark.parametrize("container", ["..", "a/b", "a\nb", ".a", "x" * 129])
def test_a_container_that_no_reader_would_take_cannot_be_written(container: str) -> None:
    with pytest.raises(Permanent, match="E-INPUT-001"):
        events.encode_statement(replace(STOP, container=container))


def test_nobody_may_invent_a_fact_of_unknown_kind() -> None:
    with pytest.raises(TypeError):
        events.encode_statement(replace(STOP, body=events.Unknown()))


def test_a_signature_covers_the_place_in_the_chain() -> None:
    key = EventKey()
    fact = Fact(POD, attested(POD, key), Zone.ENCLAVE, "agent", attempt=1)
    first = events.decode(1, events.encode(fact, 4, b"p", key.sign))
    key.private.public_key().verify(first.signature, events.signed_bytes(4, b"p", first.statement))
    assert events.signed_bytes(4, b"p", b"s") != events.signed_bytes(5, b"p", b"s")
    assert events.signed_bytes(4, b"p", b"s") != events.signed_bytes(4, b"q", b"s")


def test_what_is_signed_is_written_down_for_ever() -> None:
    """Known answers: another implementation must arrive at the same bytes."""
    assert events.signed_bytes(1, b"", b"s") == (
        b"enclave-cc/fact/v1\0" + (1).to_bytes(8, "big") + hashlib.sha256(b"").digest() + hashlib.sha256(b"s").digest()
    )
    assert (
        events.event_key_binding("p", b"\1" * 32)
        == hashlib.sha256(b"enclave-cc/event-key/v1\0p\0" + b"\1" * 32).digest()
    )


def test_the_digest_covers_every_stored_byte() -> None:
    raw = events.encode(STOP, 1, b"", None)
    assert events.decode(1, raw).digest == hashlib.sha256(raw).digest()


def test_a_command_comes_back_as_it_went_and_junk_is_refused() -> None:
    command = Command(POD, APP, "seal_fs", 2, 77, 2**62)
    assert Command.decode(command.encode()) == command
    with pytest.raises(Permanent, match="E-BUS-003"):
        Command.decode(b"\xff\xff")
