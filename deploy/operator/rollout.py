"""Who may begin: the canary first, then waves, and nobody after a failure. Pure.

1. Never more than `batchSize` nodes are between claim and service at once.
2. Until one node serves the payload, there is one: the canary, the first by name of those that `upgrade.canary`
   selects, or of all.
3. Once a node has trouble with the payload, no node that serves another one is touched. Nodes that serve nothing still
   begin when the payload is known to serve elsewhere: they have nothing to lose.
4. A payload that a node refused is not tried again until `upgrade.attempt` is counted up, or the payload is another.
5. Removing is not upgrading: what leaves has a `batchSize` of its own, so that neither waits for the other.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

from deploy.operator.desired import Desired
from deploy.operator.names import HANDLER, RUNTIME_LABEL
from deploy.operator.observed import Node
from deploy.operator.record import IN_UPGRADE, Step


@dataclass(frozen=True, slots=True)
class Rollout:
    """The state of a rollout over the nodes that are claimed or wanted, and unclaimed by others."""

    desired: Desired
    claimed: Sequence[Node]
    wanted: Sequence[Node]

    @property
    def trusted(self) -> bool:
        """A node serves the payload."""
        return any(serves(node, self.desired) for node in self.claimed)

    @property
    def halted(self) -> bool:
        """A node refused the payload, or has trouble with it."""
        return any(self._troubled(node) for node in self.claimed)

    @property
    def waiting(self) -> tuple[Node, ...]:
        """Those that should have the payload and have not begun, in the order in which they may."""
        canary = self.desired.canary
        found = [node for node in self.wanted if self._outdated(node)]
        return tuple(
            sorted(found, key=lambda node: (canary is not None and not canary.selects(node.labels), node.name))
        )

    def starters(self) -> tuple[Node, ...]:
        """Those that may begin now."""
        under_way = sum(1 for node in self.claimed if node.record and node.record.step in IN_UPGRADE)
        free = (self.desired.batch_size if self.trusted else 1) - under_way
        able = [node for node in self.waiting if node.ready and not self._refuses(node)]
        if self.halted:
            able = [node for node in able if self.trusted and not (node.record and node.record.payload)]
        return tuple(able[: max(0, free)])

    def removers(self, leaving: Sequence[Node]) -> tuple[Node, ...]:
        """Of those that leave and are not being removed yet: who may be now."""
        under_way = sum(1 for node in self.claimed if node.record and node.record.step is Step.REMOVING)
        return tuple(leaving[: max(0, self.desired.batch_size - under_way)])

    def _outdated(self, node: Node) -> bool:
        if node.record is None:
            return True
        lost = node.ready and node.handlers is not None and HANDLER not in node.handlers
        return node.record.step is Step.SETTLED and (node.record.payload != self.desired.payload or lost)

    def _refuses(self, node: Node) -> bool:
        return node.record is not None and node.record.refused == self.desired.key

    def _troubled(self, node: Node) -> bool:
        if self._refuses(node):
            return True
        record = node.record
        return record is not None and record.problem is not None and record.target == self.desired.payload


def serves(node: Node, desired: Desired) -> bool:
    """The node has the payload that is wanted, was verified, and is labelled so."""
    record = node.record
    return (
        record is not None
        and record.step is Step.SETTLED
        and record.payload == desired.payload
        and node.labels.get(RUNTIME_LABEL) == "true"
    )
