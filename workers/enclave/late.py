"""What an agent imports when it is wanted: its start is imports, and until they are done it takes no order.

Zone: enclave. May import: `workers.process`, `orchestrator.{events,launch}`; what is made late, when it is wanted.

- The key broker's client (HTTP, JOSE, X.509), a fifth of the start: with the first order, which is `attest`.
- What only containers need, a third of all: when the pod has been attested, and containerd, told that the sandbox
  runs, prepares the first container. Nobody waits for it then.
"""

from __future__ import annotations

import asyncio
import threading
from collections.abc import Callable, Sequence
from typing import TYPE_CHECKING

from orchestrator.events import Body, Command
from orchestrator.launch import Launch
from workers.process import Step

if TYPE_CHECKING:
    from workers.enclave.containers import Containers
    from workers.enclave.kbs.client import KbsClient


class LateKbs:
    """The one client of the key broker: its key is what secrets are encrypted to. Called from any thread."""

    def __init__(self, make: Callable[[], KbsClient]) -> None:
        """`make` imports and assembles; it is called until it returns, then never again."""
        self._make = make
        self._turn = threading.Lock()
        self._made: KbsClient | None = None

    def __call__(self) -> KbsClient:
        """Raises what `make` raises."""
        with self._turn:
            if self._made is None:
                self._made = self._make()
            return self._made


class LateContainers:
    """Stands for the steps of containers from the start. Nothing works, and everything waits, until `run` runs."""

    def __init__(self, make: Callable[[], Containers]) -> None:
        """`make` imports and assembles; it is called once, in a thread. Build it in a running event loop."""
        self._make = make
        self._wanted = asyncio.Event()
        self._ahead: Sequence[str] = ()
        self._made: asyncio.Future[Containers] = asyncio.get_running_loop().create_future()

    async def run(self) -> None:
        """Make them when they are wanted, then serve app enclaves until cancelled, and prefetch images meanwhile."""
        await self._wanted.wait()
        made = await asyncio.to_thread(self._make)
        self._made.set_result(made)
        await made.serve(self._ahead)

    def wanted_after(self, step: Step) -> Step:
        """`step`, and once it has succeeded the containers' are wanted."""

        async def then_wanted(command: Command, launch: Launch) -> Body:
            body = await step(command, launch)
            self._ahead = launch.requested.prefetch if launch.requested else ()
            self._wanted.set()
            return body

        return then_wanted

    def step(self, name: str) -> Step:
        """The step of that name; the first call waits for the import, where that is not done."""

        async def late(command: Command, launch: Launch) -> Body:
            self._wanted.set()
            made = await asyncio.shield(self._made)
            return await made.steps[name](command, launch)

        return late
