"""An exported launch reads back as it was, is refused when a byte of it changed, and holds no secret."""

from __future__ import annotations

import hashlib
import json
from dataclasses import fields, replace

import pytest
from hypothesis import given

from orchestrator import events
from orchestrator.audit import merkle
from orchestrator.audit.bundle import Bundle, Proved
from orchestrator.audit.checkpoint import Checkpoint
from orchestrator.audit.entry import Entry, Message
from orchestrator.audit.note import Note
from orchestrator.audit.proof import LogProof
from orchestrator.bus import subjects
from orchestrator.faults import Code, Permanent
from orchestrator.replay import bundle
from orchestrator.replay.bundle import Exported
from orchestrator.replay.diverge import first_divergence
from orchestrator.replay.redaction import NAMES, check_proofs, redact
from tests.golden.histories.generate import SCENARIOS, make
from tests.simulators.audit_logs import LOG_KEY, ORIGIN, WITNESSES, policy
from tests.simulators.history import APP, History
from tests.simulators.weather import play, storm

AT = "2026-01-01T00:00:00.000000000Z"


def exported(made: History, proofs: Bundle | None = None) -> Exported:
    stored, by_sequence = list(enumerate(made.raw, 1)), bundle.proofs_of(proofs) if proofs else None
    return bundle.export(made.pod, subjects.history(made.pod), "payments/redis-0", stored, AT, by_sequence)


def booted() -> History:
    made = History()
    made.up_to_booted()
    return made


@pytest.mark.parametrize("name", SCENARIOS)
def test_every_golden_history_goes_out_and_comes_back_the_same(name: str) -> None:
    made = make(name)
    back = bundle.decode(bundle.encode(exported(made)))
    assert back == exported(made)
    assert back.history() == made.records()
    assert first_divergence(back.pod, back.history(), back.decided) is None


@given(storm)
def test_every_history_goes_out_and_comes_back_the_same(messages: list) -> None:
    history = [message for message, _ in play(messages)]
    stored = [(m.sequence, raw) for m, raw in zip(history, _raws(messages, history), strict=True)]
    made = bundle.export("a1b2c3d4" * 8, subjects.history("a1b2c3d4" * 8), "", stored, AT)
    assert bundle.decode(bundle.encode(made)) == made


def _raws(messages: list, history: list) -> list[bytes]:
    """The bytes of the messages that were kept, written again: signatures are deterministic, ids are not."""
    raws = []
    for message in history:
        if isinstance(message, events.Foreign):
            raws.append(b"\xff")
        else:
            fields_ = {"id": message.id, "index": message.index, "previous": message.previous}
            envelope = events.facts_pb2.Envelope(**fields_, statement=message.statement, signature=message.signature)
            raws.append(envelope.SerializeToString())
    return raws


def test_a_byte_that_changed_anywhere_is_found() -> None:
    raw = bundle.encode(exported(booted()))
    for place in range(0, len(raw), 97):
        altered = bytearray(raw)
        altered[place] ^= 1
        with pytest.raises(Permanent) as refused:
            bundle.decode(bytes(altered))
        assert refused.value.code is Code.REPLAY_EXPORT


def test_a_file_that_was_cut_off_is_found() -> None:
    raw = bundle.encode(exported(booted()))
    lines = raw.splitlines(keepends=True)
    for cut in (b"", raw[:-1], raw[: len(raw) // 2], b"".join(lines[:-1]), b"".join((*lines[:3], lines[-1]))):
        with pytest.raises(Permanent) as refused:
            bundle.decode(cut)
        assert refused.value.code is Code.REPLAY_EXPORT


def resealed(raw: bytes, alter: object) -> bytes:
    """The file after `alter` of its lines' objects, with an `end` that fits again: who alters it on purpose."""
    lines = [json.loads(line) for line in raw.splitlines()[:-1]]
    alter(lines)  # type: ignore[operator]
    body = b"".join(json.dumps(line, separators=(",", ":")).encode() + b"\n" for line in lines)
    return body + json.dumps({"end": hashlib.sha256(body).hexdigest()}, separators=(",", ":")).encode() + b"\n"


@pytest.mark.parametrize(
    "alter",
    [
        lambda lines: lines.pop(4),
        lambda lines: lines.insert(3, lines.pop(4)),
        lambda lines: lines[4].update(message=lines[5]["message"]),
        lambda lines: lines[4].update(leaf="00" * 32),
        lambda lines: lines[4].update(kind="exited"),
        lambda lines: lines[4].update(extra=1),
        lambda lines: lines[4].update(index=7),
        lambda lines: lines[0].update(v=2),
        lambda lines: lines[0].update(pod="../../etc"),
        lambda lines: lines[4].pop("message"),
    ],
)
def test_a_file_that_was_altered_on_purpose_is_found(alter: object) -> None:
    with pytest.raises(Permanent) as refused:
        bundle.decode(resealed(bundle.encode(exported(booted())), alter))
    assert refused.value.code is Code.REPLAY_EXPORT


def test_another_versions_decisions_come_back_and_are_compared() -> None:
    def alter(lines: list) -> None:
        lines[6]["decision"]["awaited"] = [f"{APP}/seal_fs/2"]

    back = bundle.decode(resealed(bundle.encode(exported(booted())), alter))
    found = first_divergence(back.pod, back.history(), back.decided)
    assert found is not None
    assert found.index == 6


# --- redaction and proofs ---------------------------------------------------------------------------------------------


def proved(made: History) -> Bundle:
    """As the audit log would prove them: a tree of exactly these messages, its checkpoint signed and witnessed."""
    subject = subjects.history(made.pod)
    leaves = [Entry.of(Message(n, subject, raw)).encode() for n, raw in enumerate(made.raw, 1)]
    hashes = [merkle.leaf_hash(leaf) for leaf in leaves]

    def node(level: int, index: int) -> bytes:
        return merkle.complete_root(hashes[index << level : (index + 1) << level])

    text = Checkpoint(ORIGIN, len(leaves), merkle.tree_root(node, len(leaves))).text()
    note = Note(text, (LOG_KEY.sign(text), LOG_KEY.cosign(text, 5), *(key.cosign(text, 6) for key in WITNESSES)))
    paths = [merkle.prove_inclusion(node, index, len(leaves)) for index in range(len(leaves))]
    entries = [Proved(leaf, LogProof(index, paths[index], note)) for index, leaf in enumerate(leaves)]
    return Bundle(note, b"", tuple(entries), {})


def test_proofs_hold_with_and_without_the_contents() -> None:
    made = booted()
    whole = exported(made, proved(made))
    for one in (whole, redact(whole, NAMES), redact(whole, {"attested"})):
        back = bundle.decode(bundle.encode(one))
        ((accepted, count),) = check_proofs(back, policy())
        assert accepted.checkpoint.size == count == len(made.raw)


def test_a_proof_of_another_message_is_refused_also_where_the_contents_are_gone() -> None:
    made = booted()
    whole = redact(exported(made, proved(made)), NAMES)
    for number in range(len(whole.items)):
        swapped = replace(whole.items[number], leaf=whole.items[number - 1].leaf)
        items = (*whole.items[:number], swapped, *whole.items[number + 1 :])
        with pytest.raises(Permanent) as refused:
            check_proofs(replace(whole, items=items), policy())
        assert refused.value.code is Code.AUDIT_INCLUSION


def test_an_export_without_proofs_proves_nothing() -> None:
    with pytest.raises(Permanent) as refused:
        check_proofs(exported(booted()), policy())
    assert refused.value.code is Code.NOT_FOUND


def test_a_redacted_export_keeps_its_chain_and_loses_its_names() -> None:
    made = redact(exported(booted()), NAMES)
    raw = bundle.encode(made)
    back = bundle.decode(raw)
    assert back.redacted == (
        "pod-requested",
        "sandbox-created",
        "agent-up",
        "container-requested",
        "image-decrypted",
        "start-requested",
        "app-started",
    )
    for name in (b"payments", b"redis", b"node-a", b"127.0.0.1:5000"):
        assert name not in raw
        assert name not in _opened(raw)
    assert [decision.states for decision in back.decided] == [d.states for d in exported(booted()).decided]
    with pytest.raises(Permanent, match="cannot be folded"):
        back.history()


def _opened(raw: bytes) -> bytes:
    """Every message that is still in the file, decoded."""
    items = bundle.decode(raw).items
    return b"".join(item.raw or b"" for item in items)


def test_a_redacted_message_cannot_be_exchanged_for_another() -> None:
    raw = bundle.encode(redact(exported(booted()), {"agent-up"}))
    for member in ("digest", "previous"):
        with pytest.raises(Permanent) as refused:
            bundle.decode(resealed(raw, lambda lines, m=member: lines[3].update({m: "11" * 32})))
        assert refused.value.code is Code.REPLAY_EXPORT


def test_a_kind_that_is_not_there_is_not_taken_out_silently() -> None:
    with pytest.raises(Permanent, match="no booked"):
        redact(exported(booted()), {"booked"})


# --- secrets ----------------------------------------------------------------------------------------------------------


def test_no_fact_has_a_member_for_a_secret() -> None:
    """Whoever adds a member to a fact that could hold one stops here, and thinks of exports and the audit log."""
    members = {f"{body.__name__}.{part.name}" for body in events._BODIES.values() for part in fields(body)}
    suspicious = {m for m in members if any(w in m.lower() for w in ("key", "token", "secret", "env", "password"))}
    assert suspicious == {
        "Attested.token_sha256",
        "Attested.event_public_key",
        "ConfigDelivered.output_key_ids",
        "ImageDecrypted.key_ids",
    }


def test_the_title_and_the_versions_are_all_that_an_export_adds_to_its_facts() -> None:
    first = json.loads(bundle.encode(exported(booted())).splitlines()[0])
    assert set(first) == {"format", "v", "pod", "subject", "title", "exported_at", "versions", "messages"}
    assert set(first["versions"]) == {"enclave-cc", "export", "python"}


def test_an_item_without_its_bytes_is_still_an_item() -> None:
    item = exported(booted()).items[0]
    assert replace(item, raw=None).digest == item.digest
