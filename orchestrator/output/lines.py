"""A log's lines: the CRI's format, `kubectl logs`' or bare ones; and the files that a kubelet keeps of a container.

Zone: owner. May import: the standard library. Source: kubernetes/design-proposals, node/kubelet-cri-logging.md: a line
is `time stream tags content`; the tag P marks a piece of a line, F its last. A kubelet rotates `N.log` to
`N.log.<time>`, and packs older ones with gzip.
"""

from __future__ import annotations

import gzip
import os
import re
from collections.abc import Iterable, Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Final

_TIME: Final = rb"(\d{4}-\d\d-\d\dT[0-9:.]{8,18}(?:Z|[+-]\d\d:\d\d))"
"""RFC 3339 and nothing else: it is printed as it stands."""

_CRI: Final = re.compile(_TIME + rb" (stdout|stderr) ([FP])(?::\S*)? (.*)", re.DOTALL)
_TIMED: Final = re.compile(_TIME + rb" (.*)", re.DOTALL)


@dataclass(frozen=True, slots=True)
class LogLine:
    """A line. `at` is the host's word of when, `stream` of whence; both empty where the log does not say."""

    at: str
    stream: str
    content: bytes


def parse(raw_lines: Iterable[bytes]) -> Iterator[LogLine]:
    """The lines that `raw_lines`, without their ends, are or are pieces of."""
    pieces: dict[str, list[LogLine]] = {}
    for raw in raw_lines:
        match = _CRI.fullmatch(raw)
        if match is None:
            timed = _TIMED.fullmatch(raw)
            yield LogLine(timed[1].decode("ascii"), "", timed[2]) if timed else LogLine("", "", raw)
            continue
        line = LogLine(match[1].decode("ascii"), match[2].decode(), match[4])
        held = pieces.setdefault(line.stream, [])
        held.append(line)
        if match[3] == b"F":
            yield LogLine(held[0].at, line.stream, b"".join(piece.content for piece in held))
            held.clear()
    for held in pieces.values():
        if held:
            yield LogLine(held[0].at, held[0].stream, b"".join(piece.content for piece in held))


def files_of(log: Path) -> list[Path]:
    """A container's log file and those that it was rotated to, the oldest first."""
    rotated = sorted(path for path in log.parent.glob(f"{log.name}.*") if path.suffix != ".tmp")
    return [*rotated, log]


def read(paths: Iterable[Path]) -> Iterator[bytes]:
    """The lines of several files, one after the other. A last line without its end is still being written: not one.

    Raises OSError.
    """
    for path in paths:
        with gzip.open(path) if path.suffix == ".gz" else path.open("rb") as file:
            for raw in file:
                if raw.endswith(b"\n"):
                    yield raw[:-1]


def follow(path: Path) -> Iterator[bytes | None]:
    """A file's lines, those to come too; None each time that there is nothing more for now. Raises OSError.

    Goes on in the new file when the file is rotated.
    """
    while True:
        with path.open("rb") as file:
            held, inode = b"", os.fstat(file.fileno()).st_ino
            while True:
                rotated = _inode(path) not in (0, inode)  # asked first: what is written until then is read
                held += file.readline()
                if held.endswith(b"\n"):
                    yield held[:-1]
                    held = b""
                elif rotated:
                    break
                else:
                    yield None


def _inode(path: Path) -> int:
    """0 between two files."""
    try:
        return path.stat().st_ino
    except FileNotFoundError:
        return 0
