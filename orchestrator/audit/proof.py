"""Proofs that travel (c2sp.org/tlog-proof): one entry's index and path, and the checkpoint they lead to.

Zone: any. May import: `orchestrator.audit.{checkpoint,malformed,merkle,note,policy}`. Pure.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Final, Self

from orchestrator.audit.malformed import canonical_base64, decimal, encode_base64, malformed
from orchestrator.audit.merkle import HASH_BYTES, MAX_PROOF_HASHES, check_inclusion, leaf_hash
from orchestrator.audit.note import MAX_NOTE_BYTES, Note
from orchestrator.audit.policy import Accepted, Policy

HEADER: Final = "c2sp.org/tlog-proof@v1"
MAX_PROOF_BYTES: Final = MAX_NOTE_BYTES + 2 * MAX_NOTE_BYTES
"""A checkpoint, a path of 63 lines and as much extra data as anybody needs; ours has none."""


@dataclass(frozen=True, slots=True)
class LogProof:
    """That an entry is at `index`: the siblings on its way to the root, leaf's first, and the checkpoint's note.

    `extra` is opaque and authenticated by nothing.
    """

    index: int
    path: tuple[bytes, ...]
    checkpoint: Note
    extra: bytes | None = None

    @classmethod
    def parse(cls, raw: bytes) -> Self:
        """Read a .tlog-proof file. Raises Permanent(AUDIT_FORMAT)."""
        if len(raw) > MAX_PROOF_BYTES:
            raise malformed("the proof", f"at most {MAX_PROOF_BYTES} bytes", f"{len(raw)} bytes")
        head, blank, note = raw.partition(b"\n\n")
        try:
            header, *lines = head.decode("ascii").split("\n")
        except UnicodeDecodeError:
            raise malformed("the proof", "ASCII before the checkpoint", "other bytes") from None
        if header != HEADER or not blank:
            raise malformed("the proof", f"{HEADER} and a checkpoint after an empty line", header)
        extra = None
        if lines and lines[0].startswith("extra "):
            extra = canonical_base64(lines.pop(0).removeprefix("extra "), "the proof's extra data")
        if not lines or not lines[0].startswith("index "):
            raise malformed("the proof", "a line index N", lines[0] if lines else "none")
        index = decimal(lines.pop(0).removeprefix("index "), "the proof's index")
        if len(lines) > MAX_PROOF_HASHES:
            raise malformed("the proof", f"at most {MAX_PROOF_HASHES} hashes", f"{len(lines)}")
        path = tuple(canonical_base64(line, "a hash of the proof", HASH_BYTES) for line in lines)
        return cls(index, path, Note.parse(note), extra)

    def encode(self) -> bytes:
        """The bytes that `parse` reads."""
        extra = [] if self.extra is None else [f"extra {encode_base64(self.extra)}"]
        lines = [HEADER, *extra, f"index {self.index}", *map(encode_base64, self.path), "", ""]
        return "\n".join(lines).encode() + self.checkpoint.encode()

    def verify(self, entry: bytes, policy: Policy) -> Accepted:
        """Check that `entry` is in the log at this index.

        Raises Permanent: AUDIT_FORMAT, AUDIT_SIGNATURE, AUDIT_QUORUM for the checkpoint, AUDIT_INCLUSION for the path.
        """
        accepted = policy.accept(self.checkpoint)
        self.lead(entry, accepted)
        return accepted

    def lead(self, entry: bytes, accepted: Accepted) -> None:
        """Check the path alone, towards a checkpoint that a policy accepted. Raises Permanent(AUDIT_INCLUSION)."""
        tree = accepted.checkpoint
        check_inclusion(leaf_hash(entry), self.index, tree.size, self.path, tree.root)
