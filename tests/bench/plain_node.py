"""A node whose containers are plain ones: the product's own node, but for what makes an enclave of a container.

    python -m tests.bench.plain_node FOLDER ROOTFS

Real: the bus, the worker's loop, sandboxes, conmon and runc, exits, signals. Played: the agent's steps, which only say
that they were done; a workload's root is ROOTFS. What is left of a pod's life is what a shim can be compared by. FOLDER
is a guarded bus's.
"""

from __future__ import annotations

import asyncio
import sys
from collections.abc import Awaitable, Callable
from pathlib import Path

from orchestrator import events
from orchestrator.bus import Bus, Histories
from orchestrator.events import Body, Command
from orchestrator.launch import Launch
from schemas.containerd import types_pb2
from tests.simulators import history
from tests.simulators.guarded_bus import GuardedBus
from tests.simulators.history import NODE
from tests.simulators.node import ToyNode
from workers.host.conmon import Streams
from workers.host.create_sandbox import CreateSandbox
from workers.host.exits import Exits
from workers.host.node import Node, load
from workers.host.runc import Held, Role, Runc
from workers.host.shim.rootfs import mount
from workers.host.shim_door import serve_shims
from workers.host.signals import serve_signals


class PlainNode(ToyNode):
    """`ToyNode`, but a sandbox is one, a container runs, and what ends is told."""

    def __init__(self, bus: Bus, node: Node, run_dir: Path, rootfs: Path) -> None:
        super().__init__(bus)
        self._node = node
        self._bus = bus
        self._runc = Runc("/usr/sbin/runc", run_dir)
        self._exits = Exits(self._runc, Histories(bus), f"host-worker/{NODE}")
        self._rootfs = types_pb2.Mount(type="bind", source=str(rootfs), options=["rbind"])

    async def run(self) -> None:
        """Serve until cancelled."""
        await serve_signals(self._bus, NODE, self._runc)
        async with asyncio.TaskGroup() as tasks:
            tasks.create_task(self._exits.run())
            tasks.create_task(serve_shims(self._node))
            tasks.create_task(super().run())

    def _host(self) -> dict[str, Callable[[Command, Launch], Awaitable[Body]]]:
        toy = super()._host()

        async def start_app(command: Command, launch: Launch) -> Body:
            wanted, id_ = launch.containers[command.container].requested, command.container
            mount([self._rootfs], Path(wanted.bundle) / "rootfs")
            held = Held(id_, command.pod, id_, Role.APP, command.attempt)
            streams = Streams(wanted.stdin, wanted.stdout, wanted.stderr)
            pid = await self._runc.create(held, Path(wanted.bundle), streams)
            await self._runc.start(id_)
            return events.AppStarted(id_, pid, history.APP_MEASUREMENT)

        async def teardown(command: Command, launch: Launch) -> Body:
            gone = [held for held in self._runc.held() if command.container in {"", held.container}]
            for held in gone:
                if held.pod == command.pod:
                    await self._runc.delete(held.id)
                    await self._exits.tell(held)
                    self._exits.forget(held.id)
            return await toy["teardown"](command, launch)

        sandbox = CreateSandbox(self._runc, lambda pod: Path("/nowhere") / pod)
        return toy | {"create_sandbox": sandbox, "start_app": start_app, "teardown": teardown}


async def _main(folder: Path, rootfs: Path) -> None:
    bus = GuardedBus(folder, (folder / "url").read_text())
    async with await bus.enter("worker") as worker:
        await PlainNode(worker, load(bus.node_file), folder / "run", rootfs).run()


if __name__ == "__main__":
    asyncio.run(_main(Path(sys.argv[1]), Path(sys.argv[2])))
