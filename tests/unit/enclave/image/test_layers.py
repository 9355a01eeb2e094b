"""A layer proves itself at its end, and a failing check is named."""

from __future__ import annotations

import gzip
import io
import os
import zlib
from dataclasses import replace

import pytest

from orchestrator.faults import Code, Permanent
from tests.simulators import oci
from workers.enclave.image.layers import LayerReader, open_layer
from workers.enclave.image.manifest import Descriptor
from workers.enclave.image.ocicrypt import LayerKey, unwrap_layer_key

KEK = bytes(range(32))
KID = "kbs:///default/image-key/app"
TAR = oci.tar({"a": os.urandom(700_000), "b": b"b" * 900_000})
GIB = 1 << 30


def opened(
    blob: bytes,
    *,
    tar: bytes = TAR,
    media_type: str = oci.TAR + "+gzip",
    key: LayerKey | None = None,
    served: bytes | None = None,
    most: int = GIB,
) -> LayerReader:
    """A reader of `served` (the blob itself unless a test says otherwise)."""
    descriptor = Descriptor(media_type, oci.digest(blob), len(blob))
    source = io.BytesIO(blob if served is None else served)
    return open_layer(source, descriptor, diff_id=oci.digest(tar), key=key, most_bytes=most)


def sealed(body: bytes, **lie: object) -> tuple[bytes, LayerKey]:
    ciphertext, annotations = oci.encrypted_layer(body, KEK, KID, **lie)
    descriptor = Descriptor(oci.TAR + "+gzip+encrypted", oci.digest(ciphertext), len(ciphertext), annotations)
    return ciphertext, unwrap_layer_key(descriptor, lambda _: KEK)


def fault(reader: LayerReader) -> Permanent:
    with pytest.raises(Permanent) as raised:
        reader.verify()
    assert not reader.verified
    with pytest.raises(Permanent) as again:
        reader.read(1)
    assert again.value is raised.value
    return raised.value


def test_a_gzip_layer_gives_its_tar() -> None:
    with opened(gzip.compress(TAR)) as reader:
        assert reader.read() == TAR
        reader.verify()
        assert reader.verified
        assert reader.tar_bytes == len(TAR)


def test_an_uncompressed_layer_gives_its_tar() -> None:
    with opened(TAR, media_type=oci.TAR) as reader:
        assert reader.read() == TAR
        reader.verify()


def test_an_encrypted_layer_gives_its_tar() -> None:
    ciphertext, key = sealed(gzip.compress(TAR))
    with opened(ciphertext, media_type=oci.TAR + "+gzip+encrypted", key=key) as reader:
        assert reader.read() == TAR
        reader.verify()


@pytest.mark.parametrize("size", [1, 511, 512, 65_537, 5_000_000])
def test_reads_of_any_size_give_the_same_tar_and_are_short_only_at_the_end(size: int) -> None:
    tar = TAR[:40_000] if size == 1 else TAR
    with opened(gzip.compress(tar), tar=tar) as reader:
        pieces = list(iter(lambda: reader.read(size), b""))
    assert b"".join(pieces) == tar
    assert {len(piece) for piece in pieces[:-1]} <= {size}


def test_several_gzip_members_are_one_tar() -> None:
    third = len(TAR) // 3
    blob = gzip.compress(TAR[:third]) + gzip.compress(b"") + gzip.compress(TAR[third:])
    with opened(blob) as reader:
        assert reader.read() == TAR
        reader.verify()


def test_verify_reads_what_the_tar_parser_left() -> None:
    with opened(gzip.compress(TAR)) as reader:
        reader.read(1024)
        reader.verify()
        assert reader.read(1) == b""


def test_check_1_a_short_blob_is_truncated() -> None:
    blob = gzip.compress(TAR)
    found = fault(opened(blob, served=blob[:-100]))
    assert found.code is Code.IMAGE_TRUNCATED
    assert "check 1" in found.diagnosis.message
    assert found.diagnosis.expected == f"{len(blob)} bytes"
    assert found.diagnosis.got == f"{len(blob) - 100} bytes"


def test_check_1_a_longer_blob_is_altered() -> None:
    blob = gzip.compress(TAR)
    found = fault(opened(blob, served=blob + b"x"))
    assert found.code is Code.IMAGE_ALTERED
    assert "check 1" in found.diagnosis.message


@pytest.mark.parametrize("place", [0, 3, 12, 5_000, -9, -5, -1])
def test_check_2_one_flipped_bit_anywhere_is_named_as_the_blobs_digest(place: int) -> None:
    blob = gzip.compress(TAR)
    flipped = bytearray(blob)
    flipped[place] ^= 0x10
    found = fault(opened(blob, served=bytes(flipped)))
    assert found.code is Code.IMAGE_ALTERED
    assert "check 2" in found.diagnosis.message
    assert found.diagnosis.expected == oci.digest(blob)
    assert found.diagnosis.got == oci.digest(bytes(flipped))


def test_check_3_a_wrong_hmac_is_named() -> None:
    ciphertext, key = sealed(gzip.compress(TAR))
    wrong = replace(key, hmac=bytes(32))
    found = fault(opened(ciphertext, media_type=oci.TAR + "+gzip+encrypted", key=wrong))
    assert found.code is Code.IMAGE_ALTERED
    assert "check 3" in found.diagnosis.message


def test_check_4_catches_a_wrong_nonce_which_the_hmac_does_not_cover() -> None:
    ciphertext, key = sealed(gzip.compress(TAR))
    wrong = replace(key, nonce=bytes(16))
    found = fault(opened(ciphertext, media_type=oci.TAR + "+gzip+encrypted", key=wrong))
    assert found.code is Code.IMAGE_ALTERED
    assert "check 4" in found.diagnosis.message
    assert found.diagnosis.expected == key.digest


def test_check_4_catches_a_wrapped_digest_of_another_layer() -> None:
    ciphertext, key = sealed(gzip.compress(TAR), wrapped_digest="sha256:" + "0" * 64)
    found = fault(opened(ciphertext, media_type=oci.TAR + "+gzip+encrypted", key=key))
    assert found.code is Code.IMAGE_ALTERED
    assert "check 4" in found.diagnosis.message


@pytest.mark.parametrize(
    "blob",
    [
        b"",
        b"not gzip at all",
        gzip.compress(TAR)[:-3],
        gzip.compress(TAR) + b"trailing",
        gzip.compress(TAR) + b"\0" * 512,
    ],
    ids=["empty", "no-gzip", "cut", "garbage-behind", "zeros-behind"],
)
def test_check_5_an_honest_blob_that_is_no_gzip_stream_is_malformed(blob: bytes) -> None:
    found = fault(opened(blob))
    assert found.code is Code.IMAGE_MALFORMED
    assert "check 5" in found.diagnosis.message


def test_check_6_a_decompression_bomb_stops_at_the_policys_bound() -> None:
    bomb = zlib.compressobj(9, wbits=31)
    blob = b"".join(bomb.compress(bytes(1 << 20)) for _ in range(200)) + bomb.flush()
    assert len(blob) < 300_000
    reader = opened(blob, most=10 << 20)
    found = fault(reader)
    assert found.code is Code.IMAGE_MALFORMED
    assert "check 6" in found.diagnosis.message
    assert reader.tar_bytes <= 11 << 20


def test_check_7_another_tar_under_a_right_digest_is_altered() -> None:
    other = oci.tar({"evil": b"x"})
    found = fault(opened(gzip.compress(other)))
    assert found.code is Code.IMAGE_ALTERED
    assert "check 7" in found.diagnosis.message
    assert found.diagnosis.expected == oci.digest(TAR)
    assert found.diagnosis.got == oci.digest(other)


@pytest.mark.parametrize(
    ("media_type", "words"),
    [(oci.TAR + "+zstd", "zstd"), (oci.TAR + "+zstd+encrypted", "zstd"), ("text/plain", "no layer")],
)
def test_zstd_and_what_is_no_layer_are_refused_in_clear_words(media_type: str, words: str) -> None:
    key = sealed(b"")[1] if media_type.endswith("+encrypted") else None
    with pytest.raises(Permanent) as refused:
        opened(TAR, media_type=media_type, key=key)
    assert refused.value.code is Code.IMAGE_MALFORMED
    assert words in refused.value.diagnosis.message


def test_a_key_never_shows_in_a_representation() -> None:
    _, key = sealed(gzip.compress(TAR))
    assert key.symmetric.hex() not in repr(key).replace("\\x", "")
    assert "symmetric" not in repr(key)
    assert "nonce" not in repr(key)
