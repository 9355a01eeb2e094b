"""Verifying a whole log offline, and its entries against each other.

Zone: any; an auditor needs the log's files and its keys, nothing else. May import: `orchestrator`.

Checks, in order. Without the first nothing is believed and the rest is not made; each other finds what it can.

1. The checkpoint is signed by the log's key and by the quorum of witnesses that the policy asks for.
2. It is not older than the auditor allows.
3. It continues every checkpoint that the auditor has kept: nothing was rewound, rewritten or shown otherwise.
4. Every tile leads to its root.
5. Every entry is the one that the tree has at its index.
6. Every entry is in our form, and its summary is what its envelope says.
7. The entries' places in the event stream follow one another: none is missing, none stands twice.
8. Every pod's chain is whole, and every enclave's fact is signed by the key that the launch's quote binds.
9. The event stream holds the same messages still (`orchestrator.audit.divergence`; needs the bus).

`fsck` makes 1 to 5, which is what any log of this format allows; `verify_log` makes 1 to 8.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from hashlib import sha256

from orchestrator.audit.checkpoint import Checkpoint
from orchestrator.audit.contents import Contents
from orchestrator.audit.merkle import check_consistency, complete_root
from orchestrator.audit.note import Note
from orchestrator.audit.policy import Accepted, Policy
from orchestrator.audit.reader import LogReader
from orchestrator.audit.report import Examination, Findings, Report
from orchestrator.audit.tiles import HEIGHT, WIDTH, Tile, altered, bundles_of, decode_hashes, width_at
from orchestrator.audit.tree import Edge
from orchestrator.faults import Code, Fault, Permanent

_CLOCK_SKEW = 300
"""Seconds that a checkpoint may lie in the future."""


@dataclass(frozen=True, slots=True)
class Auditor:
    """What an auditor brings: whom to believe, what they saw before, and how old news may be.

    `kept` are checkpoints as notes, believed under the same policy. `now` and `max_age` are seconds; None: any age.
    """

    policy: Policy
    kept: Sequence[Note] = ()
    now: float = 0.0
    max_age: float | None = None


def fsck(reader: LogReader, auditor: Auditor) -> Report:
    """Checks 1 to 5."""
    examination = Examination()
    _structure(reader, auditor, examination)
    return examination.report()


def verify_log(reader: LogReader, auditor: Auditor) -> Report:
    """Checks 1 to 8."""
    examination = Examination()
    accepted = _structure(reader, auditor, examination)
    if accepted is not None:
        _contents(reader, accepted.checkpoint.size, examination)
    return examination.report()


def _structure(reader: LogReader, auditor: Auditor, examination: Examination) -> Accepted | None:
    accepted = examination.ask(
        1, "the checkpoint is signed by the log and witnessed", lambda _: auditor.policy.accept(reader.checkpoint())
    )
    if accepted is None:
        return None
    tree = accepted.checkpoint
    if auditor.max_age is not None:
        examination.ask(2, "the checkpoint is fresh", lambda _: _check_age(accepted, auditor))
    examination.ask(3, "it continues every checkpoint kept", lambda found: _check_growth(reader, tree, auditor, found))
    examination.ask(4, "every tile leads to its root", lambda found: _check_tiles(reader, tree, found))
    examination.ask(5, "every entry is the tree's", lambda found: _check_entries(reader, tree.size, found))
    signers = ", ".join(accepted.witnesses) or "no witness"
    examination.proved.append(f"{tree.origin} committed to exactly these {tree.size} entries; cosigned by {signers}")
    if auditor.kept:
        examination.proved.append(f"nothing that the {len(auditor.kept)} kept checkpoints cover was changed since")
    else:
        examination.not_proved.append("that nothing was rewritten before: no earlier checkpoint was given (--kept)")
    if not accepted.witnesses:
        examination.not_proved.append("that others are shown the same log: no witness cosigned this checkpoint")
    examination.not_proved.append("that everything that happened was stated: a log holds what came to it")
    return accepted


def checkpoint_time(accepted: Accepted) -> int | None:
    """The newest time that anybody states for the checkpoint, in seconds since 1970."""
    return max([accepted.log_time or 0, *accepted.witnesses.values()]) or None


def _check_age(accepted: Accepted, auditor: Auditor) -> None:
    told = checkpoint_time(accepted)
    oldest = auditor.now - (auditor.max_age or 0)
    if told is None or not oldest <= told <= auditor.now + _CLOCK_SKEW:
        raise Permanent(
            Code.AUDIT_ROLLBACK,
            "the checkpoint is stale: the log has stopped, or newer ones are withheld",
            expected=f"a time from {oldest:.0f} on",
            got="no time" if told is None else str(told),
            advice="see whether `enclave-cc audit run` runs; ask a witness for the newest checkpoint it cosigned",
        )


def _check_growth(reader: LogReader, tree: Checkpoint, auditor: Auditor, findings: Findings) -> None:
    for note in auditor.kept:
        try:
            old = auditor.policy.accept(note).checkpoint
            proof = reader.prove_consistency(old.size, tree.size) if old.size <= tree.size else ()
            check_consistency(old.size, old.root, tree.size, tree.root, proof)
        except Fault as fault:
            findings.add(fault)
    findings.told = f"{len(auditor.kept)} kept"


def _check_tiles(reader: LogReader, tree: Checkpoint, findings: Findings) -> None:
    """From the top down: each tile is judged by a hash that was judged before."""
    edge = Edge.load(reader.tile, tree.size)
    if edge.root() != tree.root:
        at = Tile(0, tree.size // WIDTH, tree.size % WIDTH or WIDTH)
        raise altered(at, f"root {tree.root.hex()} from the partial tiles", edge.root().hex())
    levels, count = (tree.size.bit_length() - 1) // HEIGHT if tree.size else 0, 0
    for level in range(levels - 1, -1, -1):
        parents: list[bytes] = []
        for index in range((tree.size >> HEIGHT * (level + 1)) // WIDTH + 1):
            width = width_at(level + 1, index, tree.size)
            if width:
                parents += _hashes(reader, Tile(level + 1, index, width), findings)
        for index, parent in enumerate(parents):
            tile = Tile(level, index)
            hashes = _hashes(reader, tile, findings)
            if hashes and parent and complete_root(hashes) != parent:
                findings.add(altered(tile, f"hash {parent.hex()}", complete_root(hashes).hex()))
            count += 1
    findings.told = f"{count} full tiles"


def _hashes(reader: LogReader, tile: Tile, findings: Findings) -> list[bytes]:
    try:
        return decode_hashes(reader.tile(tile), tile)
    except Permanent as fault:
        findings.add(fault)
        return [b""] * tile.width if tile.level else []


def _check_entries(reader: LogReader, size: int, findings: Findings) -> None:
    for bundle in bundles_of(size):
        leaves = Tile(0, bundle.index, bundle.width)
        try:
            entries = reader.bundle(bundle)
            stored = reader.tile(leaves)
        except Permanent as fault:
            findings.add(fault)
            continue
        if b"".join([sha256(b"\x00" + entry).digest() for entry in entries]) != stored:
            findings.add(_another_entry(entries, decode_hashes(stored, leaves), bundle))
    findings.told = f"{size} entries"


def _another_entry(entries: list[bytes], leaves: list[bytes], bundle: Tile) -> Permanent:
    made = [sha256(b"\x00" + entry).digest() for entry in entries]
    at = next(number for number, leaf in enumerate(leaves) if made[number] != leaf)
    elsewhere = made[at] in leaves
    return Permanent(
        Code.AUDIT_INCLUSION,
        f"entry {bundle.index * WIDTH + at} is not the one that the tree has there",
        expected=f"leaf {leaves[at].hex()}",
        got=f"leaf {made[at].hex()}" + (", which belongs elsewhere in the bundle" if elsewhere else ""),
        advice=f"{bundle.path} was altered: restore it from a copy, or make it anew from the event stream",
    )


def _contents(reader: LogReader, size: int, examination: Examination) -> None:
    contents = Contents(reader)
    examination.ask(6, "every entry says what its envelope says", lambda _: contents.read(size))
    whole = examination.checks.pop()  # a bundle that cannot be read ends the reading of all three
    contents.form.faults += whole.faults
    examination.conclude(6, whole.asks, contents.form)
    examination.conclude(7, "no message of the stream is missing or stands twice", contents.order)
    examination.conclude(8, "every pod's chain holds and enclaves signed their facts", contents.chains)
    examination.proved.append(f"{contents.pods} histories are whole; {contents.signed} facts were signed by enclaves")
    examination.not_proved.append("that quotes come from genuine CPUs: `audit verify` of one launch's bundle checks it")
