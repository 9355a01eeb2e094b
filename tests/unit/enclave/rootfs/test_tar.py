from __future__ import annotations

import io
import os
import tarfile

import pytest

from orchestrator.faults import Code, Permanent, Temporary
from tests.unit.enclave.rootfs.layers import CHARACTER, DIRECTORY, FIFO, LINK, SYMLINK, Item, archive
from workers.enclave.rootfs.entry import Entry, Kind
from workers.enclave.rootfs.tar import CHUNK, TarReader

FORMS = [tarfile.USTAR_FORMAT, tarfile.GNU_FORMAT, tarfile.PAX_FORMAT]


class Trickle:
    """A stream that gives a few bytes at a time, as a network does."""

    def __init__(self, data: bytes, step: int) -> None:
        self.rest, self.step = io.BytesIO(data), step

    def read(self, size: int, /) -> bytes:
        return self.rest.read(min(size, self.step))


def read(data: bytes, step: int = CHUNK) -> list[tuple[Entry, bytes]]:
    reader = TarReader(Trickle(data, step))
    return [(entry, b"".join(reader.content())) for entry in reader]


def refused(data: bytes) -> str:
    with pytest.raises(Permanent) as refusal:
        read(data)
    assert refusal.value.code is Code.IMAGE_MALFORMED
    return str(refusal.value)


def header(name: bytes = b"f", kind: bytes = b"0", size: bytes = b"0", at: dict[int, bytes] | None = None) -> bytes:
    """One ustar header with a right checksum; `at` overwrites fields by their offset."""
    block = bytearray(512)
    fields = {0: name, 100: b"0000644\0", 124: size.rjust(11, b"0"), 136: b"0" * 11, 156: kind, 257: b"ustar\x0000"}
    for offset, value in {**fields, **(at or {})}.items():
        block[offset : offset + len(value)] = value
    block[148:156] = b" " * 8
    block[148:156] = b"%06o\0 " % sum(block)
    return bytes(block)


def extended(kind: bytes, *blocks: bytes) -> bytes:
    data = b"".join(blocks)
    return header(b"././@", kind, b"%o" % len(data)) + data + bytes(-len(data) % 512)


def record(key: bytes, value: bytes) -> bytes:
    length = len(key) + len(value) + 3
    while len(b"%d" % length) + len(key) + len(value) + 3 != length:
        length += 1
    return b"%d %s=%s\n" % (length, key, value)


END = bytes(1024)


@pytest.mark.parametrize("form", FORMS)
def test_what_every_format_holds_is_read(form: int) -> None:
    items = [
        Item(b"./", DIRECTORY, mode=0o755),
        Item(b"./dir/", DIRECTORY, mode=0o1777, uid=1, gid=2),
        Item(b"/abs/file", content=b"hello" * 1000, mode=0o4711, mtime="17"),
        Item(b"hard", LINK, link=b"/abs/file"),
        Item(b"soft", SYMLINK, link=b"/../any/../text", mode=0o777),
        Item(b"null", CHARACTER, device=(1, 3)),
        Item(b"pipe", FIFO),
        Item(b"p" * 90 + b"/" + b"n" * 90),
    ]
    (root, _), (folder, _), (file, content), (hard, _), (soft, _), (null, _), (pipe, _), (long, _) = read(
        archive(*items, form=form)
    )
    assert root.path == ()
    assert folder.path == (b"dir",)
    assert (folder.attributes.permissions, folder.attributes.uid, folder.attributes.gid) == (0o1777, 1, 2)
    assert (file.path, file.size, content) == ((b"abs", b"file"), 5000, b"hello" * 1000)
    assert (file.attributes.permissions, file.attributes.mtime_ns) == (0o4711, 17 * 10**9)
    assert (hard.kind, hard.link) == (Kind.HARDLINK, (b"abs", b"file"))
    assert (soft.kind, soft.target) == (Kind.SYMLINK, b"/../any/../text")
    assert (null.kind, null.device) == (Kind.CHARACTER, (1, 3))
    assert pipe.kind is Kind.FIFO
    assert long.path == (b"p" * 90, b"n" * 90)


@pytest.mark.parametrize("form", [tarfile.GNU_FORMAT, tarfile.PAX_FORMAT])
def test_names_links_numbers_and_times_beyond_the_plain_header_are_read(form: int) -> None:
    name, link = b"/".join([b"d" * 200] * 3), b"t" * 3000
    big = Item(name, SYMLINK, link=link, uid=2**32 - 2, gid=2**31, mtime="-5", mode=0o777)
    ((entry, _),) = read(archive(big, form=form))
    assert (b"/".join(entry.path), entry.target) == (name, link)
    assert (entry.attributes.uid, entry.attributes.gid) == (2**32 - 2, 2**31)
    assert entry.attributes.mtime_ns == -5 * 10**9


@pytest.mark.parametrize(
    ("text", "nanoseconds"),
    [("1.5", 1_500_000_000), ("-1.5", -1_500_000_000), ("0.0000000019", 1), ("-0.0000000019", -2), ("7.", 7 * 10**9)],
)
def test_times_keep_their_nanoseconds(text: str, nanoseconds: int) -> None:
    ((entry, _),) = read(archive(Item(b"f", mtime=text)))
    assert entry.attributes.mtime_ns == nanoseconds


def test_extended_attributes_are_read_as_bytes_in_order_of_name() -> None:
    ((entry, _),) = read(archive(Item(b"f", xattrs=(("user.z", b"=\n\0\xff"), ("security.a", b"")))))
    assert entry.attributes.xattrs == ((b"security.a", b""), (b"user.z", b"=\n\0\xff"))


def test_a_large_file_in_the_pax_size_field_is_read_to_its_last_byte() -> None:
    data = os.urandom(5000)
    layer = extended(b"x", record(b"size", b"5000")) + header() + data + bytes(-5000 % 512) + header(b"after") + END
    assert [(entry.path, content) for entry, content in read(layer)] == [((b"f",), data), ((b"after",), b"")]


def test_star_keeps_times_in_the_prefix_field_and_they_are_not_taken_for_a_name() -> None:
    layer = header(at={345: b"prefix", 476: b"00000000017 00000000017 ", 508: b"tar\0"}) + END
    assert read(layer)[0][0].path == (b"prefix", b"f")


def test_a_v7_directory_is_a_name_with_a_slash() -> None:
    assert read(header(b"d/", b"\0", at={257: bytes(8)}) + END)[0][0].kind is Kind.DIRECTORY


def test_old_archivers_that_summed_signed_characters_are_believed() -> None:
    block = bytearray(header(b"\xe9\xe9"))
    block[148:156] = b" " * 8
    block[148:156] = b"%06o\0 " % (sum(block) - 2 * 256)
    assert read(bytes(block) + END)[0][0].path == (b"\xe9\xe9",)


def test_global_headers_are_left_out_as_containerd_leaves_them_out() -> None:
    layer = extended(b"g", record(b"comment", b"made by git"), record(b"path", b"evil")) + header() + END
    assert read(layer)[0][0].path == (b"f",)


def test_content_not_asked_for_is_skipped() -> None:
    layer = archive(Item(b"a", content=b"a" * 3_000_000), Item(b"b", content=b"b"))
    assert [entry.path for entry in TarReader(io.BytesIO(layer))] == [(b"a",), (b"b",)]


def test_the_stream_is_read_to_its_end_so_that_its_digest_covers_everything() -> None:
    stream = io.BytesIO(archive(Item(b"a")) + b"after the end mark" * 200_000)
    stream.getbuffer()[-1:] = b"!"
    assert len(list(TarReader(stream))) == 1
    assert stream.read() == b""


@pytest.mark.parametrize("step", [1, 7, 511, 512, 513])
def test_pieces_of_any_size_make_the_same_entries(step: int) -> None:
    layer = archive(
        Item(b"n" * 200 + b"/" + b"n" * 100, content=b"x" * 1234),
        Item(b"l", SYMLINK, link=b"t"),
        Item(b"z", content=b"z"),
    )
    assert read(layer, step) == read(layer)


def test_no_prefix_of_an_archive_is_taken_for_the_whole() -> None:
    layer = archive(Item(b"n" * 200 + b"/" + b"n" * 100, content=b"x" * 700), Item(b"b", xattrs=(("user.a", b"b"),)))
    end = len(layer.rstrip(b"\0")) // 512 * 512 + 512
    for cut in [*range(0, end, 101), *range(0, end + 1, 512)]:
        assert "early" in refused(layer[:cut])
    assert len(read(layer[: end + 512])) == 2


def test_faults_of_the_stream_pass_through() -> None:
    class Broken:
        def read(self, size: int, /) -> bytes:
            raise Temporary(Code.IMAGE_TRUNCATED, "the registry went away")

    with pytest.raises(Temporary) as fault:
        list(TarReader(Broken()))
    assert fault.value.code is Code.IMAGE_TRUNCATED


def twice(kind: bytes, *blocks: bytes) -> bytes:
    return extended(kind, *blocks) * 2 + header() + END


@pytest.mark.parametrize(
    ("reason", "layer"),
    [
        ("checksum", header()[:-1] + b"x" + END),
        ("octal", header(size=b"12x") + END),
        ("octal", header(at={100: b"9"}) + END),
        ("climbs", header(b"../f") + END),
        ("climbs", header(b"a/../f") + END),
        ("climbs", header(b"..") + END),
        ("climbs", header(b"h", b"1", at={157: b"a/../../etc/passwd"}) + END),
        ("unknown type", header(kind=b"S") + END),
        ("unknown type", header(kind=b"M") + END),
        ("unknown type", header(kind=b"Z") + END),
        ("sparse", extended(b"x", record(b"GNU.sparse.major", b"1")) + header() + END),
        ("bad text", header(b"s", b"2") + END),
        ("bad text", extended(b"K", b"t" * 4096) + header(b"s", b"2") + END),
        ("bad text", extended(b"x", record(b"linkpath", b"a\0b")) + header(b"s", b"2") + END),
        ("NUL", extended(b"x", record(b"path", b"a\0b")) + header() + END),
        ("too long", extended(b"L", b"n" * 256) + header() + END),
        ("too long", extended(b"L", b"n/" * 2500) + header() + END),
        ("owner", extended(b"x", record(b"uid", b"4294967295")) + header() + END),
        ("out of range", header(at={108: b"\xff" * 8}) + END),
        ("out of range", header(at={124: b"\x80" + b"\xff" * 11}) + END),
        ("out of range", header(at={136: b"\x80" + b"\x7f" * 11}) + END),
        ("out of range", header(kind=b"3", at={329: b"7777777\0"}) + END),
        ("out of range", extended(b"x", record(b"mtime", b"9" * 12 + b"9")) + header() + END),
        ("time", extended(b"x", record(b"mtime", b"1e9")) + header() + END),
        ("not a number", extended(b"x", record(b"size", b"-1")) + header() + END),
        ("not a number", extended(b"x", record(b"size", "٣".encode())) + header() + END),
        ("wrong length", extended(b"x", b"9999 path=a\n") + header() + END),
        ("wrong length", extended(b"x", b"7 path=a\n") + header() + END),
        ("wrong length", extended(b"x", b"06 a=b\n") + header() + END),
        ("wrong length", extended(b"x", b"x") + header() + END),
        ("wrong length", extended(b"g", b"x") + header() + END),
        ("keyword", extended(b"x", b"4 a\n") + header() + END),
        ("keyword", extended(b"x", b"5 =a\n") + header() + END),
        ("bad name or size", extended(b"x", record(b"SCHILY.xattr.", b"v")) + header() + END),
        ("bad name or size", extended(b"x", record(b"SCHILY.xattr.user.a", b"v" * 65536)) + header() + END),
        ("bad size", header(kind=b"x", size=b"0") + END),
        ("bad size", header(kind=b"L", size=b"%o" % (2**20 + 1)) + END),
        ("one kind", twice(b"x", record(b"path", b"a"))),
        ("one kind", twice(b"L", b"name\0")),
        ("one kind", twice(b"K", b"link\0")),
        ("both a GNU and a pax", extended(b"L", b"a\0") + extended(b"x", record(b"path", b"b")) + header() + END),
        ("one kind", extended(b"x", record(b"path", b"b")) + extended(b"L", b"a\0") + header() + END),
        ("ends in an extended header", extended(b"L", b"a\0") + END),
        ("after its end mark", header() + bytes(512) + header(b"g") + END),
    ],
)
def test_an_archive_that_may_mean_two_things_is_refused_for_that_reason(reason: str, layer: bytes) -> None:
    assert reason in refused(layer)


def test_a_hidden_name_in_a_message_is_escaped_and_cut() -> None:
    assert "\x1b" not in refused(header(b"\x1b[2J/../") + END)
    assert len(refused(extended(b"L", b"n" * 4000) + header() + END)) < 400
