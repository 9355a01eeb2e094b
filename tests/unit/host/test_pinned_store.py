"""What an agent names, or puts where its store should be, is a file of its own or is refused."""

from __future__ import annotations

import os
from pathlib import Path

import pytest

from orchestrator.events import FsSealed
from orchestrator.faults import Code, Permanent
from tests.machine import descriptors
from workers.host.pinned_store import pinned


def sealed(name: str) -> FsSealed:
    return FsSealed(root_hash="cd" * 32, files=1, bytes=1, store=name)


def refused(directory: Path, name: str) -> None:
    before = len(descriptors())
    with pytest.raises(Permanent) as raised, pinned(directory, sealed(name)):
        pass
    assert raised.value.code is Code.RUNTIME
    assert raised.value.diagnosis.got
    assert len(descriptors()) == before


@pytest.fixture
def stores(tmp_path: Path) -> Path:
    (tmp_path / "secret").write_text("another's")
    (tmp_path / "stores").mkdir()
    (tmp_path / "stores/app.1").write_text("sealed")
    return tmp_path / "stores"


def test_a_file_in_the_directory_is_found_and_let_go(stores: Path) -> None:
    before = len(descriptors())
    with pinned(stores, sealed("app.1")) as store:
        assert store.path == stores / "app.1"
        assert os.path.samestat(os.fstat(store.descriptor), store.path.stat())
    assert len(descriptors()) == before


@pytest.mark.parametrize(
    "name", ["", ".", "..", "../secret", "/etc/hostname", "a/../app.1", "a\0", "absent", "x" * 300]
)
def test_a_name_of_anything_else_is_refused(stores: Path, name: str) -> None:
    refused(stores, name)


def test_a_container_without_a_sealed_store_has_none(stores: Path) -> None:
    with pytest.raises(Permanent), pinned(stores, None):
        pass


@pytest.mark.parametrize("kind", ["link", "folder", "fifo"])
def test_what_is_no_regular_file_is_refused(stores: Path, kind: str) -> None:
    place = stores / "app.2"
    match kind:
        case "link":
            place.symlink_to(stores.parent / "secret")
        case "folder":
            place.mkdir()
        case "fifo":
            os.mkfifo(place)
    refused(stores, "app.2")


def test_a_process_without_that_mount_is_not_the_containers(stores: Path) -> None:
    with pinned(stores, sealed("app.1")) as store:
        for pid in (os.getpid(), 1 << 22):
            with pytest.raises(Permanent) as raised:
                store.check_mounted(pid)
            assert raised.value.code is Code.RUNTIME
