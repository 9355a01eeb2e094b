"""A node's other side for a shim that is stormed: it does what is asked, late, sometimes not, and tells it truly.

The commands, facts, signatures and retries are real (simulators/node, the real dispatcher); what a step does is not.
Every whim is drawn from the seed and the name of what is asked, not from the order in which it is asked.
"""

from __future__ import annotations

import asyncio
import random
from collections import Counter
from time import time_ns

from orchestrator import events
from orchestrator.bus import Bus, Histories, subjects
from orchestrator.dispatch import Dispatcher
from orchestrator.events import Command, Fact
from orchestrator.faults import Code, Permanent, Temporary
from orchestrator.launch import Launch
from orchestrator.lifecycle import Zone
from schemas import commands_pb2
from tests.fuzz.fickle_commands import FickleCommands
from tests.simulators.history import NODE
from tests.simulators.node import ToyNode

DEADLY = (9, 15)
STEADY = "steady"
"""Pods whose id begins so come up and stay: only their containers meet whims."""


class FickleNode:
    """One node and the orchestrator, on one connection each."""

    def __init__(self, worker: Bus, orchestrator: Bus, seed: str) -> None:
        self._worker = worker
        self._orchestrator = orchestrator
        self._seed = seed
        self._histories = Histories(worker)
        self._asked: Counter[str] = Counter()
        self._pods: dict[str, str] = {}
        """The pod of each runc id."""
        self._over: set[str] = set()
        """Runc ids of what has ended."""
        self._commands = FickleCommands(lambda id_: id_ in self._pods and id_ not in self._over, self._whim)

    async def run(self) -> None:
        """Serve until cancelled."""
        await self._worker.serve(subjects.host_request(NODE, "signal"), self._signal)
        await self._worker.serve(subjects.host_request(NODE, "exec"), self._commands.exec)
        await self._worker.serve(subjects.host_request(NODE, "control"), self._commands.control)
        async with asyncio.TaskGroup() as self._tasks:
            self._tasks.create_task(Dispatcher(self._orchestrator, "orchestrator/storm").run())
            self._tasks.create_task(ToyNode(self._worker, NODE, self._before).run())

    def _whim(self, *name: object) -> random.Random:
        return random.Random("/".join((self._seed, *map(str, name))))

    async def _before(self, command: Command) -> None:
        """What meets a step. What is torn down is torn down: a node that cannot is not the shim's to tell."""
        self._pods[command.container or command.pod] = command.pod
        name = command.transition
        whim = self._whim(command.pod, command.container, name, command.attempt)
        if name == "teardown":
            self._over.add(command.container or command.pod)
        if name == "teardown" or (not command.container and command.pod.startswith(STEADY)):
            return
        await asyncio.sleep(whim.choice((0, 0, 0, 0.01, 0.05)))
        fate = whim.random()
        if fate < 0.08:
            raise Permanent(Code.IMAGE_ALTERED, "a layer is not what its digest says", expected="ab", got="cd")
        if fate < 0.16:
            raise Temporary(Code.IMAGE_REGISTRY_AWAY, "the registry is away", expected="an answer", got="none")
        if fate < 0.3 and name in {"deliver_config", "boot_app"}:
            self._tasks.create_task(self._exit(command.pod, command.container, 3, whim.choice((0, 0.01, 0.1))))

    async def _signal(self, raw: bytes) -> bytes:
        request = commands_pb2.SignalRequest.FromString(raw)
        self._asked[request.runc_id] += 1
        fate = self._whim("signal", request.runc_id, self._asked[request.runc_id]).random()
        pod = self._pods.get(request.runc_id)
        container = "" if pod == request.runc_id else request.runc_id
        if fate < 0.05:
            return b"\xff\xff no reply at all"
        if fate < 0.1:
            return _reply(Code.RUNTIME, "runc refused")
        if pod is None or _ended(await self._histories.launch(pod), container):
            return _reply(Code.NOT_FOUND, "there is no such container on this node")
        if request.signal in DEADLY:
            self._tasks.create_task(self._exit(pod, container, 128 + request.signal, fate / 20))
        return _reply(None, "")

    async def _exit(self, pod: str, container: str, code: int, seconds: float) -> None:
        await asyncio.sleep(seconds)
        self._over.add(container or pod)
        fact = Fact(pod, events.Exited(code, time_ns()), Zone.HOST, f"host-worker/{NODE}", container=container)
        await self._histories.append(fact, allowed=lambda launch: not _ended(launch, container))


def _ended(launch: Launch, container: str) -> bool:
    found = launch.containers.get(container)
    if container and found is None:
        return True
    progress = found.progress if found else launch.progress
    return progress.exit is not None or progress.torn_down


def _reply(code: Code | None, message: str) -> bytes:
    return commands_pb2.SignalReply(code=code.value if code else "", message=message).SerializeToString()
