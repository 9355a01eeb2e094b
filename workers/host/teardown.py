"""teardown: removes what was made for a pod, or for one of its containers, whatever state it is in.

Zone: host. May import: `workers.host`, `orchestrator.{bus,events,launch}`, `schemas`.

It goes by what is found on the node, not by what the history says was made: a step may have died half-way.
"""

from __future__ import annotations

import asyncio
import shutil
from pathlib import Path
from typing import Final

from orchestrator.bus import WorkQueue, subjects
from orchestrator.events import Command, TornDown
from orchestrator.launch import Launch
from schemas.places import is_store_of
from workers.host.exits import Exits
from workers.host.gate import Gate
from workers.host.launch_agent import agent_id
from workers.host.libos.backend import LibOS
from workers.host.node import Node
from workers.host.runc import Held, Role, Runc

KEPT_LOGS: Final = 32
"""Logs of failed launches' agents that a node keeps; the oldest go first."""


class Teardown:
    """The transition to gone; for one container when the command names it."""

    def __init__(self, node: Node, runc: Runc, libos: LibOS, queue: WorkQueue, gate: Gate, exits: Exits) -> None:
        self._node = node
        self._runc = runc
        self._libos = libos
        self._queue = queue
        self._gate = gate
        self._exits = exits

    async def __call__(self, command: Command, launch: Launch) -> TornDown:
        """Raises Temporary(RUNTIME) while something does not die; then it is tried again."""
        if command.container:
            return await self._container(command.pod, command.container)
        return await self._pod(command.pod, launch)

    async def _container(self, pod: str, container: str) -> TornDown:
        removed = await self._remove([h for h in self._runc.held() if h.container == container and h.pod == pod])
        removed += await asyncio.to_thread(_remove, self._node.pod_dir(pod) / "apps" / container, "directory")
        removed += await asyncio.to_thread(self._remove_stores, pod, container)
        return TornDown(tuple(removed))

    async def _pod(self, pod: str, launch: Launch) -> TornDown:
        held = {h.id: h for h in self._runc.held() if h.pod == pod}
        # Apps first, then the agent that serves them, the pause container that holds their namespaces last.
        held.setdefault(agent_id(pod), Held(agent_id(pod), pod, "", Role.AGENT, 0))
        held.setdefault(pod, Held(pod, pod, "", Role.PAUSE, 0))
        for container in launch.containers:
            held.setdefault(container, Held(container, pod, container, Role.APP, 0))
        order = [Role.APP, Role.AGENT, Role.PAUSE]
        removed = await self._remove(sorted(held.values(), key=lambda h: order.index(h.role)))
        await self._gate.close(pod)
        await self._queue.remove_consumer(subjects.pod_consumer(pod))
        for directory in (self._node.pod_dir(pod), self._node.store_dir(pod)):
            removed += await asyncio.to_thread(_remove, directory, "directory")
        await asyncio.to_thread(self._keep_or_drop_log, pod, failed=launch.failure is not None)
        return TornDown(tuple(removed))

    async def _remove(self, containers: list[Held]) -> list[str]:
        removed = []
        for held in containers:
            _, pid = await self._runc.known(held.id)
            if await self._runc.delete(held.id):
                removed.append(f"{held.role} {held.id}")
            if pid > 0 and held.role is not Role.PAUSE:
                await self._libos.release(pid)
            await self._exits.tell(held)
            self._exits.forget(held.id)
        return removed

    def _remove_stores(self, pod: str, container: str) -> list[str]:
        """By the container's name: the name in the history is the agent's word."""
        directory = self._node.store_dir(pod)
        found = sorted(directory.iterdir()) if directory.exists() else []
        return [said for path in found if is_store_of(path.name, container) for said in _remove(path, "store")]

    def _keep_or_drop_log(self, pod: str, *, failed: bool) -> None:
        log = self._node.agent_log(pod)
        if not failed:
            log.unlink(missing_ok=True)
        alive = {self._node.agent_log(held.pod) for held in self._runc.held()}
        kept = sorted(set(log.parent.glob("*.log")) - alive, key=lambda path: path.stat().st_mtime_ns)
        for old in kept[:-KEPT_LOGS]:
            old.unlink(missing_ok=True)


def _remove(path: Path, what: str) -> list[str]:
    """Remove a file or a directory with all that is in it, and say so; links are removed and not followed."""
    if path.is_dir() and not path.is_symlink():
        shutil.rmtree(path)
    elif path.is_symlink() or path.exists():
        path.unlink(missing_ok=True)
    else:
        return []
    return [f"{what} {path.name}"]
