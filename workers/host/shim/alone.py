"""What a shim does by itself while the bus is away: signals to what runs, and exits as conmon wrote them.

Zone: host. May import: `workers.host.runc`, `workers.host.shim.pod`. Imported when it is needed, which is seldom.
"""

from __future__ import annotations

from workers.host.node import Node
from workers.host.runc import Runc
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
