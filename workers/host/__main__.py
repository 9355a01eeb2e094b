"""The host worker's process: `python -m workers.host`.

Zone: host. May import: `workers`, `orchestrator.{bus,lifecycle}`.

All that it knows of running containers is on disk and in the histories; it may be killed and started at any time.
"""

from __future__ import annotations

import asyncio
import signal
from contextlib import suppress

import structlog

from orchestrator.bus import Histories, WorkQueue, connect, subjects
from orchestrator.faults import Fault
from orchestrator.lifecycle import State, Zone
from orchestrator.log import configure
from workers.host import node as configuration
from workers.host.bus_users import AgentSigner
from workers.host.control import serve_control
from workers.host.create_sandbox import CreateSandbox
from workers.host.execs import Execs
from workers.host.exits import Exits
from workers.host.gate import Gate
from workers.host.launch_agent import LaunchAgent
from workers.host.libos.sim.backend import SimulatedLibOS
from workers.host.node import Node
from workers.host.removals import Removals
from workers.host.runc import Role, Runc
from workers.host.shim_door import serve_shims
from workers.host.signals import serve_signals
from workers.host.start_app import StartApp
from workers.host.teardown import Teardown
from workers.process import Identity, Step, Worker

_log = structlog.get_logger()


async def serve(node: Node) -> None:
    """Answer this node's shims, also while the bus is away, and execute its transitions, until cancelled."""
    async with asyncio.TaskGroup() as tasks:
        tasks.create_task(serve_shims(node))
        tasks.create_task(_work(node))


async def _work(node: Node) -> None:
    actor = f"host-worker/{node.name}"
    async with await connect(node.credentials_of("worker"), actor) as bus:
        runc, histories, queue = Runc(node.runc, node.run_dir), Histories(bus), WorkQueue(bus)
        libos = SimulatedLibOS(node.enclaves.control, node.enclaves.socket)
        gate = Gate(node, AgentSigner.load(node.credentials["agent_signer"]), histories)
        exits = Exits(runc, histories, actor)
        steps: dict[str, Step] = {
            "create_sandbox": CreateSandbox(runc, node.pod_dir),
            "launch_agent": LaunchAgent(node, runc, libos, queue, gate),
            "start_app": StartApp(node, runc, libos),
            "teardown": Teardown(node, runc, libos, queue, gate, exits),
        }
        consumer = subjects.host_consumer(node.name)
        await queue.ensure_consumer(consumer, subjects.host_commands(node.name))
        await _reopen_doors(runc, histories, gate)
        await serve_signals(bus, node.name, runc)
        await serve_control(bus, node.name, runc)
        try:
            async with asyncio.TaskGroup() as tasks:
                tasks.create_task(Worker(bus, consumer, Identity(Zone.HOST, actor), steps, histories).run())
                tasks.create_task(exits.run())
                tasks.create_task(Removals(node.run_dir, histories, actor).run())
                await Execs(node, runc).serve(bus, tasks)
        finally:
            await gate.close_all()


async def _reopen_doors(runc: Runc, histories: Histories, gate: Gate) -> None:
    """The doors of agents that outlived the worker before us."""
    for held in runc.held():
        if held.role is Role.AGENT and runc.exit_of(held.id) is None:
            launch = await histories.launch(held.pod)
            if launch.sandbox is not None and launch.progress.state is not State.GONE:
                try:
                    await gate.open(held.pod, launch.sandbox.netns)
                except Fault as fault:
                    await _log.awarning("door not reopened", pod=held.pod, diagnosis=fault.diagnostics())


def main() -> None:
    """Run until SIGTERM."""
    configure("host-worker")
    node = configuration.load()

    async def until_terminated() -> None:
        task = asyncio.current_task()
        if task is not None:
            asyncio.get_running_loop().add_signal_handler(signal.SIGTERM, task.cancel)
        with suppress(asyncio.CancelledError):
            await serve(node)

    asyncio.run(until_terminated())


if __name__ == "__main__":
    main()
