from __future__ import annotations

import os
import tempfile
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from workers.enclave.rootfs.crypto import StoreKey
from workers.enclave.rootfs.format import HEADER, TAG, UNIT, Header, HeaderInvalid, file_size, pack_header, parse_header
from workers.enclave.rootfs.sealing import UnitSink
from workers.enclave.rootfs.store import StoreTampered, Tampering, open_store

UNITS = 5
SIZE = file_size(UNITS)


@dataclass(frozen=True)
class Store:
    path: Path
    key: StoreKey
    root_hash: bytes
    image: bytes
    raw: bytes


@pytest.fixture(scope="module")
def store() -> Iterator[Store]:
    with tempfile.TemporaryDirectory() as name:
        path, key = Path(name) / "store", StoreKey.generate()
        image = os.urandom((UNITS - 1) * UNIT + 4096)
        with path.open("w+b") as file:
            sink = UnitSink(file.fileno(), key, os.urandom(16))
            sink.append(image[4096:])
            sink.finish(image[:4096])
        yield Store(path, key, sink.root_hash, image, path.read_bytes())


@given(offset=st.integers(0, UNITS * UNIT), size=st.integers(0, 3 * UNIT))
@settings(deadline=None)
def test_any_range_reads_as_the_image_has_it(store: Store, offset: int, size: int) -> None:
    with open_store(store.path, store.key, store.root_hash) as opened:
        assert opened.read(offset, size) == store.image[offset : offset + size]


@given(offset=st.integers(0, SIZE - 1), change=st.integers(1, 255), length=st.integers(1, 3 * UNIT))
@settings(deadline=None)
def test_any_change_anywhere_is_found_and_is_an_error_of_its_class(
    store: Store, offset: int, change: int, length: int
) -> None:
    altered = bytearray(store.raw)
    end = min(offset + length, SIZE)
    altered[offset:end] = bytes(byte ^ change for byte in altered[offset:end])
    store.path.write_bytes(altered)
    pinned = offset < HEADER or end > SIZE - UNITS * TAG
    hit = range((offset - HEADER) // UNIT, (end - 1 - HEADER) // UNIT + 1)
    try:
        if pinned:
            with pytest.raises(StoreTampered) as fault:
                open_store(store.path, store.key, store.root_hash)
            assert fault.value.report.kind is (Tampering.FORMAT if offset < 20 else Tampering.ROOT)
            return
        with open_store(store.path, store.key, store.root_hash) as opened:
            for unit in range(UNITS):
                expected = store.image[unit * UNIT : (unit + 1) * UNIT]
                if unit not in hit:
                    assert opened.read(unit * UNIT, UNIT) == expected
                    continue
                with pytest.raises(StoreTampered) as fault:
                    opened.read(unit * UNIT, UNIT)
                assert fault.value.report.kind is Tampering.UNIT
                assert fault.value.report.unit == unit
    finally:
        store.path.write_bytes(store.raw)


@given(size=st.integers(0, 2 * SIZE))
@settings(deadline=None)
def test_any_other_length_is_refused(store: Store, size: int) -> None:
    os.truncate(store.path, size)
    try:
        if size == SIZE:
            open_store(store.path, store.key, store.root_hash).close()
            return
        with pytest.raises(StoreTampered) as fault:
            open_store(store.path, store.key, store.root_hash)
        whole = size > HEADER and (size - HEADER) % (UNIT + TAG) == 0
        assert fault.value.report.kind is (Tampering.ROOT if whole else Tampering.LENGTH)
    finally:
        store.path.write_bytes(store.raw)


@given(store_id=st.binary(min_size=16, max_size=16), units=st.integers(1, 1 << 24), last=st.integers(1, UNIT))
def test_a_header_parses_to_what_was_packed(store_id: bytes, units: int, last: int) -> None:
    header = Header(store_id, (units - 1) * UNIT + last, units)
    assert parse_header(pack_header(header)) == header


@given(offset=st.integers(0, HEADER - 1), byte=st.integers(0, 255))
def test_a_header_that_parses_has_one_spelling(offset: int, byte: int) -> None:
    raw = bytearray(pack_header(Header(bytes(16), UNIT, 1)))
    raw[offset] = byte
    try:
        header = parse_header(bytes(raw))
    except HeaderInvalid:
        return
    assert pack_header(header) == raw
