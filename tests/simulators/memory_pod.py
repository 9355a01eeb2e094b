"""A pod in memory, behind the shim's seam: everything succeeds at once unless a test says otherwise."""

from __future__ import annotations

import asyncio

from orchestrator.faults import Code, Fault, Permanent
from workers.host.shim.pod import ContainerRequest, ExecRequest, Exit, SandboxRequest

PID = 4711


class MemoryPod:
    """See workers.host.shim.pod.Pod. `asked` lists the calls; `fail` and `block` hold calls by their name."""

    def __init__(self) -> None:
        self.asked: list[str] = []
        self.fail: dict[str, Fault] = {}
        self.block: dict[str, asyncio.Event] = {}
        self.exits: dict[str, asyncio.Future[Exit]] = {}
        self.sandbox: SandboxRequest | None = None
        self.containers: dict[str, ContainerRequest] = {}
        self.execs: dict[str, ExecRequest] = {}

    async def run(self) -> None:
        await asyncio.Event().wait()

    async def request_sandbox(self, request: SandboxRequest) -> int:
        self.sandbox = request
        await self._call("request_sandbox")
        return PID

    async def attested(self) -> None:
        await self._call("attested")

    async def request_container(self, request: ContainerRequest) -> None:
        self.containers[request.id] = request
        await self._call(f"request_container {request.id}")

    async def start_container(self, container: str) -> int:
        await self._call(f"start_container {container}")
        return PID + 1

    async def exit_of(self, container: str) -> Exit:
        return await asyncio.shield(self._exit(container))

    async def signal(self, container: str, number: int, *, everything: bool) -> None:
        await self._call(f"signal {container} {number}")
        if self._exit(container).done():
            raise Permanent(Code.NOT_FOUND, "it has ended")

    async def remove(self, container: str, reason: str) -> None:
        await self._call(f"remove {container}")
        if not self._exit(container).done():
            self.end(container, 137)

    async def start_exec(self, request: ExecRequest) -> int:
        self.execs[request.id] = request
        await self._call(f"start_exec {request.id}")
        return PID + 2

    async def exit_of_exec(self, container: str, exec_id: str) -> Exit:
        return await asyncio.shield(self._exit(exec_id))

    async def signal_exec(self, container: str, exec_id: str, number: int) -> None:
        await self._call(f"signal_exec {exec_id} {number}")

    async def resize_exec(self, container: str, exec_id: str, rows: int, columns: int) -> None:
        await self._call(f"resize_exec {exec_id} {rows} {columns}")

    async def forget_exec(self, container: str, exec_id: str) -> None:
        await self._call(f"forget_exec {exec_id}")

    async def pause(self, container: str) -> None:
        await self._call(f"pause {container}")

    async def unpause(self, container: str) -> None:
        await self._call(f"unpause {container}")

    async def limit(self, container: str, resources: bytes) -> None:
        await self._call(f"limit {container} {resources.decode()}")

    def end(self, container: str, status: int) -> None:
        """The first process ends."""
        self._exit(container).set_result(Exit(status, 1_000_000_001))

    def _exit(self, container: str) -> asyncio.Future[Exit]:
        if container not in self.exits:
            self.exits[container] = asyncio.get_running_loop().create_future()
        return self.exits[container]

    async def _call(self, name: str) -> None:
        self.asked.append(name)
        if gate := self.block.get(name):
            await gate.wait()
        if fault := self.fail.get(name):
            raise fault
