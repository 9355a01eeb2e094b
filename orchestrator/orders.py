"""Giving orders: who gives them, and what can be ordered of a launch.

Zone: host. May import: `orchestrator.{bus,events,faults,launch,lifecycle,resumption}`, the standard library.

An order is a fact of the launch's history, signed by the operator's key. Who may append one is the bus's permission
list; whose orders count is said by the launch itself, which names its operators in its first fact.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from typing import Final

from orchestrator.bus import Histories
from orchestrator.bus.operator_key import OperatorKey
from orchestrator.events import Body, Fact, ResumeRequested, StopRequested
from orchestrator.faults import Code, Permanent, Temporary
from orchestrator.launch import Launch
from orchestrator.lifecycle import State, Transition, Zone
from orchestrator.resumption import resumable

ORDER_PATIENCE: Final = 30.0
"""Seconds that an order may take to be stored: longer than a question, since a lost answer has to be settled."""


@dataclass(frozen=True, slots=True)
class Operator:
    """Somebody who gives orders, connected to the bus. `by` is a name as claimed; the key is what counts."""

    histories: Histories
    key: OperatorKey
    by: str
    reason: str

    def may_order(self, launch: Launch) -> None:
        """Raises Permanent(NOT_ALLOWED) unless the launch names this key as an operator's."""
        operators = launch.requested.operators if launch.requested else ()
        if self.key.public not in operators:
            raise Permanent(
                Code.NOT_ALLOWED,
                "this launch takes no orders from the key of these credentials",
                expected=", ".join(key.hex() for key in operators)
                or "an operator whom the launch names: it names none",
                got=self.key.public.hex(),
                advice="use the operator's credentials of its node; [orders] in node.toml names them for new launches",
            )

    async def order(
        self, pod: str, body: Body, container: str = "", *, allowed: Callable[[Launch], bool]
    ) -> Launch | None:
        """Append, signed; None where it is not `allowed` any more. Raises what `Histories.append` raises."""
        fact = Fact(pod, body, Zone.HOST, f"operator/{self.by}", container)
        return await self.histories.append(fact, allowed=allowed, sign=self.key.sign, patience=ORDER_PATIENCE)


async def resume(operator: Operator, pod: str, part: str, row: Transition) -> None:
    """Order that pod's `part` (a container's id, or empty for the pod) goes on with the transition `row`.

    Raises Permanent(REPLAY_RESUME) where it cannot, Temporary(REPLAY_RESUME) where somebody else's order was first.
    """
    body = ResumeRequested(row.name, operator.reason, operator.by, operator.key.public)
    told = await operator.order(pod, body, part, allowed=lambda now: _can_go_on(now, part, row))
    if told is None:
        resumable(await operator.histories.launch(pod), part, row.name)
        raise Temporary(
            Code.REPLAY_RESUME,
            "somebody else's order came first, and it has failed again since",
            expected="a launch that nobody else resumes",
            got="another order",
            advice="look at its history (`enclave-cc events`) before you resume it again",
        )


async def stop(operator: Operator, pod: str) -> Launch | None:
    """Order a launch's end; None where it is ending, or has ended. Raises Permanent(NOT_ALLOWED)."""
    operator.may_order(await operator.histories.launch(pod))
    return await operator.order(pod, StopRequested(operator.reason), allowed=_goes_on)


def _can_go_on(launch: Launch, part: str, row: Transition) -> bool:
    try:
        return resumable(launch, part, row.name) is row
    except Permanent:
        return False


def _goes_on(launch: Launch) -> bool:
    return launch.progress.state not in (State.STOPPING, State.GONE)
