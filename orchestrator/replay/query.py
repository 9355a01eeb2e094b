"""Which launches of a fleet are meant: conditions that all must hold.

Zone: any. May import: `orchestrator.{faults,launch,lifecycle}`, the standard library. Pure.
"""

from __future__ import annotations

from dataclasses import dataclass

from orchestrator.launch import Failure, Launch
from orchestrator.lifecycle import State


@dataclass(frozen=True, slots=True)
class Query:
    """Empty conditions hold always. `failed_at` is the last state that a failed launch had reached.

    `since_ns` is compared with the launch's first fact.
    """

    failed_at: State | None = None
    code: str = ""
    since_ns: int = 0
    node: str = ""
    namespace: str = ""

    def admits(self, launch: Launch, began_ns: int) -> bool:
        """Whether every condition holds of this launch."""
        asked = launch.requested
        return (
            began_ns >= self.since_ns
            and (not self.node or (asked is not None and asked.node == self.node))
            and (not self.namespace or (asked is not None and asked.namespace == self.namespace))
            and (not (self.failed_at or self.code) or any(self.admits_failure(found) for found in failures(launch)))
        )

    def admits_failure(self, failure: Failure) -> bool:
        """Whether it is a failure of that code, after that state."""
        return (self.failed_at is None or failure.state is self.failed_at) and (
            not self.code or failure.diagnosis.code == self.code
        )


def failures(launch: Launch) -> list[Failure]:
    """The pod's failure and its containers'."""
    found = [launch.progress.failure, *(container.progress.failure for container in launch.containers.values())]
    return [failure for failure in found if failure is not None]
