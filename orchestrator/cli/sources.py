"""Where a history comes from: the bus, an exported file, or one that was imported.

Zone: host. May import: `orchestrator.{bus,cli,events,faults,replay}`, the standard library.

A launch is meant by a pod's id or name (the bus), by the path of an exported file, or as `imported:ID`. The last two
need no bus.
"""

from __future__ import annotations

import os
from dataclasses import dataclass
from pathlib import Path
from typing import Final

from orchestrator import events
from orchestrator.bus import Bus, Histories, subjects
from orchestrator.cli.finding import find
from orchestrator.cli.subcommand import ask
from orchestrator.events import Foreign, Recorded
from orchestrator.faults import Code, Permanent
from orchestrator.replay import bundle
from orchestrator.replay.bundle import Exported

IMPORTED: Final = "imported:"
SUFFIX: Final = ".launch.jsonl"


@dataclass(frozen=True, slots=True)
class Source:
    """One launch's messages, as read and as stored. `exported` is the file they came from, None for the bus."""

    pod: str
    messages: list[Recorded | Foreign]
    stored: list[tuple[int, bytes]]
    exported: Exported | None = None

    @property
    def subject(self) -> str:
        """Where the messages lay in the stream."""
        return self.exported.subject if self.exported else subjects.history(self.pod)


def source(asked: str, config: Path | None, stack: str | None) -> Source:
    """The history that is meant. Raises Permanent(NOT_FOUND, INPUT, REPLAY_EXPORT), Temporary(BUS_AWAY)."""
    path = file_of(asked)
    if path is not None:
        exported = read_export(path)
        stored = [(item.sequence, item.raw or b"") for item in exported.items]
        return Source(exported.pod, exported.history(), stored, exported)

    async def question(bus: Bus) -> Source:
        histories = Histories(bus)
        pod = await find(histories, asked)
        stored = await histories.stored(pod)
        return Source(pod, [events.read(sequence, raw) for sequence, raw in stored], stored)

    return ask(config, stack, question)


def file_of(asked: str) -> Path | None:
    """The file that is meant, or None where a launch on the bus is. Raises Permanent(NOT_FOUND, INPUT)."""
    if asked.startswith(IMPORTED):
        return _imported(asked.removeprefix(IMPORTED))
    path = Path(asked)
    return path if path.is_file() else None


def read_export(path: Path) -> Exported:
    """Read and check an exported file. Raises Permanent(REPLAY_EXPORT, NOT_FOUND)."""
    try:
        raw = path.read_bytes()
    except OSError as error:
        raise Permanent(
            Code.NOT_FOUND, f"{path} cannot be read", expected="an exported launch", got=error.strerror or str(error)
        ) from error
    return bundle.decode(raw)


def imported_folder() -> Path:
    """Where imported launches are kept: a folder of the person's own."""
    base = os.environ.get("XDG_DATA_HOME", "")
    return (Path(base) if base.startswith("/") else Path.home() / ".local/share") / "enclave-cc/launches"


def _imported(beginning: str) -> Path:
    found = sorted(path for path in imported_folder().glob(f"*{SUFFIX}") if path.name.startswith(beginning))
    if len(found) == 1:
        return found[0]
    raise Permanent(
        Code.INPUT if found else Code.NOT_FOUND,
        f"{len(found)} imported launches begin with {beginning!r}",
        expected=f"one in {imported_folder()}",
        got=", ".join(path.name[:20] for path in found[:5]) or "none",
        advice="`enclave-cc import FILE` keeps one",
    )
