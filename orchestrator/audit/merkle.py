"""Merkle trees of RFC 6962 section 2.1: hashes, inclusion and consistency proofs, made and checked.

Zone: any. May import: `orchestrator.faults`, the standard library. Pure.

A node is named by (level, index): the root of the complete subtree over leaves `index << level` up to
`(index + 1) << level`. Whoever makes a proof supplies a reader of such nodes; `orchestrator.audit.tiles` has one.

A check raises, it never answers False. What it does not say: that the root is anybody's; a root is worth what the
signatures on its checkpoint are worth.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator, Sequence
from hashlib import sha256
from typing import Final, TypeAlias

from orchestrator.faults import Code, Permanent

HASH_BYTES: Final = 32
EMPTY_ROOT: Final = sha256(b"").digest()
MAX_PROOF_HASHES: Final = 63
"""A tree has fewer than 2^63 leaves; no honest proof is longer."""

ReadNode: TypeAlias = Callable[[int, int], bytes]
"""(level, index) -> hash of that complete subtree."""


def leaf_hash(entry: bytes) -> bytes:
    """SHA-256(0x00 || entry)."""
    return sha256(b"\x00" + entry).digest()


def node_hash(left: bytes, right: bytes) -> bytes:
    """SHA-256(0x01 || left || right)."""
    return sha256(b"\x01" + left + right).digest()


def complete_root(hashes: Sequence[bytes]) -> bytes:
    """The root over 2^k hashes of equal height; with any other number of them the result means nothing."""
    row = list(hashes)
    while len(row) > 1:
        pairs = iter(row)
        row = [sha256(b"\x01" + left + right).digest() for left, right in zip(pairs, pairs, strict=True)]
    return row[0]


def join(subtrees: Sequence[bytes]) -> bytes:
    """The root over complete subtrees of falling heights, as `covering` names them. None: the empty tree."""
    if not subtrees:
        return EMPTY_ROOT
    root = subtrees[-1]
    for left in reversed(subtrees[:-1]):
        root = node_hash(left, root)
    return root


def covering(start: int, end: int) -> Iterator[tuple[int, int]]:
    """The complete subtrees (level, index) of RFC 6962's MTH(D[start:end]), left to right.

    Only for ranges that the RFC's own splits make: `start` is a multiple of the largest power of two below the length.
    """
    while start < end:
        level = (end - start).bit_length() - 1
        yield level, start >> level
        start += 1 << level


def tree_root(read: ReadNode, size: int) -> bytes:
    """The root of the tree's first `size` leaves."""
    return _range_root(read, 0, size)


def prove_inclusion(read: ReadNode, index: int, size: int) -> tuple[bytes, ...]:
    """RFC 6962 2.1.1 PATH(index, D[size]), the leaf's sibling first. Raises ValueError for an index outside."""
    if not 0 <= index < size:
        raise ValueError(f"index {index} is not in a tree of {size}")
    start, end, siblings = 0, size, []
    while end - start > 1:
        middle = start + _split(end - start)
        if index < middle:
            siblings.append((middle, end))
            end = middle
        else:
            siblings.append((start, middle))
            start = middle
    return tuple(_range_root(read, *sibling) for sibling in reversed(siblings))


def prove_consistency(read: ReadNode, old: int, new: int) -> tuple[bytes, ...]:
    """RFC 6962 2.1.2 PROOF(old, D[new]). Empty from 0 and between equal sizes. Raises ValueError for old > new."""
    if not 0 <= old <= new:
        raise ValueError(f"{old} is not a former size of a tree of {new}")
    if old in (0, new):
        return ()
    start, end, ranges = 0, new, []
    while old < end:
        middle = start + _split(end - start)
        if old <= middle:
            ranges.append((middle, end))
            end = middle
        else:
            ranges.append((start, middle))
            start = middle
    if start:
        ranges.append((start, end))
    return tuple(_range_root(read, *part) for part in reversed(ranges))


def check_inclusion(leaf: bytes, index: int, size: int, proof: Sequence[bytes], root: bytes) -> None:
    """RFC 9162 2.1.3.2 for the leaf's hash. Raises Permanent(AUDIT_INCLUSION)."""
    if not 0 <= index < size:
        raise _not_included(f"an index below the tree's size {size}", f"index {index}")
    sides = _sides(index, size - 1)
    if len(sides) != len(proof):
        raise _not_included(f"a path of {len(sides)} hashes", f"{len(proof)}")
    computed = leaf
    for sibling, is_left in zip(proof, sides, strict=True):
        computed = node_hash(sibling, computed) if is_left else node_hash(computed, sibling)
    if computed != root:
        raise _not_included(f"root {root.hex()}", f"root {computed.hex()}")


def check_consistency(old: int, old_root: bytes, new: int, new_root: bytes, proof: Sequence[bytes]) -> None:
    """RFC 9162 2.1.4.2. Raises Permanent(AUDIT_ROLLBACK) for old > new, Permanent(AUDIT_FORK) for another history."""
    if old > new:
        raise Permanent(
            Code.AUDIT_ROLLBACK,
            "the log has become smaller",
            expected=f"at least {old} entries",
            got=f"{new} entries",
            advice="it was rewound: keep both checkpoints, they prove it",
        )
    if old in (0, new):
        _check_same(old, old_root, new_root if old == new else EMPTY_ROOT, proof)
        return
    position, last = old - 1, new - 1
    while position & 1:
        position >>= 1
        last >>= 1
    # The walk starts at the largest complete subtree at the old tree's right edge; a whole old tree needs not be told.
    path = [old_root, *proof] if old & (old - 1) == 0 else list(proof)
    sides = _sides(position, last)
    if len(path) != len(sides) + 1:
        raise _forked(f"a proof of {len(sides) + 1 - len(path) + len(proof)} hashes", f"{len(proof)}")
    from_old = from_new = path[0]
    for sibling, is_left in zip(path[1:], sides, strict=True):
        if is_left:
            from_old = node_hash(sibling, from_old)
        from_new = node_hash(sibling, from_new) if is_left else node_hash(from_new, sibling)
    if from_old != old_root:
        raise _forked(f"root {old_root.hex()} at size {old}", f"root {from_old.hex()}")
    if from_new != new_root:
        raise _forked(f"root {new_root.hex()} at size {new}", f"root {from_new.hex()}")


def _check_same(size: int, old_root: bytes, expected: bytes, proof: Sequence[bytes]) -> None:
    """Equal sizes, or from the empty tree: no proof, and no other root."""
    if proof:
        raise _forked("no proof between these sizes", f"{len(proof)} hashes")
    if old_root != expected:
        raise _forked(f"root {old_root.hex()} at size {size}", f"root {expected.hex()}")


def _sides(position: int, last: int) -> list[bool]:
    """Of each sibling from node `position` of a row that ends at `last` up to the root: whether it stands left."""
    sides = []
    while last:
        if position & 1 or position == last:
            sides.append(True)
            while not position & 1:  # at the right edge: the node has no sibling on these rows
                position >>= 1
                last >>= 1
        else:
            sides.append(False)
        position >>= 1
        last >>= 1
    return sides


def _split(length: int) -> int:
    """The largest power of two smaller than `length`."""
    return 1 << ((length - 1).bit_length() - 1)


def _range_root(read: ReadNode, start: int, end: int) -> bytes:
    return join([read(level, index) for level, index in covering(start, end)])


def _not_included(expected: str, got: str) -> Permanent:
    return Permanent(
        Code.AUDIT_INCLUSION,
        "the entry is not in the log at this index",
        expected=expected,
        got=got,
        advice="the entry, its index or the proof was altered, or it belongs to another checkpoint",
    )


def _forked(expected: str, got: str) -> Permanent:
    return Permanent(
        Code.AUDIT_FORK,
        "the two checkpoints are of two different histories",
        expected=expected,
        got=got,
        advice="the log was rewritten, or shows people different views: keep both checkpoints, they prove it",
    )
