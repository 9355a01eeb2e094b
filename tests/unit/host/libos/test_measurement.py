"""The measurement of a bundle's image: from the file alone, equal for everyone, and for nothing else."""

from __future__ import annotations

import hashlib
import json
import os
import struct
import subprocess

import pytest
from hypothesis import given
from hypothesis import strategies as st

from orchestrator.faults import Code, Permanent
from tests.simulators.enclave_bundle import make_image
from workers.host.libos.entry import MAX_ENTRY_BYTES, Entry
from workers.host.libos.sim.erofs import ErofsImage
from workers.host.libos.sim.measurement import measure_image, mrenclave

ENTRY = {"argv": ["/bin/a", "ü"], "env": {"B": "2", "A": "1"}, "cwd": "/"}


@pytest.fixture
def tree(tmp_path):
    tree = tmp_path / "tree"
    (tree / "etc/enclave-cc").mkdir(parents=True)
    (tree / "etc/enclave-cc/enclave.json").write_text(json.dumps(ENTRY))
    return tree


def image_of(tree, *options):
    image = tree.parent / "image.erofs"
    make_image(tree, image, "-T0", *options)
    return image


def test_the_measurement_is_the_sgx_log_over_the_canonical_document(tree):
    """Computed a second time here, record by record, as the SDM has them."""
    image = image_of(tree)
    sha256 = hashlib.sha256(image.read_bytes()).hexdigest()
    document = (
        '{"entry":{"argv":["/bin/a","ü"],"cwd":"/","env":{"A":"1","B":"2"}},"image_sha256":"' + sha256 + '","v":1}'
    ).encode()
    log = b"ECREATE\0" + (1).to_bytes(4, "little") + (8192).to_bytes(8, "little") + bytes(44)
    for offset, flags, page in ((0, 0x100, bytes(4096)), (4096, 0x201, document.ljust(4096, b"\0"))):
        log += b"EADD\0\0\0\0" + offset.to_bytes(8, "little") + flags.to_bytes(8, "little") + bytes(40)
        for at in range(0, 4096, 256):
            log += b"EEXTEND\0" + (offset + at).to_bytes(8, "little") + bytes(48) + page[at : at + 256]
    measured = measure_image(image)
    assert measured.image_sha256 == sha256
    assert measured.mrenclave == hashlib.sha256(log).digest()
    assert measured.entry == Entry(("/bin/a", "ü"), (("A", "1"), ("B", "2")), "/")


def test_a_known_measurement_never_changes():
    entry = Entry(("/usr/bin/python3.11", "-I"), (("HOME", "/"),), "/")
    known = "b13149af536468bc2656b069bd65a90a9164e09a2c5503a569fa318fb63d4873"
    assert mrenclave("00" * 32, entry).hex() == known


def test_a_long_entry_takes_several_pages(tree):
    entry = Entry(("/bin/a", "x" * 9000), (), "/")
    other = Entry(("/bin/a", "x" * 8999 + "y"), (), "/")
    assert mrenclave("00" * 32, entry) != mrenclave("00" * 32, other)


@pytest.mark.parametrize("what", ["a file", "a name", "a mode", "the entry"])
def test_whatever_differs_in_an_image_changes_its_measurement(tree, what):
    file = tree / "file"
    file.write_text("1")
    before = measure_image(image_of(tree)).mrenclave
    match what:
        case "a file":
            file.write_text("2")
        case "a name":
            file.rename(tree / "elif")
        case "a mode":
            file.chmod(0o600)
        case _:
            (tree / "etc/enclave-cc/enclave.json").write_text(json.dumps(ENTRY | {"cwd": "/tmp"}))
    assert measure_image(image_of(tree)).mrenclave != before


@pytest.mark.parametrize(
    "options", [(), ("-zlz4hc",), ("-Eforce-inode-extended",), ("-Enoinline_data",), ("-Eforce-inode-compact",)]
)
def test_the_manifest_is_found_in_every_image_that_mkfs_makes(tree, options):
    for number in range(600):
        (tree / f"etc/many-{number:04}").write_text("x" * number)
    (tree / "etc/big").write_bytes(os.urandom(100_000))
    fd = os.open(image_of(tree, *options), os.O_RDONLY)
    try:
        image = ErofsImage(fd)
        assert Entry.parse(image.read_file("/etc/enclave-cc/enclave.json", MAX_ENTRY_BYTES)).cwd == "/"
        for number in (0, 1, 599):
            assert image.read_file(f"/etc/many-{number:04}", 4096) == b"x" * number
        assert image.read_file("/etc/big", 1 << 20) == (tree / "etc/big").read_bytes()
    finally:
        os.close(fd)


def test_files_of_every_length_around_a_block_are_read_whole(tree):
    lengths = (0, 1, 31, 4000, 4095, 4096, 4097, 8191, 8192, 12289)
    for length in lengths:
        (tree / f"f{length}").write_bytes(os.urandom(length))
    for options in ((), ("-Enoinline_data",)):
        fd = os.open(image_of(tree, *options), os.O_RDONLY)
        try:
            for length in lengths:
                assert ErofsImage(fd).read_file(f"/f{length}", length) == (tree / f"f{length}").read_bytes()
        finally:
            os.close(fd)


def test_a_compressed_or_linked_or_missing_manifest_is_refused(tree):
    manifest = tree / "etc/enclave-cc/enclave.json"
    manifest.write_text(json.dumps(ENTRY) + " " * 60_000)
    with pytest.raises(Permanent, match="cannot be read") as refused:
        measure_image(image_of(tree, "-zlz4hc"))
    assert "compressed" in refused.value.diagnosis.got
    manifest.rename(tree / "elsewhere")
    with pytest.raises(Permanent) as refused:
        measure_image(image_of(tree))
    assert refused.value.code is Code.NOT_FOUND
    manifest.symlink_to("/elsewhere")
    with pytest.raises(Permanent) as refused:
        measure_image(image_of(tree))
    assert refused.value.code is Code.INPUT


def outcome(read, source) -> str:
    """ "read", or the code of the fault; anything else that is raised fails the test."""
    try:
        value = read(source)
        if isinstance(value, ErofsImage):
            value.read_file("/etc/enclave-cc/enclave.json", MAX_ENTRY_BYTES)
    except Permanent as fault:
        return fault.code
    return "read"


def test_no_truncated_or_damaged_image_does_more_than_fail(tree, tmp_path):
    whole = image_of(tree).read_bytes()
    damaged = tmp_path / "damaged"
    for at in range(1024, min(len(whole), 8192)):
        damaged.write_bytes(whole[:at] + bytes([whole[at] ^ 0xFF]) + whole[at + 1 :])
        fd = os.open(damaged, os.O_RDONLY)
        try:
            assert outcome(ErofsImage, fd) in {"read", Code.INPUT, Code.NOT_FOUND}
        finally:
            os.close(fd)
    for length in range(0, len(whole), 97):
        damaged.write_bytes(whole[:length])
        with pytest.raises(Permanent):
            measure_image(damaged)


@given(st.binary(max_size=300))
def test_no_bytes_make_the_entry_parser_do_more_than_fail(raw):
    assert outcome(Entry.parse, raw) in {"read", Code.INPUT}


@pytest.mark.parametrize(
    "text",
    [
        "[" * 60_000,
        "[]",
        "{}",
        '{"argv":["/a"],"env":{},"cwd":"/","more":1}',
        '{"argv":["/a"],"argv":["/b"],"env":{},"cwd":"/"}',
        '{"argv":[],"env":{},"cwd":"/"}',
        '{"argv":["a"],"env":{},"cwd":"/"}',
        '{"argv":["/a",1],"env":{},"cwd":"/"}',
        '{"argv":["/a\\u0000"],"env":{},"cwd":"/"}',
        '{"argv":["/a","\\ud800"],"env":{},"cwd":"/"}',
        '{"argv":["/a"],"env":{"A=B":"c"},"cwd":"/"}',
        '{"argv":["/a"],"env":{"":"c"},"cwd":"/"}',
        '{"argv":["/a"],"env":{"A":null},"cwd":"/"}',
        '{"argv":["/a"],"env":{"A":"1","A":"2"},"cwd":"/"}',
        '{"argv":["/a"],"env":[],"cwd":"/"}',
        '{"argv":["/a"],"env":{},"cwd":""}',
        '{"argv":["/a"],"env":{},"cwd":"tmp"}',
    ],
)
def test_an_entry_manifest_of_another_shape_is_refused(text):
    with pytest.raises(Permanent) as refused:
        Entry.parse(text.encode())
    assert refused.value.code is Code.INPUT


def test_an_unknown_feature_of_the_file_system_is_refused(tree):
    image = image_of(tree)
    raw = bytearray(image.read_bytes())
    struct.pack_into("<I", raw, 1024 + 80, 0x80)
    image.write_bytes(raw)
    with pytest.raises(Permanent, match="cannot be read"):
        measure_image(image)


def test_the_kernel_reads_the_same_manifest(tree, tmp_path):
    image, at = image_of(tree), tmp_path / "mounted"
    at.mkdir()
    subprocess.run(["mount", "-t", "erofs", "-o", "loop,ro", image, at], check=True)
    try:
        by_kernel = Entry.parse((at / "etc/enclave-cc/enclave.json").read_bytes())
    finally:
        subprocess.run(["umount", at], check=True)
    assert measure_image(image).entry == by_kernel
