"""Removals that were asked for while the bus was away: written down at the node, asked for when it is back.

Zone: host. May import: `orchestrator.{bus,events,faults,launch,lifecycle}`, the standard library.

    <run_dir>/removals/<container or pod>.json      who is to be removed, and why

Whoever writes one may die the next moment; the worker appends what is written here, and the history takes it once.
"""

from __future__ import annotations

import asyncio
import json
import os
from pathlib import Path
from typing import Final

import structlog

from orchestrator.bus import Histories
from orchestrator.events import Fact, StopRequested
from orchestrator.faults import Fault
from orchestrator.launch import Launch
from orchestrator.lifecycle import State, Zone

LOOK: Final = 0.5
"""Seconds between two looks at the directory."""

_log = structlog.get_logger()


def note(run_dir: Path, pod: str, container: str, reason: str) -> None:
    """Write down that a container of a pod, or the pod (an empty container), is to be removed. Raises OSError."""
    directory = _directory(run_dir)
    directory.mkdir(mode=0o700, parents=True, exist_ok=True)
    written = directory / f".{container or pod}.{os.getpid()}"
    written.write_text(json.dumps({"pod": pod, "container": container, "reason": reason}))
    written.replace(directory / f"{container or pod}.json")


def may_stop(launch: Launch, container: str) -> bool:
    """Whether the history knows what is to be removed, and nobody has asked for that yet."""
    if launch.requested is None or (container and container not in launch.containers):
        return False
    progress = launch.containers[container].progress if container else launch.progress
    return progress.state not in (State.STOPPING, State.GONE) and not is_gone(launch, container)


def is_gone(launch: Launch, container: str) -> bool:
    """Nothing is left: of a container also when its whole pod was torn down."""
    if launch.progress.state is State.GONE:
        return True
    known = launch.containers.get(container)
    return known is not None and (known.progress.state is State.GONE or launch.progress.torn_down)


class Removals:
    """Asks for what is written down."""

    def __init__(self, run_dir: Path, histories: Histories, actor: str) -> None:
        self._directory = _directory(run_dir)
        self._histories = histories
        self._actor = actor

    async def run(self) -> None:
        """Look for ever."""
        while True:
            for path in sorted(self._directory.glob("*.json")):
                try:
                    await self._ask(path)
                except Fault as fault:
                    await _log.awarning("removal left for later", file=path.name, code=fault.code)
            await asyncio.sleep(LOOK)

    async def _ask(self, path: Path) -> None:
        pod, container, reason = _read(path)
        if pod:
            fact = Fact(pod, StopRequested(reason), Zone.HOST, self._actor, container=container)
            await self._histories.append(fact, allowed=lambda now: may_stop(now, container))
        else:
            await _log.aerror("not a removal", file=path.name)
        _done(path)


def _read(path: Path) -> tuple[str, str, str]:
    """Pod, container and reason; empty for what nobody can have written here."""
    try:
        document = json.loads(path.read_text())
        return str(document["pod"]), str(document["container"]), str(document["reason"])
    except (OSError, ValueError, KeyError, TypeError):
        return "", "", ""


def _done(path: Path) -> None:
    path.unlink(missing_ok=True)


def _directory(run_dir: Path) -> Path:
    return run_dir / "removals"
