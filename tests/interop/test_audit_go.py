"""Go's sumdb note and tlog packages agree with our log, in both directions, and refuse what we refuse."""

from __future__ import annotations

import subprocess
from pathlib import Path

import pytest

from orchestrator.audit import merkle
from orchestrator.audit.checkpoint import Checkpoint
from orchestrator.audit.entry import Entry, Message
from orchestrator.audit.log import Log
from orchestrator.audit.merkle import check_consistency, check_inclusion, leaf_hash
from orchestrator.audit.note import Note
from orchestrator.audit.policy import Policy
from orchestrator.audit.proof import LogProof
from orchestrator.audit.reader import CHECKPOINT, LogReader
from orchestrator.audit.storage import Folder
from orchestrator.audit.tiles import bundles_of, tiles_of
from orchestrator.faults import Permanent
from tests.simulators.audit_logs import LOG_KEY, ORIGIN, SIZES, TIME, WITNESS_KEYS, WITNESSES, entry, policy, write
from tests.simulators.go_peer import GoPeer
from tests.simulators.history import History

pytestmark = pytest.mark.timeout(300)

KEYS = {"log": str(LOG_KEY.verifier()), "witnesses": [str(key) for key in WITNESS_KEYS], "quorum": 2}


@pytest.fixture(scope="module")
def logs(tmp_path_factory: pytest.TempPathFactory) -> dict[int, Path]:
    """Our logs, by size."""
    folder = tmp_path_factory.mktemp("logs")
    for size in SIZES:
        write(folder / str(size), size)
    return {size: folder / str(size) for size in SIZES}


def some_indices(size: int) -> list[int]:
    """All of a small tree; of a large one the edges of its tiles."""
    if size <= 257:
        return list(range(size))
    return sorted({0, 1, 254, 255, 256, 257, 511, 512, 65_535, 65_536, 65_537, size // 2, size - 2, size - 1})


def former_sizes(size: int) -> list[int]:
    if size <= 257:
        return list(range(1, size + 1))
    return sorted({1, 2, 3, 255, 256, 257, 32_768, 65_535, 65_536, 65_537, size // 2, size - 1, size})


@pytest.mark.parametrize("size", SIZES)
def test_go_reads_our_log_down_to_every_entry(go: GoPeer, logs: dict[int, Path], size: int) -> None:
    told = go.ask("fsck", dir=logs[size], **KEYS)
    accepted = policy().accept(LogReader(Folder(logs[size])).checkpoint())
    assert (told.error, told.origin, told.size, told.root) == ("", ORIGIN, size, accepted.checkpoint.root)


@pytest.mark.parametrize("size", SIZES)
def test_inclusion_proofs_are_the_same_hashes_and_verified_by_the_other(
    go: GoPeer, logs: dict[int, Path], size: int
) -> None:
    reader = LogReader(Folder(logs[size]))
    root = Checkpoint.parse(reader.checkpoint().text).root
    for index in some_indices(size):
        ours = reader.prove_inclusion(index, size)
        theirs = go.ask("prove-inclusion", dir=logs[size], index=index, **KEYS)
        assert (theirs.error, theirs.path) == ("", ours)
        check_inclusion(leaf_hash(entry(index)), index, size, theirs.path, root)
        told = go.ask("check-inclusion", entry=entry(index), index=index, size=size, root=root, path=ours)
        assert told.error == ""


@pytest.mark.parametrize("size", [size for size in SIZES if size])
def test_consistency_proofs_are_the_same_hashes_and_verified_by_the_other(
    go: GoPeer, logs: dict[int, Path], size: int
) -> None:
    reader = LogReader(Folder(logs[size]))
    root = Checkpoint.parse(reader.checkpoint().text).root
    for old in former_sizes(size):
        old_root = merkle.tree_root(reader.nodes(size), old)
        ours = reader.prove_consistency(old, size)
        theirs = go.ask("prove-consistency", dir=logs[size], old=old, **KEYS)
        assert (theirs.error, theirs.path) == ("", ours)
        check_consistency(old, old_root, size, root, theirs.path)
        told = go.ask("check-consistency", old=old, old_root=old_root, size=size, root=root, path=ours)
        assert told.error == ""


@pytest.mark.parametrize("size", SIZES)
def test_we_read_a_log_that_go_wrote(go: GoPeer, tmp_path: Path, size: int) -> None:
    entries = [entry(index) for index in range(size)]
    told = go.ask("write", dir=tmp_path, entries=entries, signer=LOG_KEY.secret_text().strip())
    assert told.error == ""
    reader = LogReader(Folder(tmp_path))
    accepted = Policy.of(LOG_KEY.verifier()).accept(reader.checkpoint())
    assert (accepted.checkpoint.size, accepted.checkpoint.root) == (size, told.root)
    assert [found for _, found in reader.entries(size)] == entries
    assert merkle.tree_root(reader.nodes(size), size) == told.root
    assert Log.open_(Folder(tmp_path), LOG_KEY).root() == told.root


@pytest.mark.parametrize("size", [1, 257, 70_000])
def test_go_verifies_our_proof_files(go: GoPeer, logs: dict[int, Path], size: int) -> None:
    reader = LogReader(Folder(logs[size]))
    for index in some_indices(size)[-3:]:
        proof = LogProof(index, reader.prove_inclusion(index, size), reader.checkpoint()).encode()
        assert go.ask("proof", proof=proof, entry=entry(index), **KEYS).error == ""
        assert go.ask("proof", proof=proof, entry=entry(index) + b"x", **KEYS).error != ""


def test_go_finds_the_facts_of_a_launch_in_our_log(go: GoPeer, tmp_path: Path) -> None:
    history = History()
    history.up_to_booted()
    log = Log.open_(Folder(tmp_path), LOG_KEY)
    leaves = [Entry.of(Message(n, f"ev.0.{history.pod}", raw)).encode() for n, raw in enumerate(history.raw, 1)]
    for leaf in leaves:
        log.append(leaf)
    log.publish(log.sign(TIME))
    told = go.ask("fsck", dir=tmp_path, log=KEYS["log"])
    assert (told.error, told.size, told.root) == ("", len(leaves), log.root())


# --- what both refuse -----------------------------------------------------------------------------------------------


def refuses_log(folder: Path) -> bool:
    """Whether our own reading of a whole log fails."""
    reader = LogReader(Folder(folder))
    try:
        tree = policy().accept(reader.checkpoint()).checkpoint
        leaves = [leaf_hash(found) for _, found in reader.entries(tree.size)]
        nodes = reader.nodes(tree.size)
        return merkle.tree_root(nodes, tree.size) != tree.root or leaves != [nodes(0, n) for n in range(tree.size)]
    except Permanent:
        return True


def flip(raw: bytes, at: int) -> bytes:
    altered = bytearray(raw)
    altered[at] ^= 1
    return bytes(altered)


@pytest.mark.parametrize(
    "name",
    [*(tile.path for tile in (*tiles_of(257), *bundles_of(257))), CHECKPOINT],
)
@pytest.mark.parametrize("how", ["first-bit", "last-bit", "cut", "longer", "empty", "gone"])
def test_both_refuse_a_log_with_any_file_altered(
    go: GoPeer, logs: dict[int, Path], tmp_path: Path, name: str, how: str
) -> None:
    subprocess.run(["cp", "-r", f"{logs[257]}/.", tmp_path], check=True)
    path = tmp_path / name
    raw = path.read_bytes()
    altered = {
        "first-bit": lambda: flip(raw, 0),
        "last-bit": lambda: flip(raw, -2 if name == CHECKPOINT else -1),
        "cut": lambda: raw[:-1],
        "longer": lambda: raw + b"\0",
        "empty": lambda: b"",
        "gone": lambda: None,
    }[how]()
    if altered is None:
        path.unlink()
    else:
        path.write_bytes(altered)
    assert refuses_log(tmp_path)
    assert go.ask("fsck", dir=tmp_path, **KEYS).error != ""


def mutated_notes(whole: bytes) -> dict[str, bytes]:
    """One thing wrong with each."""
    note = Note.parse(whole)
    lines = whole.decode().split("\n")
    log, clock, *witnesses = note.signatures
    return {
        "the size is another": whole.replace(b"\n257\n", b"\n256\n"),
        "the size has a leading zero": whole.replace(b"\n257\n", b"\n0257\n"),
        "the size has a sign": whole.replace(b"\n257\n", b"\n+257\n"),
        "the root is another": whole.replace(lines[2].encode(), lines[2][::-1].encode()),
        "the origin is another": whole.replace(b"test.example/audit\n257", b"test.example/other\n257"),
        "the log's signature is gone": Note(note.text, (clock, *witnesses)).encode(),
        "only a witness's is left": Note(note.text, tuple(witnesses)).encode(),
        "one witness is left of two": Note(note.text, (log, clock, witnesses[0])).encode(),
        "one witness stands twice": Note(note.text, (log, clock, witnesses[0], witnesses[0])).encode(),
        "a cosignature's time is another": whole.replace(lines[-3].encode(), lines[-4].encode(), 1),
        "lines end in CR LF": whole.replace(b"\n", b"\r\n"),
        "there are bytes after it": whole + b"x",
        "the last newline is gone": whole[:-1],
        "there is no signature": note.text.encode() + b"\n",
        "it is not UTF-8": whole.replace(b"test.example", b"test\xff.example", 1),
        "it is empty": b"",
    }


@pytest.mark.parametrize("what", mutated_notes(Note("a\n1\nb\n", (LOG_KEY.sign("a"),) * 4).encode()))
def test_both_refuse_a_note_with_one_thing_wrong(go: GoPeer, logs: dict[int, Path], what: str) -> None:
    text = LogReader(Folder(logs[257])).checkpoint().text
    signed = Note(
        text, (LOG_KEY.sign(text), LOG_KEY.cosign(text, TIME), *(w.cosign(text, TIME) for w in WITNESSES[:2]))
    )
    policy().accept(signed)
    assert go.ask("note", note=signed.encode(), **KEYS).error == ""
    altered = mutated_notes(signed.encode())[what]
    assert altered != signed.encode()
    with pytest.raises(Permanent):
        policy().accept(Note.parse(altered))
    assert go.ask("note", note=altered, **KEYS).error != ""
