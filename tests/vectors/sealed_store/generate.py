"""Writes the vectors of the sealed store from docs/formats/sealed-store.md alone: a second hand, sharing no code.

    python tests/vectors/sealed_store/generate.py

makes `valid.store` and `vectors.json` beside this file, the same bytes each time. Every vector but the first is the
valid store with one thing wrong, and says which check must find it.
"""

from __future__ import annotations

import hashlib
import json
import struct
from pathlib import Path

from cryptography.hazmat.primitives.ciphers.aead import AESGCM

HERE = Path(__file__).parent
UNIT, TAG, HEADER = 16384, 16, 4096
KEY = hashlib.sha256(b"the key of the vectors").digest()
STORE_ID = hashlib.sha256(b"the id of the vectors").digest()[:16]
IMAGE_BYTES = 2 * UNIT + 4096


def image(seed: bytes) -> bytes:
    """Bytes that anyone can make: SHA-256 of the seed and a counter, one after the other."""
    blocks = (hashlib.sha256(seed + struct.pack("<I", number)).digest() for number in range(IMAGE_BYTES // 32))
    return b"".join(blocks)


def store(seed: bytes, key: bytes = KEY, store_id: bytes = STORE_ID) -> tuple[bytes, str]:
    """The file and its root hash."""
    plain = image(seed)
    plain += bytes(-len(plain) % UNIT)
    ciphertexts, tags = [], []
    for index in range(len(plain) // UNIT):
        associated = b"enclave-cc/store-unit/v1\0" + store_id + struct.pack("<Q", index)
        nonce = bytes(4) + struct.pack(">Q", index)
        sealed = AESGCM(key).encrypt(nonce, plain[index * UNIT : (index + 1) * UNIT], associated)
        ciphertexts.append(sealed[:-TAG])
        tags.append(sealed[-TAG:])
    fields = struct.pack("<16sII16sQQ", b"enclave-cc/store", 1, UNIT, store_id, IMAGE_BYTES, len(tags))
    header = fields.ljust(HEADER, b"\0")
    return header + b"".join(ciphertexts) + b"".join(tags), root_of(header, b"".join(tags))


def root_of(header: bytes, tags: bytes) -> str:
    """The root hash, in hexadecimal."""
    return hashlib.sha256(b"enclave-cc/store-root/v1\0" + header + tags).hexdigest()


def main() -> None:
    """Writes both files."""
    valid, root = store(b"new")
    older, older_root = store(b"old")
    tags = HEADER + 3 * UNIT
    vectors: list[dict[str, object]] = []

    def vector(name: str, fails: str, *patches: tuple[int, bytes], unit: int = -1, **other: object) -> None:
        listed = [[offset, data.hex()] for offset, data in patches]
        vectors.append({"name": name, "fails": fails, "unit": unit, "patches": listed, **other})

    def flipped(offset: int) -> tuple[int, bytes]:
        return offset, bytes([valid[offset] ^ 1])

    def unit(index: int, source: bytes = valid) -> bytes:
        return source[HEADER + index * UNIT :][:UNIT]

    vector("valid", "")
    vector("the magic has another first letter", "FORMAT", flipped(0))
    vector("the version is 2", "FORMAT", (16, b"\2"))
    vector("the unit size is not 16384", "ROOT", (20, struct.pack("<I", 4096)))
    vector("the store id has a flipped bit", "ROOT", flipped(24))
    vector("the image is said to be shorter", "ROOT", (40, struct.pack("<Q", IMAGE_BYTES - 4096)))
    vector("the units are said to be fewer", "ROOT", (48, struct.pack("<Q", 2)))
    vector("the zeros of the header are not zeros", "ROOT", flipped(HEADER - 1))
    vector("the first tag has a flipped bit", "ROOT", flipped(tags))
    vector("the last tag has a flipped bit", "ROOT", flipped(tags + 3 * TAG - 1))
    vector("the file is one byte short", "LENGTH", size=len(valid) - 1)
    vector("the file is one byte long", "LENGTH", size=len(valid) + 1)
    vector("the file ends after its header", "LENGTH", size=HEADER)
    vector("the file is empty", "LENGTH", size=0)
    vector("one unit and its tag are cut off", "ROOT", size=len(valid) - UNIT - TAG)
    vector("the root hash is that of an older store of the same id", "ROOT", root_hash=older_root)
    vector("header and tags are those of an older store of the same id", "ROOT", (tags, older[tags:]))
    for name, fails, fields in (
        ("a pinned header has an unknown unit size", "FORMAT", (20, struct.pack("<I", 4096))),
        ("a pinned header says an image too long for its units", "FORMAT", (40, struct.pack("<Q", 3 * UNIT + 1))),
        ("a pinned header says fewer units than the file has", "LENGTH", (40, struct.pack("<QQ", 2 * UNIT, 2))),
        ("a pinned header has bytes after its fields", "FORMAT", (HEADER - 1, b"1")),
    ):
        altered = bytearray(valid[:HEADER])
        altered[fields[0] : fields[0] + len(fields[1])] = fields[1]
        vector(name, fails, fields, root_hash=root_of(altered, valid[tags:]))
    vector("the first unit has a flipped bit", "UNIT", flipped(HEADER), unit=0)
    vector("the last unit has a flipped bit in its padding", "UNIT", flipped(tags - 1), unit=2)
    vector("a unit stands in another's place", "UNIT", (HEADER + UNIT, unit(0)), unit=1)
    vector("a unit is that of an older store of the same id", "UNIT", (HEADER + UNIT, unit(1, older)), unit=1)
    vector("the key is another", "UNIT", unit=0, key=hashlib.sha256(b"another key").hexdigest())
    (HERE / "valid.store").write_bytes(valid)
    described = {
        "key": KEY.hex(),
        "store_id": STORE_ID.hex(),
        "root_hash": root,
        "image_sha256": hashlib.sha256(image(b"new")).hexdigest(),
        "vectors": vectors,
    }
    (HERE / "vectors.json").write_text(json.dumps(described, indent=1) + "\n")


if __name__ == "__main__":
    main()
