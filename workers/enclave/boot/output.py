"""A stream of the workload, sealed for its owner: read from a pipe, written to the host as records.

Zone: enclave. May import: `schemas`, the standard library.

What is written is sealed at the end of a line, when a record is full, and when a line stays without its end for a
moment: a prompt is seen, and a workload that dies loses nothing that it had written. The end of the pipe comes when the
last process that has it is gone; then the stream ends with a record that says so.
"""

from __future__ import annotations

import base64
import os
import select
import threading
import time
from collections.abc import Iterable, Iterator
from dataclasses import dataclass, field
from typing import Final

from schemas import strict_json
from schemas.sealed_output import KEY_BYTES, MOST_TEXT, StreamWriter
from schemas.strict_json import JsonObject

PARTIAL_LINE_SECONDS: Final = 0.1
"""How long the beginning of a line waits for its end."""


@dataclass(frozen=True, slots=True)
class OutputSeal:
    """What the agent gave for sealing. `head` is a `schemas.sealed_output.Head`'s bytes."""

    head: bytes
    streams: tuple[str, ...]
    key: bytes = field(repr=False)

    def encode(self) -> dict[str, object]:
        """Its members in the message that hands it over."""
        parts = {"head": base64.b64encode(self.head).decode(), "key": base64.b64encode(self.key).decode()}
        return {**parts, "streams": list(self.streams)}

    @classmethod
    def decode(cls, members: JsonObject) -> OutputSeal:
        """Raises Malformed."""
        return cls(
            strict_json.base64_bytes(strict_json.text(members, "head"), "head"),
            strict_json.strings(members, "streams"),
            strict_json.base64_bytes(strict_json.text(members, "key"), "key", size=KEY_BYTES),
        )

    def begin(self, stream: str) -> StreamWriter:
        """One stream's records. Once a stream: numbers begin anew."""
        return StreamWriter(self.key, self.head, stream)


class SealedStream:
    """One stream, copied by a thread until its end."""

    def __init__(self, writer: StreamWriter, source: int, target: int) -> None:
        """Owns `source`, a pipe's reading end. `target` is the host's; it stays open."""
        self._writer = writer
        self._source = source
        self._target = target
        self._copying = threading.Thread(target=self._copy, daemon=True)
        self._copying.start()

    def drain(self, seconds: float) -> None:
        """Wait until everything that was written has gone to the host, and the end with it."""
        self._copying.join(seconds)

    def _copy(self) -> None:
        try:
            self._write(self._writer.text(piece) for piece in pieces(self._source))
            self._write([self._writer.end()])
        except OSError:
            pass  # the host took its end away: what is missing shows as missing
        finally:
            os.close(self._source)

    def _write(self, lines: Iterable[bytes]) -> None:
        for line in lines:
            rest = line
            while rest:
                rest = rest[os.write(self._target, rest) :]


def pieces(source: int) -> Iterator[bytes]:
    """What comes from a pipe, in pieces of at most MOST_TEXT bytes that end with a line where one ends in time."""
    held, since = b"", 0.0
    poll = select.poll()
    poll.register(source, select.POLLIN)
    while True:
        if held:
            left = since + PARTIAL_LINE_SECONDS - time.monotonic()
            if not poll.poll(max(0.0, left) * 1000):
                yield held
                held = b""
        came = os.read(source, MOST_TEXT - len(held))
        since = since if held else time.monotonic()
        held += came
        cut = len(held) if not came or len(held) == MOST_TEXT else held.rfind(b"\n") + 1
        if cut:
            yield held[:cut]
            held, since = held[cut:], time.monotonic()
        if not came:
            return
