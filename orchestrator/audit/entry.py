"""What a leaf is: one stored message of the event stream as canonical JSON, with a summary that one can search.

Zone: any. May import: `orchestrator.{audit,events,faults}`, `schemas`, the standard library. Pure.

    {"actor":…,"at":…,"attempt":…,"code":…,"container":…,"envelope":BASE64,"index":…,"kind":…,"pod":…,"sequence":…,
     "signed":…,"stream":"EV","subject":…,"transition":…,"v":1,"zone":…}

- Canonical: RFC 8785. All members are always there; names are ASCII, numbers are whole and below 2^53, times are text
  (RFC 3339 with nine digits, UTC), so sorting names and leaving out blanks is all that the RFC asks for.
- `stream` and `sequence` say where the message lies, so that a gap, an insertion or another order is visible.
- The summary is a function of the message's bytes: `check` makes the leaf again and compares. A leaf cannot say one
  thing and its envelope another.
- A message of more than `MAX_INLINE_BYTES` stands as `envelope_sha256` and `envelope_bytes` instead of `envelope`; its
  bytes are kept beside the log, under that digest.
- What is no fact is logged too, as `kind` `foreign`.
"""

from __future__ import annotations

import hashlib
import json
import re
import time
from dataclasses import asdict, dataclass, fields
from functools import lru_cache
from typing import Final

from orchestrator import events
from orchestrator.audit.malformed import encode_base64
from orchestrator.audit.tiles import MAX_ENTRY_BYTES
from orchestrator.events import Foreign, Recorded
from orchestrator.faults import Code, Permanent
from schemas.strict_json import JsonObject, Malformed, base64_bytes, integer, text

VERSION: Final = 1
STREAM: Final = "EV"
FOREIGN: Final = "foreign"
UNKNOWN: Final = "unknown"
MAX_INLINE_BYTES: Final = 32 * 1024
MAX_TEXT: Final = 256
"""Characters of the actor and of a failure's texts in the summary; the envelope has them whole."""

MAX_SUBJECT: Final = 256
_MAX_NUMBER: Final = 1 << 53
_DIGEST: Final = re.compile(r"[0-9a-f]{64}", re.ASCII)
_quoted: Final = json.encoder.encode_basestring
"""A JSON string as RFC 8785 3.2.2.2 spells it: what must be escaped, in the shortest way, and nothing else."""


@dataclass(frozen=True, slots=True)
class Message:
    """One message as the stream keeps it: its exact bytes and where it lies."""

    sequence: int
    subject: str
    raw: bytes


@dataclass(frozen=True, slots=True)
class Entry:
    """A leaf's members. `index` is the place in the pod's history, 0 for what is no fact; `at` as in the module's head.

    Either `envelope` holds the message's bytes, or it is None and digest and length stand for them.
    """

    sequence: int
    subject: str
    pod: str
    index: int
    kind: str
    zone: str
    actor: str
    container: str
    attempt: int
    at: str
    transition: str
    code: str
    signed: bool
    envelope: bytes | None
    envelope_sha256: str
    envelope_bytes: int

    @classmethod
    def of(cls, message: Message) -> Entry:
        """The entry of a message. Raises Permanent(INPUT) for a position that no leaf can hold."""
        if not 0 < message.sequence < _MAX_NUMBER or not 0 < len(message.subject) <= MAX_SUBJECT:
            raise Permanent(
                Code.INPUT,
                "this message cannot be logged",
                expected="a sequence below 2^53 and a subject of at most 256 characters",
                got=f"{message.sequence}, {len(message.subject)} characters",
            )
        return _made(message, events.read(message.sequence, message.raw))

    @classmethod
    def decode(cls, leaf: bytes) -> Entry:
        """Read a leaf. Raises Permanent(AUDIT_ENTRY) for any but the canonical form of these members and types."""
        try:
            # Lax, and enough: whatever else than the one canonical form this takes, it is not written so again.
            members = json.loads(leaf)
            entry = _entry(members if isinstance(members, dict) else {})
            canonical = entry.encode() == leaf
        except (Malformed, ValueError, RecursionError) as error:
            raise _no_entry(str(error)) from None
        if not canonical:
            raise _no_entry("members in another order, with blanks or spelled otherwise")
        return entry

    def encode(self) -> bytes:
        """The leaf's bytes: at most 65,535. Raises Permanent(AUDIT_ENTRY) beyond."""
        if self.envelope is None:
            envelope = f'"envelope_bytes":{self.envelope_bytes},"envelope_sha256":"{self.envelope_sha256}"'
        else:
            envelope = f'"envelope":"{encode_base64(self.envelope)}"'
        # Written out in the RFC's order: a writer encodes twenty thousand of these a second.
        leaf = (
            f'{{"actor":{_quoted(self.actor)},"at":{_quoted(self.at)},"attempt":{self.attempt},'
            f'"code":{_quoted(self.code)},"container":{_quoted(self.container)},{envelope},"index":{self.index},'
            f'"kind":{_quoted(self.kind)},"pod":{_quoted(self.pod)},"sequence":{self.sequence},'
            f'"signed":{"true" if self.signed else "false"},"stream":"{STREAM}","subject":{_quoted(self.subject)},'
            f'"transition":{_quoted(self.transition)},"v":{VERSION},"zone":{_quoted(self.zone)}}}'
        ).encode()
        if len(leaf) > MAX_ENTRY_BYTES:
            raise _no_entry(f"{len(leaf)} bytes, where {MAX_ENTRY_BYTES} is the most")
        return leaf

    def check(self, raw: bytes | None = None) -> Recorded | Foreign:
        """Compare the summary with the message; `raw` is it when it is kept beside the log. Returns what it says.

        A kind that was unknown to whoever wrote the leaf may be known today. Raises Permanent(AUDIT_ENTRY).
        """
        raw = self.envelope if raw is None else raw
        if raw is None:
            raise _no_entry("an envelope of which only the digest is here")
        if self.envelope is None and hashlib.sha256(raw).hexdigest() != self.envelope_sha256:
            raise _no_entry(f"bytes with digest {hashlib.sha256(raw).hexdigest()}, not {self.envelope_sha256}")
        said = events.read(self.sequence, raw)
        made = _made(Message(self.sequence, self.subject, raw), said)
        if made == self:
            return said
        for part in fields(Entry):
            told, is_ = getattr(self, part.name), getattr(made, part.name)
            if told != is_ and not (part.name == "kind" and told == UNKNOWN):
                raise _no_entry(f"{part.name} {told!r}, where its envelope has {is_!r}")
        return said

    def flat(self) -> dict[str, str | int | bool]:
        """The summary alone, for tables and exports: everything but the envelope's bytes."""
        return {name: value for name, value in asdict(self).items() if name != "envelope"}


def _made(message: Message, said: Recorded | Foreign) -> Entry:
    raw, summary = message.raw, _summary(said)
    if len(raw) <= MAX_INLINE_BYTES:
        return Entry(message.sequence, message.subject, *summary, raw, "", len(raw))
    return Entry(message.sequence, message.subject, *summary, None, hashlib.sha256(raw).hexdigest(), len(raw))


def _summary(recorded: Recorded | Foreign) -> tuple[str, int, str, str, str, str, int, str, str, str, bool]:
    """The members of an Entry from `pod` to `signed`."""
    if isinstance(recorded, Foreign):
        return "", 0, FOREIGN, "", "", "", 0, "", "", "", False
    fact, body = recorded.fact, recorded.fact.body
    transition, code = (body.transition, body.code) if isinstance(body, events.StepFailed) else ("", "")
    return (
        fact.pod,
        min(recorded.index, _MAX_NUMBER - 1),
        events.kind(body),
        fact.zone.value,
        fact.actor[:MAX_TEXT],
        fact.container,
        fact.attempt,
        rfc3339(fact.at_ns),
        transition[:MAX_TEXT],
        code[:MAX_TEXT],
        bool(recorded.signature),
    )


def _entry(members: JsonObject) -> Entry:
    """The members as an Entry. Raises Malformed."""
    if integer(members, "v") != VERSION or text(members, "stream") != STREAM:
        raise Malformed(f"v {VERSION} and stream {STREAM} are expected")
    envelope, digest, size = None, "", 0
    if "envelope" in members:
        envelope = base64_bytes(text(members, "envelope"), "envelope")
        size = len(envelope)
    else:
        digest, size = text(members, "envelope_sha256"), integer(members, "envelope_bytes")
    if (envelope is None) != (size > MAX_INLINE_BYTES) or not (envelope is not None or _DIGEST.fullmatch(digest)):
        raise Malformed("envelope: its bytes up to 32 KiB, beyond that digest and size, are expected")
    return Entry(
        sequence=_count(members, "sequence"),
        subject=text(members, "subject"),
        pod=text(members, "pod"),
        index=_count(members, "index"),
        kind=text(members, "kind"),
        zone=text(members, "zone"),
        actor=text(members, "actor"),
        container=text(members, "container"),
        attempt=_count(members, "attempt"),
        at=text(members, "at"),
        transition=text(members, "transition"),
        code=text(members, "code"),
        signed=members.get("signed") is True,
        envelope=envelope,
        envelope_sha256=digest,
        envelope_bytes=size,
    )


def _count(members: JsonObject, name: str) -> int:
    value = integer(members, name)
    if not 0 <= value < _MAX_NUMBER:
        raise Malformed(f"{name}: a number from 0 below 2^53 is expected")
    return value


def rfc3339(at_ns: int) -> str:
    """Nanoseconds since 1970 as `2026-01-01T00:00:00.000000000Z`."""
    seconds, nanoseconds = divmod(at_ns, 10**9)
    return f"{_to_the_second(seconds)}.{nanoseconds:09d}Z"


@lru_cache(maxsize=64)
def _to_the_second(seconds: int) -> str:
    return time.strftime("%Y-%m-%dT%H:%M:%S", time.gmtime(seconds))


def _no_entry(got: str) -> Permanent:
    return Permanent(
        Code.AUDIT_ENTRY,
        "this is no entry of our log",
        expected="canonical JSON whose summary is what its envelope says",
        got=ascii(got[:300]),
        advice="the log was written by something else, or altered: compare it with the event stream",
    )
