"""The appender: what it writes is the tree's, and a death at any moment makes neither a fork nor a hole."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path

import pytest

from orchestrator.audit.checkpoint import Checkpoint
from orchestrator.audit.lease import sole_writer
from orchestrator.audit.log import NEXT, Log
from orchestrator.audit.merkle import check_consistency
from orchestrator.audit.note import Note
from orchestrator.audit.reader import CHECKPOINT, LogReader
from orchestrator.audit.storage import Folder, Store
from orchestrator.audit.tiles import ENTRIES, Tile
from orchestrator.audit.verifier import Auditor, fsck
from orchestrator.faults import Code, Permanent
from tests.simulators.audit_logs import LOG_KEY, TIME, entry, grow, policy, signing_key, write
from tests.unit.orchestrator.audit.store_promises import check_store


class Died(Exception):
    """The process ended here."""


class Mortal:
    """A store whose process dies at the `last` act; what was not flushed by then is lost, as in a power cut."""

    def __init__(self, root: Path, last: int) -> None:
        self.inner = Folder(root)
        self.root = root
        self.left = last
        self.unsynced: list[str] = []

    def _act(self) -> None:
        self.left -= 1
        if self.left < 0:
            for name in self.unsynced:
                (self.root / name).unlink(missing_ok=True)
            raise Died

    def read(self, name: str) -> bytes | None:
        return self.inner.read(name)

    def write(self, name: str, data: bytes) -> None:
        self._act()
        self.inner.write(name, data)
        self.unsynced.append(name)

    def flush(self) -> None:
        self._act()
        self.inner.flush()
        self.unsynced = []

    def replace(self, name: str, data: bytes) -> None:
        self._act()
        self.inner.replace(name, data)

    def remove(self, folder: str) -> None:
        self._act()
        self.inner.remove(folder)


def test_a_folder_keeps_the_promises_of_a_store(tmp_path: Path) -> None:
    check_store(Folder(tmp_path / "log"))


@pytest.mark.parametrize("size", [0, 1, 255, 256, 257, 600])
def test_a_log_goes_on_where_it_was(tmp_path: Path, size: int) -> None:
    write(tmp_path / "a", size)
    log = Log.open_(Folder(tmp_path / "a"), LOG_KEY)
    assert (log.size, log.published) == (size, size)
    assert log.last_entry() == (entry(size - 1) if size else None)
    grow(log, 700)
    write(tmp_path / "b", 700)
    assert log.root() == Log.open_(Folder(tmp_path / "b"), LOG_KEY).root()
    assert fsck(LogReader(log.store), Auditor(policy())).faults == ()


def test_full_tiles_replace_their_partial_forms(tmp_path: Path) -> None:
    log = write(tmp_path, 200)
    assert (tmp_path / "tile/0/000.p/200").exists()
    grow(log, 256)
    assert not (tmp_path / "tile/0/000.p").exists()
    assert not (tmp_path / "tile/entries/000.p").exists()
    reader = LogReader(Folder(tmp_path))
    assert len(reader.bundle(Tile(ENTRIES, 0, 200))) == 200  # a reader with the older checkpoint is served
    assert len(reader.tile(Tile(0, 0, 200))) == 200 * 32


def checkpoints(folder: Path) -> list[Checkpoint]:
    raw = [Folder(folder).read(name) for name in (CHECKPOINT, NEXT)]
    return [policy(0).accept(Note.parse(found)).checkpoint for found in raw if found]


def history(store: Store, stops: list[int]) -> None:
    log = Log.open_(store, LOG_KEY)
    for stop in stops:
        if stop >= log.size:
            grow(log, stop)


def dies(folder: Path, last: int) -> bool:
    """Whether a log that grows in several steps does not come to its end."""
    try:
        history(Mortal(folder, last), [0, 3, 250, 260, 515, 520])
    except Died:
        return True
    return False


def test_a_death_at_any_act_loses_nothing_that_was_signed_and_forks_nothing(tmp_path: Path) -> None:
    last = 0
    while dies(tmp_path / str(last), last):
        folder = tmp_path / str(last)
        signed = checkpoints(folder)
        log = Log.open_(Folder(folder), LOG_KEY)
        assert log.size == max((checkpoint.size for checkpoint in signed), default=0)
        grow(log, 600)
        reader = LogReader(Folder(folder))
        tree = policy().accept(reader.checkpoint()).checkpoint
        for old in signed:
            check_consistency(old.size, old.root, tree.size, tree.root, reader.prove_consistency(old.size, tree.size))
        assert fsck(reader, Auditor(policy())).faults == ()
        last += 1
    assert last > 30


def test_what_was_signed_but_not_published_is_the_truth(tmp_path: Path) -> None:
    log = write(tmp_path, 10)
    log.append(b"eleventh")
    log.sign(TIME)  # a witness may have seen it
    again = Log.open_(Folder(tmp_path), LOG_KEY)
    assert (again.size, again.signed, again.published, again.last_entry()) == (11, 11, 10, b"eleventh")


def refused(action: Callable[[], object]) -> Code:
    with pytest.raises(Permanent) as raised:
        action()
    return raised.value.code


def test_a_log_of_another_key_is_not_gone_on_with(tmp_path: Path) -> None:
    write(tmp_path, 5)
    assert refused(lambda: Log.open_(Folder(tmp_path), signing_key(seed="other"))) is Code.AUDIT_SIGNATURE


@pytest.mark.parametrize("name", ["tile/0/001.p/4", "tile/1/000.p/1", "tile/entries/001.p/4"])
@pytest.mark.parametrize("how", ["gone", "altered", "cut"])
def test_a_log_whose_edge_is_damaged_signs_nothing(tmp_path: Path, name: str, how: str) -> None:
    write(tmp_path, 260)
    path = tmp_path / name
    raw = path.read_bytes()
    path.unlink() if how == "gone" else path.write_bytes(raw[:-1] + (b"" if how == "cut" else bytes([raw[-1] ^ 1])))
    assert refused(lambda: Log.open_(Folder(tmp_path), LOG_KEY)) is Code.AUDIT_TILE


def test_a_folder_has_one_writer(tmp_path: Path) -> None:
    with sole_writer(tmp_path):
        assert refused(lambda: sole_writer(tmp_path).__enter__()) is Code.AUDIT_LEASE
    with sole_writer(tmp_path):
        pass
