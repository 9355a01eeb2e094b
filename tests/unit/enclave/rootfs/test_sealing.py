from __future__ import annotations

import io
import os
from pathlib import Path

import pytest

from orchestrator.faults import Code, Fault, Permanent, Temporary
from tests.unit.enclave.rootfs.layers import DIRECTORY, Item, archive, listing, mounted, write_image
from workers.enclave.rootfs.format import UNIT, file_size
from workers.enclave.rootfs.sealing import Sealed, SealingWriter
from workers.enclave.rootfs.store import open_store
from workers.enclave.rootfs.syscalls import mount, unmount

ROOT = Item(b"./", DIRECTORY, mode=0o755)
MARK = b"a plain text that must never be seen "


def seal(path: Path, *layers: bytes) -> Sealed:
    with SealingWriter(path) as writer:
        for layer in layers:
            writer.add_layer(io.BytesIO(layer))
        return writer.finish()


def plain(sealed: Sealed) -> bytes:
    with open_store(sealed.path, sealed.key, sealed.root_hash) as store:
        return bytes(store.read(0, store.image_bytes))


def test_a_sealed_store_holds_the_very_image_the_layers_make(tmp_path: Path) -> None:
    lower = archive(ROOT, Item(b"a", content=os.urandom(3_000_000)), Item(b"b", content=b"b"))
    upper = archive(Item(b".wh.b"), Item(b"c", content=MARK))
    sealed = seal(tmp_path / "store", lower, upper)
    image = write_image(tmp_path / "image", lower, upper).read_bytes()
    assert plain(sealed) == image
    assert sealed.image_bytes == len(image)
    assert sealed.size == sealed.path.stat().st_size == file_size(sealed.units)
    assert (sealed.files, sealed.content_bytes, sealed.xattrs_dropped) == (3, 3_000_000 + len(MARK), 0)


@pytest.mark.parametrize("blocks", [0, 1, 2, 3, 4, 5, 251, 252, 253, 254, 255, 256, 257])
def test_images_around_every_border_of_units_and_batches_are_sealed_whole(tmp_path: Path, blocks: int) -> None:
    layer = archive(ROOT, Item(b"f", content=os.urandom(blocks * 4096)))
    sealed = seal(tmp_path / "store", layer)
    assert plain(sealed) == write_image(tmp_path / "image", layer).read_bytes()
    assert sealed.units == -(-sealed.image_bytes // UNIT)


def test_a_store_of_no_layer_is_an_empty_root(tmp_path: Path) -> None:
    sealed = seal(tmp_path / "store")
    (tmp_path / "image").write_bytes(plain(sealed))
    with mounted(tmp_path / "image", tmp_path / "mounted") as root:
        assert list(listing(root)) == [b""]


def test_neither_names_nor_contents_nor_the_key_are_on_the_disk(tmp_path: Path) -> None:
    items = [Item(b"secret-name-%d" % number, content=MARK * 100) for number in range(50)]
    sealed = seal(tmp_path / "store", archive(ROOT, *items))
    raw = (tmp_path / "store").read_bytes()
    assert MARK not in raw
    assert b"secret-name" not in raw
    assert bytes(sealed.key.material) not in raw
    assert [path.name for path in tmp_path.iterdir()] == ["store"]
    assert (tmp_path / "store").stat().st_mode & 0o7777 == 0o600


def test_two_stores_of_one_image_have_nothing_in_common(tmp_path: Path) -> None:
    layer = archive(ROOT, Item(b"f", content=MARK * 1000))
    one, two = seal(tmp_path / "one", layer), seal(tmp_path / "two", layer)
    assert one.store_id != two.store_id
    assert one.root_hash != two.root_hash
    assert bytes(one.key.material) != bytes(two.key.material)
    assert one.path.read_bytes()[4096 : 4096 + UNIT] != two.path.read_bytes()[4096 : 4096 + UNIT]


def test_a_bad_layer_leaves_nothing_behind_and_wipes_the_key(tmp_path: Path) -> None:
    writer = SealingWriter(tmp_path / "store")
    key = writer._key
    writer.add_layer(io.BytesIO(archive(ROOT, Item(b"f", content=os.urandom(5_000_000)))))
    with pytest.raises(Permanent) as refusal:
        writer.add_layer(io.BytesIO(archive(Item(b"g", content=b"g" * 1000))[:700]))
    assert refusal.value.code is Code.IMAGE_MALFORMED
    assert list(tmp_path.iterdir()) == []
    with pytest.raises(ValueError, match="wiped"):
        _ = key.material


def test_a_fault_of_the_layers_source_passes_through_and_leaves_nothing_behind(tmp_path: Path) -> None:
    class Broken:
        def read(self, size: int, /) -> bytes:
            raise Temporary(Code.IMAGE_TRUNCATED, "the registry went away")

    with pytest.raises(Temporary) as fault, SealingWriter(tmp_path / "store") as writer:
        writer.add_layer(Broken())
    assert fault.value.code is Code.IMAGE_TRUNCATED
    assert list(tmp_path.iterdir()) == []


def test_leaving_without_finishing_aborts(tmp_path: Path) -> None:
    with SealingWriter(tmp_path / "store") as writer:
        writer.add_layer(io.BytesIO(archive(ROOT)))
    assert list(tmp_path.iterdir()) == []
    writer.abort()
    for use in (lambda: writer.add_layer(io.BytesIO(b"")), writer.finish):
        with pytest.raises(Permanent) as refusal:
            use()
        assert refusal.value.code is Code.SEAL_FAILED


def test_a_finished_store_outlives_the_writer_and_abort(tmp_path: Path) -> None:
    with SealingWriter(tmp_path / "store") as writer:
        sealed = writer.finish()
        writer.abort()
    assert plain(sealed)
    with pytest.raises(Permanent):
        writer.finish()


def test_a_writer_that_starts_again_replaces_what_a_dead_one_left(tmp_path: Path) -> None:
    (tmp_path / "store.partial").write_bytes(b"left by a process that was killed")
    (tmp_path / "store").write_bytes(b"an older store")
    assert plain(seal(tmp_path / "store", archive(ROOT)))
    assert [path.name for path in tmp_path.iterdir()] == ["store"]


def test_a_link_in_the_partial_files_place_is_not_followed(tmp_path: Path) -> None:
    victim = tmp_path / "victim"
    victim.write_bytes(b"untouched")
    (tmp_path / "store.partial").symlink_to(victim)
    seal(tmp_path / "store", archive(ROOT))
    assert victim.read_bytes() == b"untouched"
    assert not (tmp_path / "store").is_symlink()


def test_a_full_disk_is_told_as_such_and_leaves_nothing_behind(tmp_path: Path) -> None:
    mount("tmpfs", tmp_path, "tmpfs", 0, "size=1m")
    try:
        with pytest.raises(Fault) as fault, SealingWriter(tmp_path / "store") as writer:
            writer.add_layer(io.BytesIO(archive(ROOT, Item(b"f", content=os.urandom(4_000_000)))))
        assert fault.value.code is Code.SEAL_NO_SPACE
        assert fault.value.temporary
        assert list(tmp_path.iterdir()) == []
    finally:
        unmount(tmp_path)


def test_a_disk_that_cannot_be_written_is_told_as_such(tmp_path: Path) -> None:
    with pytest.raises(Temporary) as fault:
        SealingWriter(tmp_path / "absent" / "store")
    assert fault.value.code is Code.SEAL_FAILED


def test_a_key_does_not_show_itself(tmp_path: Path) -> None:
    sealed = seal(tmp_path / "store")
    assert bytes(sealed.key.material).hex() not in repr(sealed)
    assert repr(bytes(sealed.key.material)) not in repr(sealed)
    sealed.key.wipe()
    with pytest.raises(ValueError, match="wiped"):
        _ = sealed.key.material
