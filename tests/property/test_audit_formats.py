"""The audit log's formats for all inputs: trees of any size, and whatever anybody may hand to a parser."""

from __future__ import annotations

import hashlib
from collections.abc import Callable

import pytest
from hypothesis import assume, given
from hypothesis import strategies as st

from orchestrator.audit import merkle
from orchestrator.audit.checkpoint import Checkpoint
from orchestrator.audit.entry import Entry, Message
from orchestrator.audit.merkle import check_consistency, check_inclusion, leaf_hash
from orchestrator.audit.note import Note, SigningKey, VerifierKey, parse_signatures
from orchestrator.audit.policy import Policy
from orchestrator.audit.proof import LogProof
from orchestrator.audit.tiles import ENTRIES, Tile, TileNodes, decode_entries, decode_hashes, encode_entries, tiles_of
from orchestrator.audit.tree import Edge
from orchestrator.faults import Code, Permanent
from tests.simulators.audit_logs import LOG_KEY, WITNESS_KEYS

SIZES = st.integers(1, 1500)
GRAINS = (b"\n", b"\n\n", b" ", b"+", "— ".encode(), b"log ", b"index ", b"c2sp.org/tlog-proof@v1", b"0", b"AAAA", b"=")
PIECES = st.lists(st.one_of(st.binary(max_size=6), st.sampled_from(GRAINS)), max_size=30).map(b"".join)
NOTE_TEXT = Checkpoint("o", 3, bytes(32)).text()
SEEDS = (
    Note(NOTE_TEXT, (LOG_KEY.sign(NOTE_TEXT),)).encode(),
    LogProof(1, (bytes(32),), Note(NOTE_TEXT, (LOG_KEY.sign(NOTE_TEXT),))).encode(),
    f"log {LOG_KEY.verifier()}\nwitness w {WITNESS_KEYS[0]}\nquorum w\n".encode(),
    b"tile/0/x001/000.p/7",
    str(LOG_KEY.verifier()).encode(),
    Entry.of(Message(1, "ev.0.p", b"x")).encode(),
)


@st.composite
def nearly(draw: st.DrawFn) -> bytes:
    """Something right with a piece of it replaced."""
    seed = draw(st.sampled_from(SEEDS))
    start, end = sorted((draw(st.integers(0, len(seed))), draw(st.integers(0, len(seed)))))
    return seed[:start] + draw(PIECES) + seed[end if draw(st.booleans()) else start :]


def text(parse: Callable[[str], object]) -> Callable[[bytes], object]:
    return lambda raw: parse(raw.decode("utf-8", "replace"))


PARSERS: dict[str, tuple[Callable[[bytes], object], Code]] = {
    "note": (Note.parse, Code.AUDIT_FORMAT),
    "signatures": (text(parse_signatures), Code.AUDIT_FORMAT),
    "verifier key": (text(VerifierKey.parse), Code.AUDIT_FORMAT),
    "signing key": (text(SigningKey.parse), Code.AUDIT_FORMAT),
    "checkpoint": (text(Checkpoint.parse), Code.AUDIT_FORMAT),
    "policy": (Policy.parse, Code.AUDIT_FORMAT),
    "proof": (LogProof.parse, Code.AUDIT_FORMAT),
    "tile path": (text(Tile.parse), Code.AUDIT_FORMAT),
    "hashes": (lambda raw: decode_hashes(raw, Tile(0, 0, 3)), Code.AUDIT_TILE),
    "entries": (lambda raw: decode_entries(raw, Tile(ENTRIES, 0, 3)), Code.AUDIT_TILE),
    "entry": (Entry.decode, Code.AUDIT_ENTRY),
}


@pytest.mark.parametrize("parser", PARSERS)
@given(raw=st.one_of(PIECES, nearly()))
def test_a_parser_raises_its_one_fault_or_nothing(parser: str, raw: bytes) -> None:
    parse, code = PARSERS[parser]
    told: Permanent | None = None
    try:
        parse(raw)
    except Permanent as fault:
        told = fault
    assert told is None or (told.code is code and len(told.diagnostics()) < 2000)


@given(raw=st.one_of(PIECES, nearly()))
def test_what_is_read_is_written_the_same(raw: bytes) -> None:
    for parse in (Note.parse, LogProof.parse, Entry.decode):
        try:
            read = parse(raw)
        except Permanent:
            continue
        assert read.encode() == raw


def tree(size: int) -> tuple[list[bytes], TileNodes, bytes]:
    """Leaf hashes, nodes read from the tiles that an edge handed out, and the edge's root."""
    leaves = [leaf_hash(f"leaf {number}".encode()) for number in range(size)]
    edge, tiles = Edge(), {}
    for leaf in leaves:
        tiles.update(edge.append(leaf))
    tiles.update(edge.partial())
    assert set(tiles) == set(tiles_of(size))
    return leaves, TileNodes(tiles.__getitem__, size), edge.root()


def defined_root(leaves: list[bytes]) -> bytes:
    """RFC 6962 section 2.1, as written."""
    if len(leaves) < 2:
        return leaves[0] if leaves else hashlib.sha256(b"").digest()
    k = 1 << ((len(leaves) - 1).bit_length() - 1)
    return hashlib.sha256(b"\1" + defined_root(leaves[:k]) + defined_root(leaves[k:])).digest()


@given(size=SIZES)
def test_the_edges_root_is_the_definitions(size: int) -> None:
    leaves, nodes, root = tree(size)
    assert root == defined_root(leaves) == merkle.tree_root(nodes, size)


@given(size=SIZES, data=st.data())
def test_every_entry_is_included_and_nothing_else(size: int, data: st.DataObject) -> None:
    leaves, nodes, root = tree(size)
    index, other = data.draw(st.integers(0, size - 1)), data.draw(st.integers(0, size - 1))
    proof = merkle.prove_inclusion(nodes, index, size)
    check_inclusion(leaves[index], index, size, proof, root)
    assume(index != other)
    with pytest.raises(Permanent):
        check_inclusion(leaves[other], index, size, proof, root)
    with pytest.raises(Permanent):
        check_inclusion(leaves[index], other, size, proof, root)


@given(size=SIZES, data=st.data())
def test_every_former_tree_is_continued_and_no_other(size: int, data: st.DataObject) -> None:
    _, nodes, root = tree(size)
    old, other = data.draw(st.integers(0, size)), data.draw(st.integers(0, size))
    old_root = merkle.tree_root(nodes, old)
    proof = merkle.prove_consistency(nodes, old, size)
    check_consistency(old, old_root, size, root, proof)
    assume(other not in (old, 0))
    with pytest.raises(Permanent):
        check_consistency(other, old_root, size, root, proof)


@given(size=SIZES)
def test_an_edge_that_is_loaded_goes_on_as_the_one_that_was_kept(size: int) -> None:
    edge, tiles = Edge(), {}
    for number in range(size):
        tiles.update(edge.append(leaf_hash(b"%d" % number)))
    tiles.update(edge.partial())
    loaded = Edge.load(tiles.__getitem__, size)
    for number in range(size, size + 300):
        assert loaded.append(leaf_hash(b"%d" % number)) == edge.append(leaf_hash(b"%d" % number))
    assert loaded.root() == edge.root()


@given(entries=st.lists(st.binary(max_size=300), min_size=1, max_size=256))
def test_a_bundle_reads_back(entries: list[bytes]) -> None:
    tile = Tile(ENTRIES, 0, len(entries))
    raw = encode_entries(entries)
    assert decode_entries(raw, tile) == entries
    for wrong in (raw + b"\0", raw[:-1]):
        with pytest.raises(Permanent):
            decode_entries(wrong, tile)
