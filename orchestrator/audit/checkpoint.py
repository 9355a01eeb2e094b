"""Checkpoints (c2sp.org/tlog-checkpoint): origin, size and root of a log, as a signed note's text.

Zone: any. May import: `orchestrator.audit.{malformed,merkle,note}`. Pure.

Ours carry no extension lines, which the specification calls not recommended, and none are taken: nobody could audit
them.
"""

from __future__ import annotations

import re
from dataclasses import dataclass
from typing import Final, Self

from orchestrator.audit.malformed import canonical_base64, decimal, encode_base64, malformed
from orchestrator.audit.merkle import EMPTY_ROOT, HASH_BYTES

ORIGIN: Final = re.compile(r"[!-*,-~]{1,255}", re.ASCII)
"""Printable ASCII without space and plus, so that it can be the key's name too."""


@dataclass(frozen=True, slots=True)
class Checkpoint:
    """The log named `origin` had `size` entries and this root, 32 bytes. Who says so is the note's business."""

    origin: str
    size: int
    root: bytes

    @classmethod
    def parse(cls, text: str) -> Self:
        """The text of a note. Raises Permanent(AUDIT_FORMAT)."""
        lines = text.split("\n")
        if len(lines) != 4 or lines[3] or not ORIGIN.fullmatch(lines[0]):
            raise malformed("the checkpoint", "three lines: origin, size, root", text)
        size = decimal(lines[1], "the checkpoint's size")
        root = canonical_base64(lines[2], "the checkpoint's root", HASH_BYTES)
        if size == 0 and root != EMPTY_ROOT:
            raise malformed("the checkpoint", "the empty tree's root at size 0", lines[2])
        return cls(lines[0], size, root)

    def text(self) -> str:
        """What is signed."""
        return f"{self.origin}\n{self.size}\n{encode_base64(self.root)}\n"
