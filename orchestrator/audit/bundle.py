"""The proof of one launch as one file: its entries, the inclusion of each, the checkpoint that they lead to.

Zone: any. May import: `orchestrator`, the standard library. Pure: bytes in, bytes out.

A ZIP archive with these members and no other, so that each part is also of use to other tools:

    README.txt                what this is and what it does not prove
    checkpoint                the signed note
    policy                    whom the bundle's maker believed: to compare, never to trust
    entries/<index>.json      a leaf's exact bytes
    proofs/<index>.tlog-proof c2sp.org/tlog-proof@v1, all with the one checkpoint
    evidence/<sha256>         messages too large for their leaf

Checks, in order:

1. The archive has these members, within bounds, and they read.
2. The checkpoint is signed by the log and witnessed, by the verifier's own policy.
3. Every entry is in the log at its index.
4. Every entry says what its envelope says, is about this launch, and they stand in the order of the stream.
5. The launch's chain is whole from its first fact, the enclave's facts are signed, the quote binds their key.
6. The quote is genuine under the root that was given.
"""

from __future__ import annotations

import io
import re
import struct
import zipfile
import zlib
from collections.abc import Iterable
from dataclasses import dataclass
from typing import Final

from orchestrator.audit import merkle
from orchestrator.audit.entry import Entry, rfc3339
from orchestrator.audit.malformed import malformed
from orchestrator.audit.note import MAX_NOTE_BYTES, Note
from orchestrator.audit.policy import MAX_POLICY_BYTES, Accepted, Policy
from orchestrator.audit.proof import MAX_PROOF_BYTES, LogProof
from orchestrator.audit.reader import LogReader
from orchestrator.audit.report import Examination, Report
from orchestrator.audit.search import Found
from orchestrator.audit.tiles import MAX_ENTRY_BYTES
from orchestrator.events import MAX_FACT_BYTES, Foreign, Recorded
from orchestrator.faults import Code, Permanent
from orchestrator.verify import Verified, verify

MAX_MEMBERS: Final = 20_000
MAX_BYTES: Final = 256 << 20
_DATE: Final = (1980, 1, 1, 0, 0, 0)
_INDEXED: Final = re.compile(r"(?P<folder>entries|proofs)/(?P<index>0|[1-9][0-9]{0,18})\.(?:json|tlog-proof)", re.ASCII)
_EVIDENCE: Final = re.compile(r"evidence/[0-9a-f]{64}", re.ASCII)
_BOUNDS: Final = {
    "README.txt": 64 * 1024,
    "checkpoint": MAX_NOTE_BYTES,
    "policy": MAX_POLICY_BYTES,
    "entries": MAX_ENTRY_BYTES,
    "proofs": MAX_PROOF_BYTES,
    "evidence": MAX_FACT_BYTES,
}
README: Final = """\
The audit proof of one launch of enclave-cc.

    enclave-cc audit verify THIS_FILE --policy POLICY

checks it offline. POLICY names the log's key and its witnesses: get it from whoever you trust for that, not from here.

entries/N.json is the log's entry N, proofs/N.tlog-proof (c2sp.org/tlog-proof@v1) that it is in the log. What this does
not prove: that no fact of this launch came after the last one here; that what the untrusted host stated is true; and,
without a root and collateral, that the quote was made by a genuine CPU. The verifier says the same with each verdict.
"""


@dataclass(frozen=True, slots=True)
class Proved:
    """One entry of the launch with its proof."""

    leaf: bytes
    proof: LogProof


@dataclass(frozen=True, slots=True)
class Bundle:
    """What is in the file. `policy` is its maker's, as bytes; nobody should believe it."""

    checkpoint: Note
    policy: bytes
    entries: tuple[Proved, ...]
    evidence: dict[str, bytes]

    @classmethod
    def parse(cls, raw: bytes) -> Bundle:
        """Read the archive. Raises Permanent(AUDIT_FORMAT)."""
        members = _members(raw)
        if missing := {"README.txt", "checkpoint", "policy"} - members.keys():
            raise malformed("the bundle", "README.txt, checkpoint and policy", f"no {min(missing)}")
        indices = sorted(int(name[8:-5]) for name in members if name.startswith("entries/"))
        if len(indices) != sum(name.startswith("proofs/") for name in members):
            raise malformed("the bundle", "one proof an entry", "another number of proofs")
        checkpoint = Note.parse(members["checkpoint"])
        entries = []
        for index in indices:
            proof = LogProof.parse(members.get(f"proofs/{index}.tlog-proof", b""))
            if proof.index != index or proof.checkpoint != checkpoint:
                raise malformed("the bundle", f"a proof of entry {index} to its one checkpoint", "another")
            entries.append(Proved(members[f"entries/{index}.json"], proof))
        evidence = {name.partition("/")[2]: data for name, data in members.items() if name.startswith("evidence/")}
        return cls(checkpoint, members["policy"], tuple(entries), evidence)

    def encode(self) -> bytes:
        """The archive: the same bytes for the same parts."""
        whole = io.BytesIO()
        with zipfile.ZipFile(whole, "w", zipfile.ZIP_DEFLATED, compresslevel=9) as archive:
            for name, data in self._parts():
                archive.writestr(zipfile.ZipInfo(name, _DATE), data, zipfile.ZIP_DEFLATED)
        return whole.getvalue()

    def _parts(self) -> Iterable[tuple[str, bytes]]:
        yield "README.txt", README.encode()
        yield "checkpoint", self.checkpoint.encode()
        yield "policy", self.policy
        for proved in self.entries:
            yield f"entries/{proved.proof.index}.json", proved.leaf
            yield f"proofs/{proved.proof.index}.tlog-proof", proved.proof.encode()
        for digest, data in sorted(self.evidence.items()):
            yield f"evidence/{digest}", data


def _members(raw: bytes) -> dict[str, bytes]:
    """Every member by name. Sizes are the directory's word until read: reading stops at the bound."""
    if len(raw) > MAX_BYTES:
        raise malformed("the bundle", f"at most {MAX_BYTES} bytes", f"{len(raw)} bytes")
    members: dict[str, bytes] = {}
    left = MAX_BYTES
    try:
        with zipfile.ZipFile(io.BytesIO(raw)) as archive:
            listed = archive.infolist()
            # The directory's own count: a length altered within it would hide the members that it swallows.
            (counted,) = struct.unpack_from("<H", raw, len(raw) - 12)
            if counted != len(listed) or archive.comment or any(member.comment or member.extra for member in listed):
                raise malformed("the bundle", f"{counted} members and nothing between them", f"{len(listed)}")
            if len(listed) > MAX_MEMBERS:
                raise malformed("the bundle", f"at most {MAX_MEMBERS} members", f"{len(listed)}")
            for member in listed:
                name, bound = member.filename, _bound(member.filename)
                with archive.open(member) as file:
                    data = file.read(bound + 1)
                left -= len(data)
                if len(data) > bound or left < 0 or name in members:
                    raise malformed("the bundle", f"{name} once, of at most {bound} bytes", "more")
                members[name] = data
    # zipfile tells an unknown compression by NotImplementedError, an encrypted member by RuntimeError.
    except (zipfile.BadZipFile, NotImplementedError, RuntimeError, EOFError, ValueError, OSError, zlib.error) as error:
        raise malformed("the bundle", "a ZIP archive", type(error).__name__) from None
    return members


def _bound(name: str) -> int:
    match = _INDEXED.fullmatch(name)
    known = match["folder"] if match else "evidence" if _EVIDENCE.fullmatch(name) else name
    suffix = {"entries": ".json", "proofs": ".tlog-proof"}.get(known, "")
    if known not in _BOUNDS or not name.endswith(suffix) or (known in {"entries", "proofs"} and not match):
        raise malformed("the bundle", "only the members of its format", name)
    return _BOUNDS[known]


def prove(pod: str, found: Iterable[Found], reader: LogReader, accepted: Accepted, policy: bytes) -> Bundle:
    """The bundle of a launch whose entries were `found` in the log of the checkpoint that was accepted.

    Raises Permanent: NOT_FOUND when there is no entry of it, AUDIT_TILE.
    """
    note, size = reader.checkpoint(), accepted.checkpoint.size
    nodes = reader.nodes(size)
    entries, evidence = [], {}
    for one in found:
        path = merkle.prove_inclusion(nodes, one.index, size)
        entries.append(Proved(one.leaf, LogProof(one.index, path, note)))
        kept = reader.evidence(one.entry)
        if kept is not None:
            evidence[one.entry.envelope_sha256] = kept
    if not entries:
        raise Permanent(
            Code.NOT_FOUND,
            f"the log has nothing about {pod}",
            expected="a pod's id, as `enclave-cc audit search` shows it",
            got=f"no entry among {size}",
        )
    return Bundle(note, policy, tuple(entries), evidence)


def verify_bundle(
    raw: bytes, policy: Policy, *, root_der: bytes | None = None, collateral: str | None = None
) -> Report:
    """Checks 1 to 6, of which the last needs a root and collateral. Never raises for what is wrong with the bundle."""
    examination = Examination()
    bundle = examination.ask(1, "the bundle reads", lambda _: Bundle.parse(raw))
    if bundle is None:
        return examination.report()
    accepted = examination.ask(
        2, "the checkpoint is signed by the log and witnessed", lambda _: policy.accept(bundle.checkpoint)
    )
    if accepted is None:
        return examination.report()
    examination.ask(3, "every entry is in the log", lambda _: _check_inclusion(bundle, accepted))
    told = examination.ask(4, "every entry says what its envelope says", lambda _: _history(bundle))
    if told is None or not examination.passed:
        return examination.report()
    pod, history = told
    verified = examination.ask(5, "the chain is whole and the enclave signed", lambda _: verify(pod, history))
    if verified is not None and root_der is not None and collateral is not None:
        verified = examination.ask(
            6, "the quote is genuine", lambda _: verify(pod, history, root_der=root_der, collateral=collateral)
        )
    if verified is not None:
        _conclude(pod, bundle, accepted, verified, examination)
    return examination.report()


def _check_inclusion(bundle: Bundle, accepted: Accepted) -> None:
    for proved in bundle.entries:
        proved.proof.lead(proved.leaf, accepted)


def _history(bundle: Bundle) -> tuple[str, list[Recorded | Foreign]]:
    """The pod and its messages. Raises Permanent(AUDIT_ENTRY, NOT_FOUND)."""
    pod, last = "", 0
    history: list[Recorded | Foreign] = []
    for proved in bundle.entries:
        entry = Entry.decode(proved.leaf)
        of = entry.subject.rpartition(".")[2]
        if of != (pod or of) or entry.sequence <= last:
            raise Permanent(
                Code.AUDIT_ENTRY,
                f"entry {proved.proof.index} does not belong into this bundle",
                expected=f"a later message of pod {pod or 'ID'}",
                got=f"message {entry.sequence} on {entry.subject}",
                advice="whoever made the bundle put other entries into it",
            )
        pod, last = of, entry.sequence
        history.append(entry.check(bundle.evidence.get(entry.envelope_sha256)))
    if not pod:
        raise Permanent(Code.NOT_FOUND, "the bundle has no entry", expected="at least one fact", got="none")
    return pod, history


def _conclude(pod: str, bundle: Bundle, accepted: Accepted, verified: Verified, examination: Examination) -> None:
    tree = accepted.checkpoint
    witnesses = ", ".join(f"{name} at {rfc3339(time * 10**9)}" for name, time in accepted.witnesses.items())
    examination.proved += [
        f"{len(bundle.entries)} entries about {pod} are in {tree.origin} at size {tree.size}",
        f"its checkpoint was cosigned by {witnesses}" if witnesses else "its checkpoint was signed by the log alone",
        *verified.proved,
    ]
    if not witnesses:
        examination.not_proved.append("that others are shown the same log: no witness cosigned the checkpoint")
    examination.not_proved += verified.not_proved
