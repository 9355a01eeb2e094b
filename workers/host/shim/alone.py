"""What a shim does by itself: signals to what runs, and exits as conmon wrote them.

Zone: host. May import: `workers.host.{node,removals,runc}`, `workers.host.shim.pod`, `orchestrator.faults`.

While the bus is away a worker does it for its shims, and the clean-up after a lost shim for itself. While the worker is
away a shim, which has no runc, starts `python -m workers.host.shim.alone`, with these words:

    signal CONTAINER NUMBER first|all       0: sent; 3: it has ended; 1: there is no such container
    remove POD CONTAINER REASON             0: written down
"""

from __future__ import annotations

import asyncio
import sys
from collections.abc import Sequence

from orchestrator.faults import Code, Fault
from workers.host import node as configuration
from workers.host import removals
from workers.host.node import Node
from workers.host.runc import Runc
from workers.host.shim.line_pod import ENDED
from workers.host.shim.pod import Exit


class Alone:
    """The node's containers, asked of runc and of the node's own files: as the host worker does (docs/adr/0014)."""

    def __init__(self, node: Node) -> None:
        self._runc = Runc(node.runc, node.run_dir)

    async def signal(self, id_: str, number: int, *, everything: bool) -> bool:
        """Whether there is such a container. Raises Permanent(NOT_FOUND) when it has ended."""
        # Only ids of our own become arguments of runc.
        if self._runc.record(id_) is None:
            return False
        await self._runc.kill(id_, number, everything=everything)
        return True

    def exit_of(self, id_: str) -> Exit | None:
        """How a container ended, if it has."""
        ended = self._runc.exit_of(id_)
        return Exit(*ended, self._runc.ran_out_of_memory(id_)) if ended is not None else None


def main(words: Sequence[str]) -> int:
    """Do what `words` say. Raises Fault, OSError, ValueError."""
    node = configuration.load()
    action, first, second, third = words
    if action == "remove":
        removals.note(node.run_dir, first, second, third)
        return 0
    try:
        return int(not asyncio.run(Alone(node).signal(first, int(second), everything=third == "all")))
    except Fault as fault:
        if fault.code is Code.NOT_FOUND:
            return ENDED
        raise


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
