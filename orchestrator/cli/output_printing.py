"""How `enclave-cc logs` prints what was opened: bytes, lines or documents.

Zone: owner. May import: `click`, `orchestrator.{cli,output}`, the standard library.
"""

from __future__ import annotations

import sys
from typing import Any

import click

from orchestrator.cli import documents, drawing
from orchestrator.cli.subcommand import print_json_line
from orchestrator.output.opening import Opened, Text


class Bytes:
    """What was written alone; findings on standard error."""

    def tell(self, opened: Opened) -> None:
        """Print it."""
        if isinstance(opened, Text):
            sys.stdout.buffer.write(opened.written)
            sys.stdout.buffer.flush()
        else:
            where = " ".join(word for word in (opened.at, opened.stream) if word)
            click.echo(f"{where}: {opened.diagnosis.text()}".removeprefix(": "), err=True)

    def close(self) -> None:
        """Nothing is held."""


class Lines(Bytes):
    """A line for each line, with the host's word of its time, and its stream."""

    def __init__(self) -> None:
        self._held: dict[str, tuple[str, bytes]] = {}

    def tell(self, opened: Opened) -> None:
        """Print the lines that it ends."""
        if not isinstance(opened, Text):
            super().tell(opened)
            return
        at, held = self._held.pop(opened.stream, (opened.at, b""))
        *whole, rest = (held + opened.written).split(b"\n")
        for number, line in enumerate(whole):
            self._print(opened.at if number else at, opened.stream, line)
        if rest:
            self._held[opened.stream] = (opened.at if whole else at, rest)

    def close(self) -> None:
        """Lines that nobody ended."""
        for stream, (at, rest) in self._held.items():
            self._print(at, stream, rest)

    @staticmethod
    def _print(at: str, stream: str, line: bytes) -> None:
        words = [at, stream, drawing.printable(line.decode(errors="replace").removesuffix("\r"))]
        click.echo(" ".join(word for word in words if word))


class Documents:
    """A document a line: a text, or a finding."""

    def tell(self, opened: Opened) -> None:
        """Print it."""
        document: dict[str, Any] = {"at": opened.at or None, "stream": opened.stream or None}
        if isinstance(opened, Text):
            document |= {"text": opened.written.decode(errors="replace"), "finding": None}
        else:
            document |= {"text": None, "finding": documents.diagnosis(opened.diagnosis)}
        print_json_line(document)

    def close(self) -> None:
        """Nothing is held."""
