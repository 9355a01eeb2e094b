"""Commands beside running workloads: boot inits ask, the owner's launch policy decides, the history is told first.

Zone: enclave. May import: `workers.enclave`, `orchestrator.{events,faults}`, `schemas`.

The channel by which an app enclave got its configuration stays open while its workload runs, for this alone:

1. Boot init says what the host wants to run beside the workload.
2. The command is judged by the policy that the workload was admitted by.
3. The answer becomes a fact. An admitted command does not run before its fact is stored: what ran is in the history.
4. Boot init is told.

Denied is whatever cannot be judged or told: no bus, no agent, no command. What comes often, refusals and the commands
that the policy calls probes, is told at the 1st, 2nd, 4th, 8th ... time only: a kubelet may ask every second, for ever.
"""

from __future__ import annotations

import asyncio
import re
from collections import Counter
from collections.abc import Awaitable, Callable
from dataclasses import dataclass, field
from typing import Final, TypeAlias

import structlog

from orchestrator.events import Body, ExecAdmitted, ExecRefused
from orchestrator.faults import Code, Fault, Permanent
from schemas import strict_json
from workers.enclave import messages
from workers.enclave.launch_policy.document import ExecRule
from workers.enclave.launch_policy.execs import AdmittedExec, judge_exec
from workers.enclave.sessions import Session

Tell: TypeAlias = Callable[[str, Body], Awaitable[None]]
"""Stores a fact about a container; raises Fault where that cannot be done in time."""

_ID: Final = re.compile(r"[A-Za-z0-9][A-Za-z0-9_.-]{0,127}", re.ASCII)
_log = structlog.get_logger()


@dataclass(slots=True)
class Running:
    """A booted container, the rule that admitted it, and what may run beside it. `asked` counts answers by rule."""

    container: str
    rule: str
    entries: tuple[ExecRule, ...]
    asked: Counter[str] = field(default_factory=Counter)


class Execs:
    """Answers the boot inits of all running containers. Nothing is answered before `run` runs."""

    def __init__(self, tell: Tell) -> None:
        self._tell = tell
        self._begun: asyncio.Queue[tuple[Running, Session]] = asyncio.Queue()

    def begin(self, running: Running, session: Session) -> None:
        """Answer on that session from now on; it ends with the container."""
        self._begun.put_nowait((running, session))

    async def run(self) -> None:
        """Until cancelled; then every session is closed."""
        async with asyncio.TaskGroup() as tasks:
            while True:
                running, session = await self._begun.get()
                tasks.create_task(self._converse(running, session))

    async def _converse(self, running: Running, session: Session) -> None:
        try:
            while True:
                asked = messages.unpack(await session.channel.receive(), "exec")
                with messages.understood("exec"):
                    id_, terminal = strict_json.text(asked, "exec"), asked["terminal"] is True
                    args = strict_json.strings(asked, "args")
                await session.channel.send(await self._answer(running, id_, args, terminal=terminal))
        except Fault as fault:
            # Its container ended, as all do; or it said what none of ours says, and is not listened to any more.
            await _log.ainfo("no more commands", container=running.container, code=fault.code)
        finally:
            session.channel.close()

    async def _answer(self, running: Running, id_: str, args: tuple[str, ...], *, terminal: bool) -> bytes:
        try:
            _check_id(id_)
            admitted = judge_exec(running.rule, running.entries, args, terminal=terminal)
        except Permanent as fault:
            return await self._refuse(running, id_, fault)
        try:
            await self._admit(running, id_, admitted)
        except Fault as fault:
            await _log.awarning("command not told, so refused", container=running.container, code=fault.code)
            return messages.pack("refused", **messages.told(fault))
        return messages.pack("admitted", exec=id_)

    async def _admit(self, running: Running, id_: str, admitted: AdmittedExec) -> None:
        running.asked[admitted.rule] += 1
        times = running.asked[admitted.rule]
        if not admitted.probe or _is_told(times):
            body = ExecAdmitted(id_, admitted.rule, admitted.told, admitted.terminal, times)
            await self._tell(running.container, body)

    async def _refuse(self, running: Running, id_: str, refusal: Permanent) -> bytes:
        running.asked[""] += 1
        times = running.asked[""]
        if _is_told(times):
            known = id_ if _ID.fullmatch(id_) else ""
            try:
                body = ExecRefused(known, refusal.code.value, refusal.diagnosis.message, times)
                await self._tell(running.container, body)
            except Fault as fault:
                await _log.awarning("refusal not told", container=running.container, code=fault.code)
        return messages.pack("refused", **messages.told(refusal))


def _is_told(times: int) -> bool:
    return times.bit_count() == 1


def _check_id(id_: str) -> None:
    if not _ID.fullmatch(id_):
        raise Permanent(
            Code.EXEC_DENIED,
            "the command's id is none of containerd's",
            expected="1 to 128 of A-Z a-z 0-9 _ . -",
            got=f"{len(id_)} others",
            advice="shim and host worker are of different versions",
        )
