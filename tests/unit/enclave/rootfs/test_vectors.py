from __future__ import annotations

import hashlib
import json
import os
import subprocess
import sys
from pathlib import Path
from typing import Any

import pytest

from workers.enclave.rootfs.crypto import StoreKey
from workers.enclave.rootfs.sealing import UnitSink
from workers.enclave.rootfs.store import StoreTampered, Tampering, open_store

VECTORS = Path(__file__).resolve().parents[3] / "vectors" / "sealed_store"
DESCRIBED: dict[str, Any] = json.loads((VECTORS / "vectors.json").read_text())


def key(digits: str) -> StoreKey:
    return StoreKey(bytearray.fromhex(digits))


def laid_out(vector: dict[str, Any], path: Path) -> Path:
    path.write_bytes((VECTORS / "valid.store").read_bytes())
    with path.open("r+b") as file:
        for offset, digits in vector["patches"]:
            file.seek(offset)
            file.write(bytes.fromhex(digits))
    if "size" in vector:
        os.truncate(path, vector["size"])
    return path


@pytest.mark.parametrize("vector", DESCRIBED["vectors"], ids=lambda vector: vector["name"].replace(" ", "-"))
def test_a_vector_is_refused_for_its_one_reason_or_read(vector: dict[str, Any], tmp_path: Path) -> None:
    path = laid_out(vector, tmp_path / "store")
    root_hash = bytes.fromhex(vector.get("root_hash", DESCRIBED["root_hash"]))
    if vector["fails"] and vector["unit"] < 0:
        with pytest.raises(StoreTampered) as fault:
            open_store(path, key(DESCRIBED["key"]), root_hash)
        assert fault.value.report.kind is Tampering[vector["fails"]]
        return
    with open_store(path, key(vector.get("key", DESCRIBED["key"])), root_hash) as store:
        if not vector["fails"]:
            image = store.read(0, store.image_bytes)
            assert hashlib.sha256(image).hexdigest() == DESCRIBED["image_sha256"]
            return
        with pytest.raises(StoreTampered) as fault:
            store.read(0, store.image_bytes)
        assert fault.value.report.kind is Tampering[vector["fails"]]
        assert fault.value.report.unit == vector["unit"]


def test_our_writer_makes_the_vectors_store_byte_for_byte(tmp_path: Path) -> None:
    valid = VECTORS / "valid.store"
    with open_store(valid, key(DESCRIBED["key"]), bytes.fromhex(DESCRIBED["root_hash"])) as store:
        image = bytes(store.read(0, store.image_bytes))
    with (tmp_path / "store").open("w+b") as file:
        sink = UnitSink(file.fileno(), key(DESCRIBED["key"]), bytes.fromhex(DESCRIBED["store_id"]))
        sink.append(image[4096:])
        sink.finish(image[:4096])
    assert (tmp_path / "store").read_bytes() == valid.read_bytes()
    assert sink.root_hash.hex() == DESCRIBED["root_hash"]


def test_the_generator_makes_what_is_checked_in(tmp_path: Path) -> None:
    (tmp_path / "generate.py").write_bytes((VECTORS / "generate.py").read_bytes())
    subprocess.run([sys.executable, tmp_path / "generate.py"], check=True)
    for name in ("valid.store", "vectors.json"):
        assert (tmp_path / name).read_bytes() == (VECTORS / name).read_bytes()
