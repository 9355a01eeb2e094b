"""Layers in, one EROFS image out: the merge and the writer joined.

Zone: enclave. May import: `entry`, `tar`, `tree`, `erofs`.

`ImageBuilder` is for layers, `write_image` for a tree someone lists by hand (a bundle), `FileSink` for an image that
may lie in the clear. Contents of files that a later layer replaces stay in the image, unreachable: the price of
reading each layer once.
"""

from __future__ import annotations

import os
import pathlib
from collections.abc import Iterable
from typing import Self

from workers.enclave.rootfs.entry import Entry, Kind, Piece
from workers.enclave.rootfs.erofs import ErofsWriter, ImageSink, ImageSummary
from workers.enclave.rootfs.erofs_format import BLOCK
from workers.enclave.rootfs.tar import ByteStream, TarReader
from workers.enclave.rootfs.tree import NOTHING, LayeredTree, is_bookkeeping


class ImageBuilder:
    """Builds one image: layers lowest first, then `finish()`."""

    def __init__(self, sink: ImageSink) -> None:
        self._tree = LayeredTree()
        self._writer = ErofsWriter(sink)

    def add_layer(self, layer: ByteStream) -> None:
        """Reads one layer, an uncompressed tar archive, to its end. Memory grows with its names, not its contents.

        Raises `Permanent` (IMAGE_MALFORMED), and whatever the stream and the sink raise.
        """
        self._tree.begin_layer()
        reader = TarReader(layer)
        for entry in reader:
            self.add(entry, reader.content())

    def add(self, entry: Entry, content: Iterable[Piece] = ()) -> None:
        """One entry by hand; `content` is a regular file's bytes, `entry.size` of them."""
        extent = NOTHING
        if entry.kind is Kind.REGULAR and not is_bookkeeping(entry.path):
            extent = self._writer.write_content(entry.size, content)
        self._tree.apply(entry, extent)

    def finish(self) -> ImageSummary:
        """Writes the merged tree. The builder is of no use afterwards."""
        return self._writer.finish(self._tree.root)


def write_image(entries: Iterable[tuple[Entry, Iterable[Piece]]], sink: ImageSink) -> ImageSummary:
    """An image of `entries` in their order; see `ImageBuilder.add`. The same entries give the same bytes."""
    builder = ImageBuilder(sink)
    for entry, content in entries:
        builder.add(entry, content)
    return builder.finish()


class FileSink:
    """An image in the clear, at `path`, replacing what was there. Use as a context manager.

    The file appears under its name only when it is whole. Raises `OSError`.
    """

    def __init__(self, path: pathlib.Path) -> None:
        self._path = path
        self._partial = path.with_name(path.name + ".partial")
        self._file = self._partial.open("wb")
        self._file.seek(BLOCK)

    def append(self, data: Piece, /) -> None:
        """See `ImageSink`."""
        self._file.write(data)

    def finish(self, first_block: bytes, /) -> None:
        """See `ImageSink`; the image has its name afterwards."""
        self._file.seek(0)
        self._file.write(first_block)
        self._file.flush()
        os.fsync(self._file.fileno())
        self._partial.replace(self._path)

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *_: object) -> None:
        self._file.close()
        self._partial.unlink(missing_ok=True)
