from __future__ import annotations

import stat
import tempfile
from collections.abc import Iterator
from dataclasses import replace
from pathlib import Path

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

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
    extracted,
    listing,
    mounted,
    write_image,
)

NAME = st.one_of(
    st.sampled_from([b"a", b"b", b"\xff\xfe", "größe".encode(), b"with space\n", b"n" * 255]),
    st.binary(min_size=1, max_size=40).filter(lambda name: not {0, 0x2F} & set(name) and name not in (b".", b"..")),
).filter(lambda name: not name.startswith(b".wh."))
XATTRS = st.dictionaries(
    st.sampled_from(["user.a", "user." + "n" * 240, "security.x", "trusted.y"]),
    st.one_of(st.binary(max_size=40), st.integers(0, 900).map(lambda size: b"v" * size)),
    max_size=3,
)


@st.composite
def trees(draw: st.DrawFn) -> list[Item]:
    """A layer that describes each of its directories and holds each path once, so that tar leaves nothing open."""
    layer = [Item(b"./", DIRECTORY, mode=draw(st.integers(0, 0o7777)), mtime="1")]
    directories, files, seen = [b""], [], set()
    for _ in range(draw(st.integers(0, 25))):
        path = draw(st.sampled_from(tuple(directories))) + draw(NAME)
        if path in seen:
            continue
        seen.add(path)
        kind = draw(
            st.sampled_from([REGULAR, REGULAR, DIRECTORY, DIRECTORY, SYMLINK, LINK, CHARACTER, BLOCK_DEVICE, FIFO])
        )
        # GNU tar goes through its own files' extended attributes with tools that ask for no device's.
        item = Item(
            path,
            kind,
            mode=draw(st.integers(0, 0o7777)) if kind != SYMLINK else 0o777,
            uid=draw(st.sampled_from([0, 1, 65534, 2**32 - 2])),
            gid=draw(st.sampled_from([0, 1, 2**31])),
            mtime=draw(st.sampled_from(["0", "1700000000.000000001", "-1.999999999", "4102444800.5"])),
            xattrs=tuple(draw(XATTRS).items()) if kind in (REGULAR, DIRECTORY) else (),
        )
        if kind == DIRECTORY:
            directories.append(path + b"/")
        elif kind == REGULAR:
            size = draw(st.sampled_from([0, 1, 511, 4095, 4096, 4097, 20000]))
            item = replace(item, content=draw(st.binary(min_size=1, max_size=1)) * size)
            files.append(item)
        elif kind == SYMLINK:
            length = draw(st.sampled_from([1, 59, 2000, 4000, 4095]))
            item = replace(item, link=b"t" * length)
        elif kind == LINK:
            if not files:
                continue
            first = draw(st.sampled_from(tuple(files)))
            item = replace(first, name=path, type=LINK, link=first.name, content=b"", xattrs=())
        else:
            item = replace(item, device=(draw(st.integers(0, 4095)), draw(st.integers(0, 2**20 - 1))))
        layer.append(item)
    return layer


@pytest.fixture(scope="module")
def scratch() -> Iterator[Path]:
    with tempfile.TemporaryDirectory() as name:
        yield Path(name)


@given(layer=trees())
@settings(max_examples=60, deadline=None)
def test_the_kernel_shows_of_an_image_what_tar_extracts_of_its_layer(scratch: Path, layer: list[Item]) -> None:
    raw = archive(*layer)
    with tempfile.TemporaryDirectory(dir=scratch) as name:
        here = Path(name)
        expected = listing(extracted(raw, here / "extracted"))
        with mounted(write_image(here / "image", raw), here / "mounted") as root:
            assert listing(root) == expected
            assert stat.S_ISDIR(root.stat().st_mode)
        # Else nobody but root could remove what was extracted without rights.
        (here / "extracted").chmod(0o700)
