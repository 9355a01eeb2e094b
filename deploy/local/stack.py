"""A stack: make it, start it in order, tell how it is, stop it and prove that nothing is left.

Zone: host. May import: all of `deploy.local`, `deploy.{payload,supervisord}`, `orchestrator.{bus,faults}`.
"""

from __future__ import annotations

import asyncio
import contextlib
import os
import shutil
import time
from collections.abc import Callable
from dataclasses import dataclass
from functools import partial
from pathlib import Path
from typing import Final

from deploy.local import (
    audit,
    authority,
    bus_accounts,
    bus_server,
    containerd,
    images,
    layout,
    node,
    programs,
    registry,
    residue,
    supervision,
)
from deploy.local.layout import Layout
from deploy.local.owner import Owner
from deploy.local.programs import MARK, Program
from deploy.local.supervision import Supervisor
from deploy.payload.bundle import build_bundle
from deploy.payload.roles import BOOT
from deploy.supervisord import ProcessState
from orchestrator.bus import Credentials, connect, ensure_streams
from orchestrator.bus.settings import BusSettings
from orchestrator.faults import Code, Permanent, Temporary

SERVERS: Final = ("bus", "registry")
BROKEN: Final = {"FATAL", "EXITED", "UNKNOWN"}
LOG_TAIL: Final = 1500
"""Characters of a process's log that a fault quotes."""

Progress = Callable[[str], None]


@dataclass(frozen=True, slots=True)
class Status:
    """One process: supervisord's word for it, its pid (0 for none) and whether it answers."""

    name: str
    state: str
    pid: int
    ready: bool


class Stack:
    """One machine's stack. Make it with `create`, find it again with `open_`."""

    def __init__(self, where: Layout) -> None:
        """Nothing is started."""
        self.layout = where
        self.supervisor = Supervisor(where)
        self._programs = programs.all_programs(where)

    @classmethod
    def create(cls, name: str = layout.DEFAULT_NAME, root: Path | None = None) -> Stack:
        """Write everything that a new stack needs to start. Raises Permanent(INPUT) if there is one already."""
        where = layout.plan(name, root)
        if where.run.exists() or (where.root.exists() and any(where.root.iterdir())):
            raise Permanent(
                Code.INPUT,
                f"there is a stack {name} already",
                expected="no such folder",
                got=f"{where.root} or {where.run}",
                advice=f"`enclave-cc down --name {name}`, or choose another name",
            )
        where.root.mkdir(mode=0o700, parents=True, exist_ok=True)
        try:
            _write(where)
        except BaseException:
            shutil.rmtree(where.root)
            raise
        return cls(where)

    @classmethod
    def open_(cls, name: str = layout.DEFAULT_NAME, root: Path | None = None) -> Stack:
        """The stack as it was made. Raises Permanent(NOT_FOUND)."""
        return cls(layout.load(name, root))

    def up(self, say: Progress = lambda _: None) -> None:
        """Start every process in order, each when the one before it is ready. Running ones are left alone.

        Raises Temporary(RUNTIME) with the end of the log of a process that does not get ready.
        """
        for folder in (self.layout.run, self.layout.logs):
            folder.mkdir(mode=0o711, parents=True, exist_ok=True)
        conf = self.layout.root / "supervisord.conf"
        conf.write_text(supervision.configuration(self.layout, self._programs))
        if not self.supervisor.alive():
            # A daemon that was killed leaves its processes, which hold ports and sockets; containers stay as they are.
            residue.end(self.layout, tuple(program.command for program in self._programs))
        self.supervisor.run_daemon(self._environment())
        for program in self._programs:
            began = time.monotonic()
            self.supervisor.start(program.name)
            if program.ready is not None:
                self._wait_until_ready(program, program.ready)
                self._after(program)
                say(f"{program.name} is ready ({time.monotonic() - began:.1f} s)")
        for program in self._programs:
            if program.ready is None:
                self._wait_until_ready(program, partial(self._is_running, program.name))
                say(f"{program.name} runs")

    def status(self) -> list[Status]:
        """Every process in the order of starting. Raises Temporary(RUNTIME) when the stack does not run."""
        states = {state.name: state for state in self.supervisor.states()}
        return [self._status(program, states[program.name]) for program in self._programs if program.name in states]

    def down(self, say: Progress = lambda _: None, *, keep_data: bool = False) -> list[str]:
        """Stop everything in reverse, remove every trace, and return what is left all the same (nothing, if right).

        With `keep_data` the stack's root folder stays, for an `up` that goes on from its histories.
        """
        if self.supervisor.alive():
            for program in reversed(self._programs):
                self.supervisor.stop(program.name)
                say(f"{program.name} is stopped")
            self.supervisor.shut_down()
        traces = residue.of(self.layout)
        traces.remove(keep_data=keep_data)
        kept = {f"folder {self.layout.root}"} if keep_data else set()
        left = [line for line in traces.left_behind() if line not in kept]
        if not keep_data:
            for parent in (self.layout.run.parent, self.layout.root.parent):
                with contextlib.suppress(OSError):
                    parent.rmdir()  # only when this was the last stack
        return left

    def credentials(self, role: str) -> Credentials:
        """How a client on this machine enters the bus as `role`."""
        return Credentials(
            self.layout.bus_url,
            self.layout.ca.read_text(),
            file=str(self.layout.credentials(role)),
            inbox=bus_accounts.inbox(role),
        )

    def _environment(self) -> dict[str, str]:
        """What every process starts with: nothing of the caller's but PATH and language."""
        return {
            "PATH": os.environ.get("PATH", os.defpath),
            "LANG": "C.UTF-8",
            "HOME": "/root",
            "PYTHONUNBUFFERED": "1",
            # glibc else raises the bound with every large buffer that is freed, and keeps the next ones' pages in a
            # heap for each thread: the audit log's writer held 6 MB for the 1 MB of a tile that fills.
            "MALLOC_MMAP_THRESHOLD_": "131072",
            "MALLOC_ARENA_MAX": "2",
            MARK: str(self.layout.run),
        }

    def _status(self, program: Program, state: ProcessState) -> Status:
        ready = program.ready() if program.ready else state.state == "RUNNING"
        return Status(program.name, state.state, state.pid, state.pid > 0 and ready)

    def _is_running(self, name: str) -> bool:
        return any(state.name == name and state.state == "RUNNING" for state in self.supervisor.states())

    def _wait_until_ready(self, program: Program, ready: Callable[[], bool]) -> None:
        ends = time.monotonic() + program.ready_within
        while not ready():
            state = next((s.state for s in self.supervisor.states() if s.name == program.name), "UNKNOWN")
            if state in BROKEN or time.monotonic() > ends:
                raise self._not_ready(program, state)
            time.sleep(0.05)

    def _not_ready(self, program: Program, state: str) -> Temporary:
        log = self.layout.logs / f"{program.name}.log"
        tail = log.read_text(errors="replace")[-LOG_TAIL:] if log.exists() else ""
        return Temporary(
            Code.RUNTIME,
            f"{program.name} did not get ready",
            expected=f"an answer within {program.ready_within:g} s",
            got=f"{state}; its log ends: {tail.strip() or '(empty)'}",
            advice=f"see {log}",
        )

    def _after(self, program: Program) -> None:
        """What the next process relies on beyond this one's being there."""
        if program.name == "bus":
            asyncio.run(self._make_streams())
        if program.name == "registry":
            registry.push(self.layout, images.pause(), containerd.PAUSE)
        if program.name == "kbs":
            Owner(self.layout).admit(node.agent_bundle(self.layout), node.boot_bundle(self.layout))

    async def _make_streams(self) -> None:
        async with await connect(self.credentials("admin"), "enclave-cc up") as bus:
            await ensure_streams(bus)


def _write(where: Layout) -> None:
    """Keys, configurations, bundles; `stack.json` last, so that a stack is whole or not there."""
    files = authority.create(where.root / "tls", SERVERS, ("127.0.0.1", "localhost"))
    accounts = bus_accounts.create(where.root / "bus", bus_server.DISK_BYTES)
    (where.root / "nats.conf").write_text(
        bus_server.configuration(accounts, files["bus"], where.ports.bus, where.root / "jetstream")
    )
    (where.root / "registry.yml").write_text(registry.configuration(where, files["registry"]))
    containerd.write(where)
    where.node_config.write_text(node.configuration(where))
    for role, config in (("reader", where.client_config), ("operator", where.operator_config)):
        settings = BusSettings(where.bus_url, str(where.ca), str(where.credentials(role)), bus_accounts.inbox(role))
        config.write_text(settings.text())
    audit.create(where)
    build_bundle(BOOT, node.boot_bundle(where))
    Owner(where).create()
    where.save()
