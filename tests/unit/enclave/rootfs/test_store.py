from __future__ import annotations

import io
import os
from collections.abc import Callable
from pathlib import Path

import pytest

from orchestrator.faults import Code, Permanent
from tests.unit.enclave.rootfs.layers import DIRECTORY, Item, archive
from workers.enclave.rootfs.crypto import StoreKey
from workers.enclave.rootfs.format import HEADER, MAX_UNITS, TAG, UNIT, unit_offset
from workers.enclave.rootfs.image import ImageBuilder
from workers.enclave.rootfs.sealing import UnitSink
from workers.enclave.rootfs.store import StoreTampered, Tampering, TamperReport, open_store

ROOT = Item(b"./", DIRECTORY, mode=0o755)
UNITS = 9
STORE_ID = bytes(range(16))
Made = tuple[Path, StoreKey, bytes]


def made(path: Path, fill: bytes, store_id: bytes = STORE_ID) -> Made:
    """A store of nine units, under the same key and id each time: an older version is one with another `fill`."""
    key = StoreKey(bytearray(b"k" * 32))
    with path.open("w+b") as file:
        sink = UnitSink(file.fileno(), key, store_id)
        builder = ImageBuilder(sink)
        builder.add_layer(io.BytesIO(archive(ROOT, Item(b"f", content=fill * ((UNITS - 1) * UNIT)))))
        builder.finish()
    assert sink.header.units == UNITS
    return path, key, sink.root_hash


@pytest.fixture
def store(tmp_path: Path) -> Made:
    return made(tmp_path / "store", b"2")


def flip(path: Path, offset: int, bit: int = 0) -> None:
    with path.open("r+b") as file:
        file.seek(offset)
        byte = file.read(1)[0]
        file.seek(offset)
        file.write(bytes([byte ^ 1 << bit]))


def put(path: Path, offset: int, data: bytes) -> None:
    with path.open("r+b") as file:
        file.seek(offset)
        file.write(data)


def opening(store: Made) -> Tampering:
    with pytest.raises(StoreTampered) as fault:
        open_store(*store)
    assert fault.value.code is Code.BOOT_STORE
    return fault.value.report.kind


def unit(path: Path, index: int) -> bytes:
    return path.read_bytes()[unit_offset(index) : unit_offset(index) + UNIT]


@pytest.mark.parametrize("bit", range(8))
@pytest.mark.parametrize("offset", [*range(20, 57), 100, 1000, HEADER - 1])
def test_any_flipped_bit_of_the_header_breaks_the_root_hash(store: Made, offset: int, bit: int) -> None:
    flip(store[0], offset, bit)
    assert opening(store) is Tampering.ROOT


@pytest.mark.parametrize("bit", range(8))
@pytest.mark.parametrize("offset", range(20))
def test_another_magic_or_version_is_another_format(store: Made, offset: int, bit: int) -> None:
    flip(store[0], offset, bit)
    assert opening(store) is Tampering.FORMAT


@pytest.mark.parametrize("bit", range(8))
@pytest.mark.parametrize("offset", range(0, UNITS * TAG, 5))
def test_any_flipped_bit_of_a_tag_breaks_the_root_hash(store: Made, offset: int, bit: int) -> None:
    flip(store[0], unit_offset(UNITS) + offset, bit)
    assert opening(store) is Tampering.ROOT


@pytest.mark.parametrize("cut", [1, TAG, UNIT, UNIT + TAG, 5 * (UNIT + TAG), 10**9])
def test_a_cut_store_has_no_stores_length_or_not_its_root(store: Made, cut: int) -> None:
    os.truncate(store[0], max(0, store[0].stat().st_size - cut))
    assert opening(store) is (Tampering.ROOT if cut % (UNIT + TAG) == 0 else Tampering.LENGTH)


@pytest.mark.parametrize("more", [1, TAG, UNIT, UNIT + TAG])
def test_an_extended_store_has_no_stores_length_or_not_its_root(store: Made, more: int) -> None:
    with store[0].open("ab") as file:
        file.write(bytes(more))
    assert opening(store) is (Tampering.ROOT if more == UNIT + TAG else Tampering.LENGTH)


def test_an_older_store_of_the_same_id_and_key_is_not_the_pinned_one(store: Made, tmp_path: Path) -> None:
    older, _, _ = made(tmp_path / "older", b"1")
    assert opening((older, store[1], store[2])) is Tampering.ROOT


def test_a_store_of_another_id_is_not_the_pinned_one(store: Made, tmp_path: Path) -> None:
    other, _, _ = made(tmp_path / "other", b"2", store_id=bytes(16))
    assert opening((other, store[1], store[2])) is Tampering.ROOT


def test_a_file_beyond_all_bounds_is_refused_before_memory_is_taken_for_it(store: Made) -> None:
    os.truncate(store[0], HEADER + (MAX_UNITS + 1) * (UNIT + TAG))
    assert opening(store) is Tampering.LENGTH


@pytest.mark.parametrize("make", [Path.mkdir, os.mkfifo])
def test_what_is_no_regular_file_is_refused_without_waiting(store: Made, make: Callable[[Path], None]) -> None:
    store[0].unlink()
    make(store[0])
    assert opening(store) is Tampering.LENGTH


def test_a_link_in_the_stores_place_is_not_followed(store: Made, tmp_path: Path) -> None:
    store[0].rename(tmp_path / "moved")
    store[0].symlink_to(tmp_path / "moved")
    with pytest.raises(Permanent) as fault:
        open_store(*store)
    assert fault.value.code is Code.BOOT_STORE


def change_after_opening(store: Made, change: Callable[[Path], None]) -> dict[int, Tampering]:
    """Which units fail, and how, where the host changes the file under an open store."""
    reports: list[TamperReport] = []
    with open_store(*store, reports.append) as opened:
        before = bytes(opened.read(0, opened.image_bytes))
        change(store[0])
        failed: dict[int, Tampering] = {}
        for index in range(UNITS):
            try:
                assert opened.read(index * UNIT, UNIT) == before[index * UNIT : (index + 1) * UNIT]
            except StoreTampered as fault:
                failed[index] = fault.report.kind
        assert [(report.unit, report.kind) for report in reports] == list(failed.items())
        if failed:
            with pytest.raises(StoreTampered):
                opened.read(0, opened.image_bytes)
    return failed


@pytest.mark.parametrize("index", [0, 1, 4, UNITS - 1])
@pytest.mark.parametrize("offset", [0, 1, 4095, UNIT - 1])
def test_a_flipped_bit_fails_its_unit_and_no_other(store: Made, index: int, offset: int) -> None:
    for bit in range(8):
        failed = change_after_opening(store, lambda path, bit=bit: flip(path, unit_offset(index) + offset, bit))
        assert failed == {index: Tampering.UNIT}
        flip(store[0], unit_offset(index) + offset, bit)


def test_a_flipped_bit_is_found_as_well_when_it_was_there_at_opening(store: Made) -> None:
    flip(store[0], unit_offset(3) + 77)
    with open_store(*store) as opened, pytest.raises(StoreTampered) as fault:
        opened.read(3 * UNIT + 5, 1)
    assert fault.value.report == TamperReport(Tampering.UNIT, 3)


def test_swapped_units_fail_both(store: Made) -> None:
    def swap(path: Path) -> None:
        second, fifth = unit(path, 2), unit(path, 5)
        put(path, unit_offset(2), fifth)
        put(path, unit_offset(5), second)

    assert change_after_opening(store, swap) == {2: Tampering.UNIT, 5: Tampering.UNIT}


def test_units_swapped_with_their_tags_do_not_open_as_a_store(store: Made) -> None:
    raw = store[0].read_bytes()
    tags = unit_offset(UNITS)
    put(store[0], unit_offset(2), unit(store[0], 5))
    put(store[0], unit_offset(5), raw[unit_offset(2) : unit_offset(2) + UNIT])
    put(store[0], tags + 2 * TAG, raw[tags + 5 * TAG : tags + 6 * TAG])
    put(store[0], tags + 5 * TAG, raw[tags + 2 * TAG : tags + 3 * TAG])
    assert opening(store) is Tampering.ROOT


def test_a_unit_rolled_back_to_an_older_store_of_the_same_id_fails(store: Made, tmp_path: Path) -> None:
    older, _, _ = made(tmp_path / "older", b"1")
    assert unit(older, 4) != unit(store[0], 4)
    failed = change_after_opening(store, lambda path: put(path, unit_offset(4), unit(older, 4)))
    assert failed == {4: Tampering.UNIT}


def test_the_whole_file_rolled_back_under_an_open_store_fails_every_changed_unit(store: Made, tmp_path: Path) -> None:
    older, _, _ = made(tmp_path / "older", b"1")
    same = {index for index in range(UNITS) if unit(older, index) == unit(store[0], index)}
    failed = change_after_opening(store, lambda path: put(path, 0, older.read_bytes()))
    assert set(failed) == set(range(UNITS)) - same
    assert set(failed.values()) == {Tampering.UNIT}


def test_tags_changed_under_an_open_store_are_not_read_again(store: Made) -> None:
    assert change_after_opening(store, lambda path: put(path, unit_offset(UNITS), bytes(UNITS * TAG))) == {}


def test_a_cut_under_an_open_store_fails_what_is_gone(store: Made) -> None:
    failed = change_after_opening(store, lambda path: os.truncate(path, unit_offset(6) + 100))
    assert failed == dict.fromkeys((6, 7, 8), Tampering.LENGTH)


def test_a_wrong_key_opens_no_unit(store: Made) -> None:
    path, _, root = store
    with open_store(path, StoreKey(bytearray(b"w" * 32)), root) as opened, pytest.raises(StoreTampered) as fault:
        opened.read(0, 1)
    assert fault.value.report.kind is Tampering.UNIT


def test_the_key_may_be_wiped_once_the_store_is_open(store: Made) -> None:
    path, key, root = store
    with open_store(path, key, root) as opened:
        key.wipe()
        assert len(opened.read(0, 100)) == 100


@pytest.mark.parametrize(
    ("offset", "size"), [(0, 0), (0, 1), (UNIT - 1, 2), (1, 3 * UNIT), (8 * UNIT, 10**9), (10**9, 5), (-1, 5)]
)
def test_reads_give_the_bytes_asked_for_and_none_beyond_the_end(store: Made, offset: int, size: int) -> None:
    with open_store(*store) as opened:
        whole = bytes(opened.read(0, 10**9))
        assert len(whole) == opened.image_bytes
        expected = whole[offset : offset + size] if offset >= 0 else b""
        assert bytes(opened.read(offset, size)) == expected


def test_a_finding_says_what_to_do_and_shows_no_data(store: Made) -> None:
    flip(store[0], unit_offset(1))
    with open_store(*store) as opened, pytest.raises(StoreTampered) as fault:
        opened.read(UNIT, 1)
    text = fault.value.diagnostics()
    assert "unit 1: a unit does not match its tag" in text
    assert "try: " in text
