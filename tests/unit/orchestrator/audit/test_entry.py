"""A leaf is one message, canonical, and cannot say what its envelope does not."""

from __future__ import annotations

import dataclasses
import json

import pytest
import rfc8785

from orchestrator import events
from orchestrator.audit.entry import MAX_INLINE_BYTES, Entry, Message
from orchestrator.audit.tiles import MAX_ENTRY_BYTES
from orchestrator.events import Foreign, Recorded
from orchestrator.faults import Code, Permanent
from orchestrator.lifecycle import Zone
from tests.simulators.history import NODE, START_NS, History


def messages() -> list[Message]:
    history = History()
    history.up_to_booted()
    history.failed("boot_app", container="x", attempt=3)
    history.garbage(b"garbage")
    return [Message(number, f"ev.3.{history.pod}", raw) for number, raw in enumerate(history.raw, 1)]


@pytest.mark.parametrize("message", messages(), ids=lambda message: str(message.sequence))
def test_a_leaf_is_canonical_json_and_reads_back(message: Message) -> None:
    leaf = Entry.of(message).encode()
    assert rfc8785.dumps(json.loads(leaf)) == leaf
    entry = Entry.decode(leaf)
    assert (entry.envelope, entry.sequence, entry.subject) == (message.raw, message.sequence, message.subject)
    assert entry.check() == events.read(message.sequence, message.raw)


def test_the_summary_says_what_one_searches_for() -> None:
    failed = Entry.of(messages()[-2])
    assert (failed.kind, failed.transition, failed.code) == ("step-failed", "boot_app", "E-RUNTIME-001")
    assert (failed.actor, failed.zone, failed.container, failed.attempt) == (f"host-worker/{NODE}", "host", "x", 3)
    first = Entry.of(messages()[0])
    assert (first.kind, first.index, first.at) == ("pod-requested", 1, "2026-01-01T00:00:00.010000000Z")
    assert first.signed is False
    assert Entry.of(messages()[3]).signed is True


def test_what_is_no_fact_is_logged_as_such() -> None:
    entry = Entry.of(messages()[-1])
    assert (entry.kind, entry.envelope) == ("foreign", b"garbage")
    assert isinstance(entry.check(), Foreign)


def test_a_large_message_stands_as_its_digest_and_is_checked_against_its_bytes() -> None:
    raw = bytes(MAX_INLINE_BYTES + 1)
    leaf = Entry.of(Message(7, "ev.0.pod", raw)).encode()
    assert len(leaf) < 600
    entry = Entry.decode(leaf)
    assert (entry.envelope, entry.envelope_bytes) == (None, len(raw))
    entry.check(raw)
    for wrong in (None, raw + b"\0", b"other"):
        with pytest.raises(Permanent) as raised:
            entry.check(wrong)
        assert raised.value.code is Code.AUDIT_ENTRY


def test_the_largest_leaf_fits_a_bundle() -> None:
    body = events.StepFailed("\1" * 4096, "\1" * 4096, "", "", "", "", temporary=False)
    fact = events.Fact("p" * 128, body, Zone.HOST, "\1" * 24_000, "c" * 128, 2**32 - 1, START_NS)
    raw = events.encode(fact, 1, b"", None)
    assert MAX_INLINE_BYTES - 1000 < len(raw) <= MAX_INLINE_BYTES
    assert len(Entry.of(Message(2**53 - 1, "s" * 256, raw)).encode()) <= MAX_ENTRY_BYTES


@pytest.mark.parametrize("message", [Message(0, "s", b""), Message(2**53, "s", b""), Message(1, "s" * 257, b"")])
def test_a_position_that_no_leaf_can_hold_is_refused(message: Message) -> None:
    with pytest.raises(Permanent) as raised:
        Entry.of(message)
    assert raised.value.code is Code.INPUT


@pytest.mark.parametrize("field", [f.name for f in dataclasses.fields(Entry) if not f.name.startswith("envelope")])
def test_a_summary_that_says_otherwise_is_found(field: str) -> None:
    entry = Entry.of(messages()[4])
    told = getattr(entry, field)
    other = {str: f"{told}x", int: 99, bool: not told}[type(told)]
    lying = Entry.decode(dataclasses.replace(entry, **{field: other}).encode())
    if field in {"sequence", "subject"}:  # where it lies is the log's own to say; the stream is asked
        assert isinstance(lying.check(), Recorded)
        return
    with pytest.raises(Permanent) as raised:
        lying.check()
    assert raised.value.code is Code.AUDIT_ENTRY
    assert field in raised.value.diagnosis.got


def test_a_fact_of_a_later_kind_may_be_unknown_to_its_writer() -> None:
    dataclasses.replace(Entry.of(messages()[0]), kind="unknown").check()


def altered_leaves() -> dict[str, bytes]:
    leaf = Entry.of(messages()[0]).encode()
    members = json.loads(leaf)

    def with_(**changes: object) -> bytes:
        return rfc8785.dumps({**members, **changes})

    def without(name: str) -> bytes:
        return rfc8785.dumps({key: value for key, value in members.items() if key != name})

    return {
        "a blank": leaf.replace(b",", b", ", 1),
        "another order": json.dumps(dict(reversed(members.items())), separators=(",", ":")).encode(),
        "an unknown member": with_(more=1),
        "a member twice": leaf.replace(b'"attempt":0', b'"attempt":0,"attempt":0'),
        "another version": with_(v=2),
        "another stream": with_(stream="CMD"),
        "a number as text": with_(index="1"),
        "a number with a point": leaf.replace(b'"index":1', b'"index":1.0'),
        "a negative number": with_(index=-1),
        "a number past 2^53": leaf.replace(b'"index":1', b'"index":9007199254740993'),
        "a text as number": with_(kind=7),
        "a boolean as text": with_(signed="true"),
        "an escape that need not be": leaf.replace(b"host", b"h\\u006fst", 1),
        "base64 that is not canonical": with_(envelope=members["envelope"][:-2] + "9="),
        "envelope and digest": with_(envelope_sha256="00" * 32, envelope_bytes=1),
        "a small message as digest": without("envelope")[:-1] + b',"envelope_sha256":"' + b"0" * 64 + b'"}',
        "no envelope": without("envelope"),
        "no kind": without("kind"),
        "a list": b"[]",
        "nothing": b"",
        "something else": b"\xff\xfe",
    }


@pytest.mark.parametrize("what", altered_leaves())
def test_a_leaf_of_any_other_form_is_refused(what: str) -> None:
    with pytest.raises(Permanent) as raised:
        Entry.decode(altered_leaves()[what])
    assert raised.value.code is Code.AUDIT_ENTRY
