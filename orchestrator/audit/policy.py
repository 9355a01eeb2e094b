"""Trust policies (c2sp.org/tlog-policy): which logs and witnesses are believed, and how many witnesses it takes.

Zone: any. May import: `orchestrator.{audit.checkpoint,audit.malformed,audit.note,faults}`. Pure.

    log <vkey> [<url>]
    witness <name> <vkey> [<url>]
    group <name> all|any|<k> <member>...
    quorum <name>|none

A checkpoint is accepted when one of the logs signed it under its own origin AND the quorum of witnesses cosigned it.
Stricter than the specification in two ways: a policy without a log accepts nothing, and a log's key is no witness's.
"""

from __future__ import annotations

import re
from collections.abc import Mapping
from dataclasses import dataclass
from typing import Final, Self

from orchestrator.audit.checkpoint import Checkpoint
from orchestrator.audit.malformed import decimal, malformed
from orchestrator.audit.note import Note, SignatureType, VerifierKey
from orchestrator.faults import Code, Permanent

MAX_POLICY_BYTES: Final = 256 * 1024
MAX_NAMES: Final = 256
NONE: Final = b"none"
_OCTETS: Final = re.compile(rb"[\x09\x0a\x20-\x7e\x80-\xff]*")
_BLANK: Final = re.compile(rb"[ \t]+")


@dataclass(frozen=True, slots=True)
class Party:
    """A log or a witness: its key, and where it answers, if that was said."""

    key: VerifierKey
    url: str


@dataclass(frozen=True, slots=True)
class Group:
    """Witnesses a checkpoint when at least `threshold` of `members` (witnesses or groups) do."""

    threshold: int
    members: tuple[bytes, ...]


@dataclass(frozen=True, slots=True)
class Accepted:
    """A checkpoint that the policy believes, who said so and when (seconds since 1970).

    `log_time` is the log's own statement of when this was its newest tree, None when it made none.
    """

    checkpoint: Checkpoint
    log: VerifierKey
    log_time: int | None
    witnesses: Mapping[str, int]


@dataclass(frozen=True, slots=True)
class Policy:
    """A parsed policy. Names are octets, as the specification has them."""

    logs: tuple[Party, ...]
    witnesses: Mapping[bytes, Party]
    groups: Mapping[bytes, Group]
    quorum: bytes

    @classmethod
    def parse(cls, raw: bytes) -> Self:
        """Read a policy file. Raises Permanent(AUDIT_FORMAT)."""
        if len(raw) > MAX_POLICY_BYTES or not _OCTETS.fullmatch(raw) or (raw and not raw.endswith(b"\n")):
            raise malformed("the policy", "lines of text, each ended by a newline", f"{len(raw)} other bytes")
        reader = _Reader()
        for number, line in enumerate(raw.split(b"\n"), 1):
            words = _BLANK.split(line.strip(b" \t"))
            if words[0] and not words[0].startswith(b"#"):
                reader.take(words, number)
        return cls(*reader.finished())

    @classmethod
    def of(cls, log: VerifierKey) -> Policy:
        """The policy of who knows the log's key and no witness: `quorum none`."""
        return cls((Party(log, ""),), {}, {}, NONE)

    def accept(self, note: Note) -> Accepted:
        """Check a checkpoint's note.

        Raises Permanent: AUDIT_FORMAT, AUDIT_SIGNATURE when no log of the policy signed it, AUDIT_QUORUM when too few
        witnesses did.
        """
        checkpoint = Checkpoint.parse(note.text)
        logs = [party.key for party in self.logs if party.key.name == checkpoint.origin]
        if not logs:
            raise Permanent(
                Code.AUDIT_SIGNATURE,
                f"no key is known for the log {checkpoint.origin}",
                expected=", ".join(party.key.name for party in self.logs) or "a policy that names a log",
                got=checkpoint.origin,
                advice="give the key that the log's owner published: without one nothing can be verified",
            )
        clocks = [key.as_type(SignatureType.COSIGNATURE_V1) for key in logs]
        witnesses = {party.key: name for name, party in self.witnesses.items()}
        verified = {found.key: found for found in note.verified_by([*logs, *clocks, *witnesses])}
        log = next((key for key in logs if key in verified), None)
        if log is None:
            note.verified_by(logs)  # raises, saying which key was expected
            raise AssertionError("a log signature that does not verify was not refused")
        cosigned = {name: found.time or 0 for key, name in witnesses.items() if (found := verified.get(key))}
        if not self._witnessed(self.quorum, cosigned):
            raise self._no_quorum(cosigned)
        clock = verified.get(log.as_type(SignatureType.COSIGNATURE_V1))
        names = {_shown(name): time for name, time in cosigned.items()}
        return Accepted(checkpoint, log, clock.time if clock else None, names)

    def _witnessed(self, name: bytes, cosigned: Mapping[bytes, int]) -> bool:
        if name == NONE:
            return True
        group = self.groups.get(name)
        if group is None:
            return name in cosigned
        return sum(self._witnessed(member, cosigned) for member in group.members) >= group.threshold

    def _no_quorum(self, cosigned: Mapping[bytes, int]) -> Permanent:
        return Permanent(
            Code.AUDIT_QUORUM,
            "too few witnesses cosigned the checkpoint",
            expected=f"the quorum {_shown(self.quorum)} of {', '.join(map(_shown, self.witnesses)) or 'nobody'}",
            got=", ".join(map(_shown, cosigned)) or "no cosignature of a witness that the policy names",
            advice="take a checkpoint that they cosigned; if there is none, the log may show them another view",
        )


class _Reader:
    """What the lines so far have said."""

    def __init__(self) -> None:
        self.logs: list[Party] = []
        self.witnesses: dict[bytes, Party] = {}
        self.groups: dict[bytes, Group] = {}
        self.grouped: set[bytes] = set()
        self.quorum: bytes | None = None

    def take(self, words: list[bytes], number: int) -> None:
        """One line, split at its blanks."""
        match words:
            case [b"log", key, *url] if len(url) <= 1:
                self.logs.append(_party(key, url, SignatureType.ED25519, number))
            case [b"witness", name, key, *url] if len(url) <= 1:
                self.witnesses[self._new(name, number)] = _party(key, url, SignatureType.COSIGNATURE_V1, number)
            case [b"group", name, threshold, *members] if members:
                self.groups[self._new(name, number)] = self._group(threshold, members, number)
            case [b"quorum", name] if self.quorum is None and (name == NONE or self._is_known(name)):
                self.quorum = name
            case _:
                raise _line(number, "log, witness, group or one quorum, of names defined before", b" ".join(words))

    def finished(self) -> tuple[tuple[Party, ...], Mapping[bytes, Party], Mapping[bytes, Group], bytes]:
        """The policy's parts, after what only the whole can tell."""
        if self.quorum is None:
            raise malformed("the policy", "one quorum line", "none")
        logs = [party.key.public for party in self.logs]
        witnesses = [party.key.public for party in self.witnesses.values()]
        for keys in (logs, witnesses):
            if len(set(keys)) != len(keys):
                raise malformed("the policy", "each key once", "the same key on two lines")
        if set(logs) & set(witnesses):
            raise malformed("the policy", "witnesses that are not the log itself", "a log's key on a witness line")
        return tuple(self.logs), self.witnesses, self.groups, self.quorum

    def _is_known(self, name: bytes) -> bool:
        return name in self.witnesses or name in self.groups

    def _new(self, name: bytes, number: int) -> bytes:
        if name == NONE or self._is_known(name) or len(self.witnesses) + len(self.groups) >= MAX_NAMES:
            raise _line(number, f"a new name, at most {MAX_NAMES} of them", name)
        return name

    def _group(self, threshold: bytes, members: list[bytes], number: int) -> Group:
        for member in members:
            if not self._is_known(member) or member in self.grouped:
                raise _line(number, "members defined before, each in one group only", member)
            self.grouped.add(member)
        word = threshold.decode("latin-1")
        least = {"any": 1, "all": len(members)}.get(word)
        if least is None:
            least = decimal(word, f"the threshold in line {number} of the policy")
        if not 1 <= least <= len(members):
            raise _line(number, f"a threshold from 1 to {len(members)}", threshold)
        return Group(least, tuple(members))


def _party(key: bytes, url: list[bytes], type_: SignatureType, number: int) -> Party:
    try:
        parsed = VerifierKey.parse(key.decode("utf-8"))
    except UnicodeDecodeError:
        raise _line(number, "a verifier key", key) from None
    if parsed.type is not type_:
        raise _line(number, f"a key of type 0x{type_:02x}", key)
    return Party(parsed, url[0].decode("latin-1") if url else "")


def _line(number: int, expected: str, got: bytes) -> Permanent:
    return malformed(f"line {number} of the policy", expected, _shown(got))


def _shown(name: bytes) -> str:
    return name.decode("utf-8", "replace")
