"""Logs for tests: written by the real appender into a real folder, with keys that are the same each time."""

from __future__ import annotations

import hashlib
from collections.abc import Iterable
from pathlib import Path

from orchestrator.audit.entry import MAX_INLINE_BYTES, Entry, Message
from orchestrator.audit.log import Log
from orchestrator.audit.note import Note, SignatureType, SigningKey
from orchestrator.audit.policy import Policy
from orchestrator.audit.storage import Folder
from orchestrator.bus import subjects
from tests.simulators.history import History

ORIGIN = "test.example/audit"
TIME = 1_767_225_600
"""2026-01-01T00:00:00Z."""

SIZES = (0, 1, 5, 255, 256, 257, 70_000)
"""Empty, one, a few, around a full tile, and three levels of tiles."""


def signing_key(name: str = ORIGIN, seed: str = "") -> SigningKey:
    return SigningKey(name, hashlib.sha256(f"{name}/{seed}".encode()).digest())


LOG_KEY = signing_key()
WITNESSES = tuple(signing_key(f"witness-{letter}.example/w") for letter in "abc")
WITNESS_KEYS = tuple(witness.verifier(SignatureType.COSIGNATURE_V1) for witness in WITNESSES)


def policy_text(threshold: int = 2, urls: Iterable[str] = ()) -> str:
    """The log, three witnesses (at their addresses), and how many of them it takes."""
    addresses = [*urls, "", "", ""]
    lines = [f"log {LOG_KEY.verifier()}"]
    lines += [f"witness w{number} {key} {addresses[number]}" for number, key in enumerate(WITNESS_KEYS)]
    lines += [f"group all-of-them {threshold} w0 w1 w2", "quorum all-of-them"] if threshold else ["quorum none"]
    return "".join(f"{line}\n" for line in lines)


def policy(threshold: int = 2, urls: Iterable[str] = ()) -> Policy:
    return Policy.parse(policy_text(threshold, urls).encode())


def write_policy(path: Path, threshold: int = 2, urls: Iterable[str] = ()) -> Path:
    path.write_text(policy_text(threshold, urls))
    return path


def entry(index: int) -> bytes:
    """Bytes that anyone can make, of lengths 0 to 40."""
    return hashlib.sha256(f"entry {index}".encode()).hexdigest()[: index % 41].encode()


def grow(log: Log, size: int, entries: Iterable[bytes] | None = None, time: int = TIME, cosigned: int = 3) -> Note:
    """Append up to `size` and publish with that many cosignatures."""
    source = iter(entries) if entries is not None else (entry(index) for index in range(log.size, size))
    while log.size < size:
        log.append(next(source))
    note = log.sign(time)
    log.publish(note, [witness.cosign(note.text, time + 1) for witness in WITNESSES[:cosigned]])
    return note


def write(folder: Path, size: int) -> Log:
    """A log of that size."""
    log = Log.open_(Folder(folder), LOG_KEY)
    grow(log, size)
    return log


def messages(*histories: History) -> list[Message]:
    """Their messages as a stream would hold them, one history after the other."""
    stored = [(subjects.history(history.pod), raw) for history in histories for raw in history.raw]
    return [Message(sequence, subject, raw) for sequence, (subject, raw) in enumerate(stored, 1)]


def write_messages(folder: Path, found: Iterable[Message], cosigned: int = 3) -> Log:
    """A log of these messages, as the writer would write it."""
    log = Log.open_(Folder(folder), LOG_KEY)
    for message in found:
        if len(message.raw) > MAX_INLINE_BYTES:
            log.keep(message.raw)
        log.append(Entry.of(message).encode())
    grow(log, log.size, cosigned=cosigned)
    return log
