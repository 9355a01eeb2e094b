"""What a failing layer tells the host: what is wrong with it, and nothing that stands in it."""

from __future__ import annotations

import io
import os
from pathlib import Path

import pytest

from orchestrator.faults import Code, Diagnosis, Permanent
from tests.simulators import oci
from workers.enclave.decrypt_image import seal
from workers.enclave.image.layers import LayerReader, open_layer
from workers.enclave.image.manifest import Descriptor
from workers.enclave.image.ocicrypt import unwrap_layer_key
from workers.enclave.rootfs.sealing import SealingWriter
from workers.enclave.rootfs.tar import CHUNK

KEK, KID = bytes(range(32)), "kbs:///default/image-key/app"
MEDIA = oci.TAR + "+encrypted"
SECRET = b"password"
BLOCK = 512


def encrypted(tar: bytes, altered: bytes | None = None) -> LayerReader:
    """A layer; with `altered`, as it is after somebody without its key has turned bits of the ciphertext over."""
    ciphertext, annotations = oci.encrypted_layer(tar, KEK, KID)
    descriptor = Descriptor(MEDIA, oci.digest(ciphertext), len(ciphertext), annotations)
    key = unwrap_layer_key(descriptor, lambda _: KEK)
    difference = bytes(a ^ b for a, b in zip(tar, altered or tar, strict=True))
    served = bytes(a ^ b for a, b in zip(ciphertext, difference, strict=True))
    return open_layer(io.BytesIO(served), descriptor, diff_id=oci.digest(tar), key=key, most_bytes=1 << 30)


def told(layer: LayerReader, folder: Path) -> Diagnosis:
    with SealingWriter(folder / "store") as writer, pytest.raises(Permanent) as raised:
        seal(layer, writer)
    assert list(folder.iterdir()) == []
    return raised.value.diagnosis


def emptied(tar: bytes) -> bytes:
    """The first entry said to be empty: the reader takes its content for the next header."""
    header = bytearray(tar[:BLOCK])
    header[124:136] = b"%011o\0" % 0
    header[148:156] = b" " * 8
    header[148:156] = b"%06o\0 " % sum(header)
    return bytes(header) + tar[BLOCK:]


def test_turning_bits_of_the_ciphertext_over_makes_the_enclave_quote_nothing(tmp_path: Path) -> None:
    # Where a header has its checksum, the content has a secret; and the layer is longer than the reader reads ahead.
    content = os.urandom(148) + SECRET + os.urandom(3 * CHUNK)
    tar = oci.tar({"known-name": content})
    diagnosis = told(encrypted(tar, emptied(tar)), tmp_path)
    assert diagnosis.code is Code.IMAGE_ALTERED
    assert "check 2" in diagnosis.message
    assert SECRET.decode() not in diagnosis.text()


def test_a_layer_that_its_owner_made_wrong_is_told_without_the_names_in_it(tmp_path: Path) -> None:
    diagnosis = told(encrypted(oci.tar({"../secret-name": b""})), tmp_path)
    assert diagnosis.code is Code.IMAGE_MALFORMED
    assert diagnosis.message == "a name in a layer climbs out of its directory"
    assert diagnosis.expected == "no '..'"
    assert "secret-name" not in diagnosis.text()


def test_a_good_layer_is_sealed(tmp_path: Path) -> None:
    with SealingWriter(tmp_path / "store") as writer:
        seal(encrypted(oci.tar({"a": b"content"})), writer)
        assert writer.finish().files == 2
