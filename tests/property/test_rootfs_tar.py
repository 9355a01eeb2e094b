from __future__ import annotations

import io
import os
import tarfile

from hypothesis import example, given
from hypothesis import strategies as st

from orchestrator.faults import Code, Permanent
from tests.unit.enclave.rootfs.layers import (
    BLOCK_DEVICE,
    CHARACTER,
    DIRECTORY,
    FIFO,
    LINK,
    REGULAR,
    SYMLINK,
    Item,
    archive,
)
from workers.enclave.rootfs.entry import Entry
from workers.enclave.rootfs.image import ImageBuilder
from workers.enclave.rootfs.tar import TarReader

COMPONENT = st.binary(min_size=1, max_size=255).filter(
    lambda name: not {0, 0x2F} & set(name) and name not in (b".", b"..")
)
PATH = st.lists(COMPONENT, min_size=1, max_size=8).map(b"/".join)
# tarfile cuts spaces and NULs from the ends of some fields; those names are covered by the pax format alone.
TARGET = st.binary(min_size=1, max_size=300).filter(lambda text: 0 not in text)
SMALL = st.integers(0, 0o7777777)


@st.composite
def items(draw: st.DrawFn) -> Item:
    kind = draw(st.sampled_from([REGULAR, LINK, SYMLINK, DIRECTORY, CHARACTER, BLOCK_DEVICE, FIFO]))
    link = {SYMLINK: TARGET, LINK: PATH}.get(kind, st.just(b""))
    return Item(
        name=draw(PATH),
        type=kind,
        content=draw(st.binary(max_size=2000)) if kind == REGULAR else b"",
        mode=draw(st.integers(0, 0o7777)),
        uid=draw(SMALL),
        gid=draw(SMALL),
        mtime=str(draw(st.integers(0, 2**33 - 1))),
        link=draw(link),
        device=(draw(st.integers(0, 4095)), draw(st.integers(0, 2**20 - 1))),
        xattrs=tuple(draw(st.dictionaries(st.sampled_from(["user.a", "user.b"]), st.binary(max_size=50))).items()),
    )


def said(entry: Entry, content: bytes) -> tuple[object, ...]:
    a = entry.attributes
    path, link = b"/".join(entry.path), entry.target or b"/".join(entry.link)
    return path, link, a.permissions, a.uid, a.gid, a.mtime_ns, sorted(a.xattrs), content, entry.device


def meant(item: Item, form: int) -> tuple[object, ...]:
    device = item.device if item.type in (CHARACTER, BLOCK_DEVICE) else (0, 0)
    xattrs = [(os.fsencode(name), value) for name, value in item.xattrs] if form == tarfile.PAX_FORMAT else []
    whole = int(item.mtime) * 10**9
    return item.name, item.link, item.mode, item.uid, item.gid, whole, sorted(xattrs), item.content, device


def read(layer: bytes) -> list[tuple[object, ...]]:
    reader = TarReader(io.BytesIO(layer))
    return [said(entry, b"".join(reader.content())) for entry in reader]


@given(st.lists(items(), max_size=6), st.sampled_from([tarfile.GNU_FORMAT, tarfile.PAX_FORMAT]))
def test_what_tarfile_writes_is_what_is_read(listed: list[Item], form: int) -> None:
    assert read(archive(*listed, form=form)) == [meant(item, form) for item in listed]


LAYER = archive(
    Item(b"./", DIRECTORY),
    Item(b"long/" + b"n" * 200, content=b"c" * 600, xattrs=(("user.a", b"v"),)),
    Item(b"h", LINK, link=b"long/" + b"n" * 200),
    Item(b".wh.x"),
    Item(b"null", CHARACTER, device=(1, 3)),
)


@given(st.lists(st.tuples(st.integers(0, len(LAYER) - 1), st.integers(0, 255)), min_size=1, max_size=8), st.booleans())
@example([(0, 0)], True)
def test_a_damaged_archive_is_read_or_refused_and_nothing_else(damage: list[tuple[int, int]], mend: bool) -> None:
    layer = bytearray(LAYER)
    for offset, byte in damage:
        layer[offset] = byte
    if mend:
        # A wrong checksum would stop most of the damage at once.
        for at in range(0, len(layer), 512):
            block = layer[at : at + 512]
            if block[257:262] == b"ustar":
                layer[at + 148 : at + 156] = b"%06o\0 " % (sum(block) - sum(block[148:156]) + 256)
    builder = ImageBuilder(Discard())
    try:
        builder.add_layer(io.BytesIO(layer))
        builder.finish()
    except Permanent as refusal:
        assert refusal.code is Code.IMAGE_MALFORMED  # noqa: PT017 - to be read is as good


@given(st.binary(max_size=3000))
def test_noise_is_read_or_refused_and_nothing_else(noise: bytes) -> None:
    try:
        read(noise)
    except Permanent as refusal:
        assert refusal.code is Code.IMAGE_MALFORMED  # noqa: PT017 - to be read is as good


class Discard:
    def append(self, data: object, /) -> None:
        pass

    def finish(self, first_block: bytes, /) -> None:
        pass
