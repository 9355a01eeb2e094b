"""A node without containers: the real workers' loop, with steps that only say that they were done.

What is not real is what a step does; commands, facts, signatures, retries and redelivery are.
"""

from __future__ import annotations

import asyncio
from collections import Counter
from collections.abc import Awaitable, Callable
from contextlib import suppress
from dataclasses import replace

from orchestrator import events
from orchestrator.bus import Bus, Histories, WorkQueue, subjects
from orchestrator.events import Body, Command, Fact
from orchestrator.launch import Launch
from orchestrator.lifecycle import Zone
from tests.simulators import history
from tests.simulators.history import NODE, EventKey
from workers.process import Identity, Step, Worker

Interference = Callable[[Command], Awaitable[None]]


class ToyNode:
    """One node's host worker, and an agent for each pod that asks for one, on one connection."""

    def __init__(self, bus: Bus, name: str = NODE, before: Interference | None = None) -> None:
        self._bus = bus
        self._queue = WorkQueue(bus)
        self._before = before
        self._agents: dict[str, asyncio.Task[None]] = {}
        self.name = name
        self.done: Counter[str] = Counter()
        """How often each transition was executed."""

    async def run(self) -> None:
        """Serve until cancelled."""
        consumer = subjects.host_consumer(self.name)
        await self._queue.ensure_consumer(consumer, subjects.host_commands(self.name))
        identity = Identity(Zone.HOST, f"host-worker/{self.name}")
        try:
            await Worker(self._bus, consumer, identity, self._table(self._host())).run()
        finally:
            for agent in self._agents.values():
                agent.cancel()
            for agent in self._agents.values():
                with suppress(asyncio.CancelledError, BaseExceptionGroup):
                    await agent

    def _table(self, steps: dict[str, Callable[[Command, Launch], Awaitable[Body]]]) -> dict[str, Step]:
        return {name: self._counted(step) for name, step in steps.items()}

    def _counted(self, step: Callable[[Command, Launch], Awaitable[Body]]) -> Step:
        async def counted(command: Command, launch: Launch) -> Body:
            self.done[command.transition] += 1
            if self._before is not None:
                await self._before(command)
            return await step(command, launch)

        return counted

    def _host(self) -> dict[str, Callable[[Command, Launch], Awaitable[Body]]]:
        async def create_sandbox(command: Command, _: Launch) -> Body:
            return events.SandboxCreated(command.pod, 1, "/proc/1/ns/net")

        async def launch_agent(command: Command, _: Launch) -> Body:
            pod = command.pod
            if pod not in self._agents:
                await self._queue.ensure_consumer(subjects.pod_consumer(pod), subjects.pod_commands(pod))
                self._agents[pod] = asyncio.create_task(self._agent(pod))
            return history.agent_up(pod)

        async def start_app(command: Command, _: Launch) -> Body:
            return events.AppStarted(command.container, 2, history.APP_MEASUREMENT)

        async def teardown(command: Command, _: Launch) -> Body:
            if not command.container and (agent := self._agents.pop(command.pod, None)):
                agent.cancel()
                await self._queue.remove_consumer(subjects.pod_consumer(command.pod))
            return events.TornDown(())

        steps = (create_sandbox, launch_agent, start_app, teardown)
        return {step.__name__: step for step in steps}

    async def _agent(self, pod: str) -> None:
        key = EventKey()

        async def attest(_: Command, __: Launch) -> Body:
            return history.attested(pod, key)

        async def decrypt_image(_: Command, __: Launch) -> Body:
            return history.image_decrypted()

        async def seal_fs(command: Command, _: Launch) -> Body:
            return events.FsSealed("cd" * 32, 1, 1, command.container)

        async def deliver_config(_: Command, __: Launch) -> Body:
            return events.ConfigDelivered("ef" * 32, "allowed", history.APP_MEASUREMENT)

        async def boot_app(_: Command, __: Launch) -> Body:
            return events.AppBooted(1, 1)

        steps = {step.__name__: step for step in (attest, decrypt_image, seal_fs, deliver_config, boot_app)}
        identity = Identity(Zone.ENCLAVE, f"agent/{pod[:16]}", key.sign)
        await Worker(self._bus, subjects.pod_consumer(pod), identity, self._table(steps)).run()


class Containerd:
    """What containerd asks of a pod, as the shim would state it."""

    def __init__(self, bus: Bus, pod: str, node: str = NODE) -> None:
        self.histories = Histories(bus)
        self.pod = pod
        self.node = node

    async def say(self, body: Body, container: str = "", at_ns: int | None = None) -> None:
        """State one fact of the host zone."""
        fact = Fact(self.pod, body, Zone.HOST, "shim/test", container)
        if at_ns is not None:
            fact = Fact(self.pod, body, Zone.HOST, "shim/test", container, 0, at_ns)
        await self.histories.append(fact)

    async def run_pod(self, at_ns: int | None = None, hold_seconds: int = 0) -> None:
        operators = (history.OPERATOR.public,) if hold_seconds else ()
        body = replace(history.pod_requested(self.node), hold_seconds=hold_seconds, operators=operators)
        await self.say(body, at_ns=at_ns)

    async def run_container(self, id_: str = history.APP) -> None:
        await self.say(history.container_requested(id_), id_)
        await self.say(events.StartRequested(), id_)

    async def stop(self, container: str = "") -> None:
        await self.say(events.StopRequested("the test asked"), container)

    async def launch(self) -> Launch:
        return await self.histories.launch(self.pod)
