"""Orders that somebody gives in a browser, signed by the key of the operator whom this console was given.

Zone: host. May import: `orchestrator.{bus,launch,orders,resumption}`, `orchestrator.console.roles`.
"""

from __future__ import annotations

from dataclasses import dataclass

from orchestrator import orders
from orchestrator.bus import Histories
from orchestrator.bus.operator_key import OperatorKey
from orchestrator.console.roles import Identity
from orchestrator.launch import Launch, held
from orchestrator.lifecycle import State
from orchestrator.orders import Operator
from orchestrator.resumption import resumable


@dataclass(frozen=True, slots=True)
class Possible:
    """What can be ordered of a launch: `resume` are the parts that can be (container ids, or empty for the pod)."""

    resume: tuple[str, ...] = ()
    stop: bool = False


@dataclass(frozen=True, slots=True)
class Orders:
    """An operator's connection and key. The history names who gave an order here, and that it was the console."""

    histories: Histories
    key: OperatorKey

    async def resume(self, pod: str, container: str, by: Identity, reason: str) -> None:
        """Raises Permanent: REPLAY_RESUME, NOT_ALLOWED; what `Histories.append` raises."""
        operator = self._operator(by, reason)
        launch = await self.histories.launch(pod)
        operator.may_order(launch)
        await orders.resume(operator, pod, container, resumable(launch, container))

    async def stop(self, pod: str, by: Identity, reason: str) -> None:
        """Raises Permanent(NOT_ALLOWED); what `Histories.append` raises. One that is ending is left alone."""
        await orders.stop(self._operator(by, reason), pod)

    def possible(self, launch: Launch) -> Possible:
        """What this launch would take from this console now."""
        if launch.requested is None or self.key.public not in launch.requested.operators:
            return Possible()
        progress = {"": launch.progress} | {c.id: c.progress for c in launch.containers.values()}
        parts = tuple(part for part in progress if held(launch, progress[part]))
        ends = launch.progress.state in (State.STOPPING, State.GONE)
        return Possible(("",) if "" in parts else parts, not ends)

    def _operator(self, by: Identity, reason: str) -> Operator:
        return Operator(self.histories, self.key, f"{by.name} (console)", reason)
