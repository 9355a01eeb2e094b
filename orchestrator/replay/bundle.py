"""A launch as one file, which carries it to a machine without bus, network or root.

Zone: any. May import: `orchestrator.{audit,events,faults,fold,replay}`, `schemas`. Pure: bytes in, bytes out.

JSON lines, so that it can be read, searched and compared by any tool:

    {"format":"enclave-cc/launch","v":1,"pod":…,"subject":…,"title":…,"exported_at":…,"versions":{…},"messages":N}
    {"sequence":…,"index":…,"kind":…,"leaf":HEX,"message":BASE64,"decision":{…},"proof":TEXT}      one a message
    {"end":HEX}                                                   SHA-256 of every byte before this line

- `message` is what the stream keeps, byte for byte: facts, which are the workers' results. No key, token or plaintext
  is in any fact, so there is none here.
- `leaf` is the hash of the message's entry in the audit log (RFC 6962); `proof`, where the log was asked for one, is
  the entry's c2sp.org/tlog-proof. `decision` is what the version that exported it decided (`replay.decision`).
- A redacted message has `previous` and `digest` in place of `message`: the chain over it holds, its proof leads from
  its leaf, and the signatures of the facts after it, which cover digests, verify. See `redaction`.

`end` finds a file that was cut off or damaged; who altered it on purpose made `end` anew. What cannot be made anew are
the enclave's signatures, and the proofs.
"""

from __future__ import annotations

import base64
import hashlib
import json
import platform
import re
from collections.abc import Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from importlib import metadata
from itertools import pairwise
from typing import Final

from orchestrator import events
from orchestrator.audit.bundle import Bundle
from orchestrator.audit.entry import Entry, Message
from orchestrator.audit.merkle import leaf_hash
from orchestrator.events import MAX_FACT_BYTES, Foreign, Recorded
from orchestrator.faults import Code, Permanent
from orchestrator.replay.decision import Decision, decisions, name_of
from schemas.strict_json import JsonObject, JsonValue, Malformed, base64_bytes, integer, nested, only, parse_object
from schemas.strict_json import strings as texts
from schemas.strict_json import text as a_text

FORMAT: Final = "enclave-cc/launch"
VERSION: Final = 1
MAX_BYTES: Final = 256 << 20
_POD: Final = re.compile(r"[A-Za-z0-9_-]{1,128}", re.ASCII)
_HEX: Final = re.compile(r"(?:[0-9a-f]{64})?", re.ASCII)


@dataclass(frozen=True, slots=True)
class Item:
    """One message. `raw` is None where it was taken out; `previous` and `digest` are then claims, which `check` holds.

    `leaf` is 32 bytes; `proof` the text of a tlog-proof, or empty. `decision` is None after a message that stopped the
    fold.
    """

    sequence: int
    index: int
    kind: str
    leaf: bytes
    raw: bytes | None
    previous: bytes
    digest: bytes
    decision: Decision | None
    proof: str = ""


@dataclass(frozen=True, slots=True)
class Exported:
    """A launch's file. `title` is empty where names were taken out; `versions` are (what, version)."""

    pod: str
    subject: str
    title: str
    exported_at: str
    versions: tuple[tuple[str, str], ...]
    items: tuple[Item, ...]

    @property
    def redacted(self) -> tuple[str, ...]:
        """The kinds of the messages whose contents were taken out."""
        return tuple(dict.fromkeys(item.kind for item in self.items if item.raw is None))

    @property
    def decided(self) -> list[Decision]:
        """What the version that exported it decided at each message."""
        return [item.decision for item in self.items if item.decision is not None]

    def history(self) -> list[Recorded | Foreign]:
        """The messages, as read from a stream. Raises Permanent(REPLAY_EXPORT) where some were taken out."""
        if self.redacted:
            raise Permanent(
                Code.REPLAY_EXPORT,
                "this export cannot be folded: contents were taken out of it",
                expected="every message whole",
                got=f"only the digests of {', '.join(self.redacted)}",
                advice="what it decided is recorded in it, and its chain and proofs can be checked: import it",
            )
        return [events.read(item.sequence, item.raw or b"") for item in self.items]


def export(
    pod: str,
    subject: str,
    title: str,
    stored: Iterable[tuple[int, bytes]],
    at: str,
    proofs: Mapping[int, str] | None = None,
) -> Exported:
    """The file of a history as stored: (sequence, bytes) of each message on `subject`. `at` is now, RFC 3339.

    `proofs` are the audit log's, by the messages' sequences.
    """
    raws = list(stored)
    messages = [events.read(sequence, raw) for sequence, raw in raws]
    decided = {decision.sequence: decision for decision in decisions(pod, messages)}
    items = []
    for (sequence, raw), message in zip(raws, messages, strict=True):
        index, kind = name_of(message)
        previous, digest = (message.previous, message.digest) if isinstance(message, Recorded) else (b"", b"")
        leaf = leaf_of(subject, sequence, raw)
        proof = proofs.get(sequence, "") if proofs else ""
        items.append(Item(sequence, index, kind, leaf, raw, previous, digest, decided.get(sequence), proof))
    return Exported(pod, subject, title, at, _versions(), tuple(items))


def proofs_of(proved: Bundle) -> dict[int, str]:
    """The proofs in a bundle of the audit log, as `export` takes them."""
    return {Entry.decode(one.leaf).sequence: one.proof.encode().decode() for one in proved.entries}


def leaf_of(subject: str, sequence: int, raw: bytes) -> bytes:
    """The hash of the audit log's entry for this message."""
    return leaf_hash(Entry.of(Message(sequence, subject, raw)).encode())


def _versions() -> tuple[tuple[str, str], ...]:
    try:
        own = metadata.version("enclave-cc")
    except metadata.PackageNotFoundError:
        own = "unknown"
    return ("enclave-cc", own), ("export", str(VERSION)), ("python", platform.python_version())


# --- to bytes ---------------------------------------------------------------------------------------------------------


def encode(exported: Exported) -> bytes:
    """The file's bytes."""
    head: JsonObject = {
        "format": FORMAT,
        "v": VERSION,
        "pod": exported.pod,
        "subject": exported.subject,
        "title": exported.title,
        "exported_at": exported.exported_at,
        "versions": {**dict(exported.versions)},
        "messages": len(exported.items),
    }
    body = b"".join(_line(document) for document in (head, *map(_item, exported.items)))
    return body + _line({"end": hashlib.sha256(body).hexdigest()})


def _line(document: JsonObject) -> bytes:
    return json.dumps(document, separators=(",", ":"), ensure_ascii=True).encode() + b"\n"


def _item(item: Item) -> JsonObject:
    document: JsonObject = {
        "sequence": item.sequence,
        "index": item.index,
        "kind": item.kind,
        "leaf": item.leaf.hex(),
    }
    if item.raw is None:
        document |= {"previous": item.previous.hex(), "digest": item.digest.hex()}
    else:
        document["message"] = base64.b64encode(item.raw).decode()
    if item.decision is not None:
        document["decision"] = _decision(item.decision)
    if item.proof:
        document["proof"] = item.proof
    return document


def _decision(decision: Decision) -> JsonObject:
    states: JsonObject = {**dict(decision.states)}
    steps: list[JsonValue] = [*decision.awaited]
    return {
        "counted": decision.counted,
        "states": states,
        "awaited": steps,
        "failure": decision.failure,
        "refused": decision.refused,
    }


# --- from bytes -------------------------------------------------------------------------------------------------------


def decode(raw: bytes) -> Exported:
    """Read and check a file: its form, its end, its chain, its leaves.

    Raises Permanent: REPLAY_EXPORT for a file that is not of the form, or was cut off or altered.
    """
    try:
        exported = _decode(raw)
    except (Malformed, UnicodeDecodeError) as error:
        raise _unusable("JSON lines of the format enclave-cc/launch, version 1", str(error)) from error
    _check_links(exported.items)
    for item in exported.items:
        if item.raw is not None and leaf_of(exported.subject, item.sequence, item.raw) != item.leaf:
            raise _unusable(f"the leaf of message {item.sequence}", item.leaf.hex())
    return exported


def _decode(raw: bytes) -> Exported:
    if len(raw) > MAX_BYTES:
        raise _unusable(f"at most {MAX_BYTES} bytes", f"{len(raw)} bytes")
    lines = raw.splitlines(keepends=True)
    if len(lines) < 2 or not raw.endswith(b"\n"):
        raise Malformed(f"{len(lines)} lines: no head, or no end")
    ended = a_text(parse_object(lines[-1]), "end")
    if hashlib.sha256(b"".join(lines[:-1])).hexdigest() != ended:
        raise _unusable("the bytes that `end` is the digest of", "others: it was cut off, or altered")
    head = parse_object(lines[0])
    if head.get("format") != FORMAT or head.get("v") != VERSION:
        raise Malformed(f"format {FORMAT}, v {VERSION} are expected")
    if integer(head, "messages") != len(lines) - 2:
        raise Malformed(f"messages: {integer(head, 'messages')} are promised, {len(lines) - 2} came")
    versions = nested(head, "versions")
    pod, subject = a_text(head, "pod"), a_text(head, "subject")
    if not _POD.fullmatch(pod) or not subject.endswith(f".{pod}"):
        raise Malformed("pod, and subject: a pod's id and its subject are expected")
    items = tuple(_read_item(parse_object(line)) for line in lines[1:-1])
    if any(later.sequence <= earlier.sequence for earlier, later in pairwise(items)):
        raise Malformed("sequence: each higher than the one before is expected")
    return Exported(
        pod,
        subject,
        a_text(head, "title"),
        a_text(head, "exported_at"),
        tuple((name, a_text(versions, name)) for name in versions),
        items,
    )


def _read_item(members: JsonObject) -> Item:
    only(members, "sequence", "index", "kind", "leaf", "message", "previous", "digest", "decision", "proof")
    sequence, index, kind = integer(members, "sequence"), integer(members, "index"), a_text(members, "kind")
    raw, previous, digest = None, _digest(members, "previous"), _digest(members, "digest")
    if "message" in members:
        raw = base64_bytes(a_text(members, "message"), "message")
        message = events.read(sequence, raw)
        said = name_of(message)
        if len(raw) > MAX_FACT_BYTES or said[0] != index or (said[1] != kind and "unknown" not in (kind, said[1])):
            raise Malformed(f"message {sequence}: index and kind are not those of its bytes")
        previous, digest = (message.previous, message.digest) if isinstance(message, Recorded) else (b"", b"")
    decision = nested(members, "decision") if "decision" in members else None
    leaf = _digest(members, "leaf")
    if not leaf or sequence < 1 or index < 0:
        raise Malformed("leaf, sequence and index are expected")
    return Item(
        sequence,
        index,
        kind,
        leaf,
        raw,
        previous,
        digest,
        _read_decision(sequence, index, kind, decision) if decision is not None else None,
        a_text(members, "proof") if "proof" in members else "",
    )


def _read_decision(sequence: int, index: int, kind: str, members: JsonObject) -> Decision:
    only(members, "counted", "states", "awaited", "failure", "refused")
    states = nested(members, "states")
    return Decision(
        sequence,
        index,
        kind,
        counted=members.get("counted") is True,
        states=tuple((name, a_text(states, name)) for name in sorted(states)),
        awaited=texts(members, "awaited"),
        failure=a_text(members, "failure"),
        refused=a_text(members, "refused"),
    )


def _digest(members: JsonObject, name: str) -> bytes:
    value = a_text(members, name) if name in members else ""
    if not _HEX.fullmatch(value):
        raise Malformed(f"{name}: 64 lower-case hexadecimal digits are expected")
    return bytes.fromhex(value)


def _check_links(items: Sequence[Item]) -> None:
    """The chain, over what was taken out too. A chain that was broken when it was exported is told by its decisions."""
    before, place = b"", 0
    for item in _facts(items):
        if item.index != place + 1 or item.previous != before:
            raise _unusable(f"fact {place + 1} after {before.hex()[:16] or 'none'}", f"fact {item.index} after "
                            f"{item.previous.hex()[:16] or 'none'}")  # fmt: skip
        before, place = item.digest, item.index


def _facts(items: Sequence[Item]) -> Iterator[Item]:
    for item in items:
        if item.decision is None or item.decision.refused:
            return
        if item.index:
            yield item


def _unusable(expected: str, got: str) -> Permanent:
    return Permanent(
        Code.REPLAY_EXPORT,
        "this is no export of a launch, or it was altered",
        expected=expected,
        got=got,
        advice="export it again where it came from, and compare",
    )
