"""Exits: what conmon wrote becomes a fact, once.

Zone: host. May import: `workers.host.runc`, `orchestrator.{bus,events,faults,launch}`.

A container that ended is found by its exit file, whoever was alive when it ended. The fact's condition (this exit is
not known yet) makes it single; the file goes when the container is torn down, or made again under its id. An agent that
ended before the history says that it was up is not told: `launch_agent` finds it dead, and makes another.
"""

from __future__ import annotations

import asyncio
from typing import Final

import structlog

from orchestrator.bus import Histories
from orchestrator.events import AgentLost, Exited, Fact
from orchestrator.faults import Fault
from orchestrator.launch import Launch
from orchestrator.lifecycle import Zone
from workers.host.runc import Held, Role, Runc

LOOK: Final = 0.01
"""Seconds between two looks at the directory of exits: the delay an exit may have."""

_log = structlog.get_logger()


class Exits:
    """Tells exits as they are found."""

    def __init__(self, runc: Runc, histories: Histories, actor: str) -> None:
        self._runc = runc
        self._histories = histories
        self._actor = actor
        self._told: dict[str, tuple[int, int]] = {}

    async def run(self) -> None:
        """Look for ever."""
        while True:
            for id_ in self._runc.ended():
                told = id_ in self._told and self._runc.exit_of(id_) == self._told[id_]
                held = None if told else self._runc.record(id_)
                if held is not None:
                    try:
                        await self.tell(held)
                    except Fault as fault:
                        await _log.awarning("exit left for later", id=id_, code=fault.code)
            await asyncio.sleep(LOOK)

    async def tell(self, held: Held) -> None:
        """Store the exit of an ended container, if it is not known; nothing if it has not ended."""
        ended = self._runc.exit_of(held.id)
        if ended is None:
            return
        code, at_ns = ended

        def news(now: Launch) -> bool:
            # While we look, what an attempt made may be removed and made again under the same id.
            return self._runc.exit_of(held.id) == ended and _is_news(now, held)

        if held.role is Role.AGENT:
            if (await self._histories.launch(held.pod)).agent is None:
                return
            fact = Fact(held.pod, AgentLost(code), Zone.HOST, self._actor)
        else:
            body = Exited(code, at_ns, self._runc.ran_out_of_memory(held.id))
            fact = Fact(held.pod, body, Zone.HOST, self._actor, container=held.container)
        await self._histories.append(fact, allowed=news)
        if self._runc.exit_of(held.id) == ended:
            self._told[held.id] = ended

    def forget(self, id_: str) -> None:
        """The container is gone; its id may come again."""
        self._told.pop(id_, None)
        self._runc.forget(id_)


def _is_news(launch: Launch, held: Held) -> bool:
    """Whether the history does not know this container's end, and wants to."""
    if held.role is Role.AGENT:
        return launch.progress.live and not launch.agent_lost
    if not held.container:
        return launch.index > 0 and launch.progress.exit is None
    if (container := launch.containers.get(held.container)) is None:
        return False
    # What an attempt made before the container was resumed may end after that. No attempt: its record is lost.
    return container.progress.exit is None and not 0 < held.attempt < container.progress.first
