from __future__ import annotations

import io
import os
import struct
import subprocess
from pathlib import Path

import pytest

from orchestrator.faults import Code, Permanent
from tests.unit.enclave.rootfs.layers import (
    BLOCK_DEVICE,
    CHARACTER,
    DIRECTORY,
    FIFO,
    LINK,
    SYMLINK,
    Item,
    archive,
    extracted,
    listing,
    mounted,
    write_image,
)
from workers.enclave.rootfs.entry import Attributes, Entry, Kind
from workers.enclave.rootfs.erofs import ErofsWriter
from workers.enclave.rootfs.image import FileSink, ImageBuilder
from workers.enclave.rootfs.image import write_image as write_entries

ROOT = Item(b"./", DIRECTORY, mode=0o755)


def compare(tmp_path: Path, *items: Item) -> None:
    layer = archive(*items)
    image = write_image(tmp_path / "image", layer)
    expected = listing(extracted(layer, tmp_path / "extracted"))
    with mounted(image, tmp_path / "mounted") as root:
        assert listing(root) == expected


def test_every_kind_of_inode_is_as_tar_would_extract_it(tmp_path: Path) -> None:
    compare(
        tmp_path,
        Item(b"./", DIRECTORY, mode=0o1751, uid=3, gid=4, mtime="-12.25"),
        Item(b"dir", DIRECTORY, mode=0o2750, uid=70000, gid=4294967294, mtime="1"),
        Item(b"dir/empty", mode=0),
        Item(b"dir/file", content=b"x" * 10000, mode=0o4755, mtime="1234567890.123456789"),
        Item(b"dir/exact", content=b"y" * 8192, mtime="0.000000001"),
        Item(b"again", LINK, link=b"dir/file", mode=0o4755, mtime="1234567890.123456789"),
        Item(b"link", SYMLINK, link=b"../dir/file", mode=0o777, uid=9),
        Item(b"long", SYMLINK, link=b"t" * 4095, mode=0o777),
        Item(b"null", CHARACTER, device=(1, 3), mode=0o666),
        Item(b"disk", BLOCK_DEVICE, device=(4095, 1048575), mode=0o600),
        Item(b"pipe", FIFO, mode=0o622),
        Item(b"\xff\xfe not utf-8 \n", content=b"bytes"),
        Item("größe/".encode(), DIRECTORY, mode=0o700),
        Item("größe/".encode() + b"n" * 248, content=b"longest name"),
    )


def test_extended_attributes_survive_with_capabilities_and_acls(tmp_path: Path) -> None:
    capability = struct.pack("<IIIII", 0x02000001, 1 << 10, 0, 0, 0)
    acl = struct.pack("<I", 2) + b"".join(
        struct.pack("<HHI", tag, permission, who)
        for tag, permission, who in (
            (1, 6, 0xFFFFFFFF),
            (2, 4, 1000),
            (4, 4, 0xFFFFFFFF),
            (16, 6, 0xFFFFFFFF),
            (32, 0, 0xFFFFFFFF),
        )
    )
    compare(
        tmp_path,
        ROOT,
        Item(b"ping", content=b"elf", mode=0o755, xattrs=(("security.capability", capability),)),
        Item(
            b"shared", DIRECTORY, mode=0o760, xattrs=(("system.posix_acl_default", acl), ("trusted.mark", b"\0\n=\xff"))
        ),
        Item(b"acl", mode=0o660, xattrs=(("system.posix_acl_access", acl),)),
        Item(b"user", xattrs=tuple((f"user.{'n' * length}", b"v" * length) for length in (1, 2, 3, 4, 5, 100, 250))),
        Item(b"empty", xattrs=(("user.empty", b""),)),
    )


@pytest.mark.parametrize("count", [1, 60, 61, 62, 100, 2000])
@pytest.mark.parametrize("length", [4, 50, 255])
def test_directories_of_every_size_list_all_their_names(tmp_path: Path, count: int, length: int) -> None:
    # Each may spill from beside its inode into one block, and into many.
    items = [Item(f"d/{number:04}".encode().ljust(length + 2, b"x"), content=b"%d" % number) for number in range(count)]
    image = write_image(tmp_path / "image", archive(ROOT, Item(b"d", DIRECTORY, mode=0o755), *items))
    with mounted(image, tmp_path / "mounted") as root:
        assert sorted(path.name for path in (root / "d").iterdir()) == sorted(
            os.fsdecode(item.name[2:]) for item in items
        )
        for item in items:
            assert Path(os.fsdecode(os.fsencode(root) + b"/" + item.name)).read_bytes() == item.content
        assert not (root / "d" / "absent").exists()


def test_large_attributes_push_tails_into_blocks_and_inodes_over_block_borders(tmp_path: Path) -> None:
    values = [("user.big", b"v" * size) for size in (1, 900, 1900, 3700, 3900, 3990, 4000, 4020, 4080, 5000, 9000)]
    items = [ROOT]
    for number, value in enumerate(values):
        items += [
            Item(b"dir%d" % number, DIRECTORY, mode=0o755, xattrs=(value,)),
            Item(b"dir%d/one" % number, content=b"1"),
            Item(b"dir%d/two" % number, SYMLINK, link=b"l" * (number * 300 + 1), mode=0o777),
            Item(b"file%d" % number, content=b"2", xattrs=(value,)),
        ]
    image = write_image(tmp_path / "image", archive(*items))
    with mounted(image, tmp_path / "mounted") as root:
        for number, (name, value) in enumerate(values):
            assert os.getxattr(root / f"dir{number}", name) == value
            assert os.getxattr(root / f"file{number}", name) == value
            assert (root / f"dir{number}" / "one").read_bytes() == b"1"
            assert str((root / f"dir{number}" / "two").readlink()) == "l" * (number * 300 + 1)


@pytest.mark.parametrize("length", range(3700, 3970, 10))
def test_an_inode_that_ends_with_its_block_ends_the_image_well(tmp_path: Path, length: int) -> None:
    compare(tmp_path, ROOT, Item(b"a", SYMLINK, link=b"t" * length, mode=0o777), Item(b"last"))


def test_attributes_that_cannot_be_kept_are_counted_and_the_overlays_own_are_among_them(tmp_path: Path) -> None:
    unkept = (("trusted.overlay.redirect", b"/etc"), ("user.overlay.opaque", b"y"), ("system.nfs4_acl", b"?"))
    layer = archive(ROOT, Item(b"f", xattrs=(*unkept, ("user.kept", b"1"))))
    with FileSink(tmp_path / "image") as sink:
        builder = ImageBuilder(sink)
        builder.add_layer(io.BytesIO(layer))
        assert builder.finish().xattrs_dropped == 3
    with mounted(tmp_path / "image", tmp_path / "mounted") as root:
        assert os.listxattr(root / "f") == ["user.kept"]


def test_the_deepest_path_linux_can_name_is_found_without_recursion(tmp_path: Path) -> None:
    # Without fsck.erofs, which recurses and dies of it.
    deep = b"/".join([b"d"] * 2000) + b"/file"
    with FileSink(tmp_path / "image") as sink:
        builder = ImageBuilder(sink)
        builder.add_layer(io.BytesIO(archive(ROOT, Item(deep, content=b"deep"))))
        builder.finish()
    with mounted(tmp_path / "image", tmp_path / "mounted") as root:
        below = os.open(root, os.O_RDONLY)
        found = os.open(deep, os.O_RDONLY, dir_fd=below)
        assert os.read(found, 10) == b"deep"
        os.close(found)
        os.close(below)


def test_the_same_layers_give_the_same_bytes(tmp_path: Path) -> None:
    layer = archive(ROOT, *(Item(b"f%d" % number, content=os.urandom(100)) for number in range(200)))
    assert write_image(tmp_path / "one", layer).read_bytes() == write_image(tmp_path / "two", layer).read_bytes()


def test_no_inode_has_number_zero_which_readdir_would_hide(tmp_path: Path) -> None:
    with mounted(write_image(tmp_path / "image", archive(ROOT, Item(b"f"))), tmp_path / "mounted") as root:
        with os.scandir(root) as entries:
            assert [entry.name for entry in entries if entry.inode() > 0] == ["f"]
        assert root.stat().st_ino > 0


def test_an_image_of_nothing_is_an_empty_root(tmp_path: Path) -> None:
    with mounted(write_image(tmp_path / "image"), tmp_path / "mounted") as root:
        assert list(root.iterdir()) == []
        assert root.stat().st_mode & 0o7777 == 0o755


def test_a_listed_tree_becomes_an_image(tmp_path: Path) -> None:
    entries = [
        (Entry((b"usr", b"bin", b"tool"), Kind.REGULAR, Attributes(0o755), size=5), [b"he", b"llo"]),
        (Entry((b"bin",), Kind.SYMLINK, Attributes(0o777), target=b"usr/bin"), []),
    ]
    with FileSink(tmp_path / "image") as sink:
        summary = write_entries(entries, sink)
    assert summary.files == 5
    assert summary.content_bytes == 5
    assert summary.size == (tmp_path / "image").stat().st_size
    subprocess.run(["fsck.erofs", tmp_path / "image"], check=True, capture_output=True)
    with mounted(tmp_path / "image", tmp_path / "mounted") as root:
        assert (root / "bin" / "tool").read_bytes() == b"hello"


@pytest.mark.parametrize("pieces", [[b"abc"], [b"abcde", b"f"], []])
def test_content_of_another_length_than_announced_is_refused(tmp_path: Path, pieces: list[bytes]) -> None:
    with FileSink(tmp_path / "image") as sink, pytest.raises(Permanent) as refusal:
        ErofsWriter(sink).write_content(5, pieces)
    assert refusal.value.code is Code.IMAGE_MALFORMED
    assert list(tmp_path.iterdir()) == []


def test_more_attributes_than_an_inode_can_address_are_refused(tmp_path: Path) -> None:
    many = tuple((b"user.%d" % number, b"v" * 60000) for number in range(5))
    entry = Entry((b"f",), Kind.REGULAR, Attributes(0o644, xattrs=many))
    with FileSink(tmp_path / "image") as sink, pytest.raises(Permanent) as refusal:
        write_entries([(entry, [])], sink)
    assert refusal.value.code is Code.IMAGE_MALFORMED
