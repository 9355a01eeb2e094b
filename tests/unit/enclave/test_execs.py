"""The agent's answers to boot inits that ask for commands: judged, told first, and refused when they cannot be told."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator, Sequence
from contextlib import asynccontextmanager, suppress
from dataclasses import dataclass, field

import pytest

from orchestrator.events import Body, ExecAdmitted, ExecRefused
from orchestrator.faults import Code, Fault, Permanent, Temporary
from tests.network import Network, in_network
from tests.unit.enclave.pods import AgentPod
from tests.unit.enclave.test_sessions import served, serving
from workers.enclave import messages
from workers.enclave.execs import Execs, Running
from workers.enclave.launch_policy.document import ArgsRule, ExecRule
from workers.enclave.launch_policy.matcher import Anything, Exactly
from workers.enclave.tee.channel import SecureChannel

ENTRIES = (
    ExecRule("health", ArgsRule((Exactly("/app"), Exactly("check")), None), terminal=False, probe=True),
    ExecRule("say", ArgsRule((Exactly("/bin/echo"), Anything()), None), terminal=False, probe=False),
)


@dataclass
class Telling:
    """A history of one container: what was told, or why nothing can be."""

    told: list[Body] = field(default_factory=list)
    fault: Fault | None = None

    async def __call__(self, container: str, body: Body) -> None:
        assert container == "c"
        if self.fault is not None:
            raise self.fault
        self.told.append(body)


@asynccontextmanager
async def asking(pod: AgentPod, telling: Telling) -> AsyncIterator[SecureChannel]:
    """A boot init whose workload runs."""
    pod.sealed("c")
    execs = Execs(telling)
    answering = asyncio.create_task(execs.run())
    try:
        async with serving(pod) as s:
            session, channel = await served(pod, s)
            execs.begin(Running("c", "web", ENTRIES), session)
            yield channel
    finally:
        answering.cancel()
        with suppress(asyncio.CancelledError):
            await answering


async def ask(channel: SecureChannel, args: Sequence[str], id_: str = "e1", *, terminal: bool = False) -> None:
    """Raises the refusal."""
    await channel.send(messages.pack("exec", exec=id_, args=list(args), terminal=terminal))
    raw = await asyncio.wait_for(channel.receive(), 10)
    assert messages.unpack(raw, "admitted") == {"type": "admitted", "exec": id_}


@in_network
async def test_an_admitted_command_is_told_before_it_may_run(pod: AgentPod, network: Network) -> None:
    telling = Telling()
    async with asking(pod, telling) as channel:
        await ask(channel, ["/bin/echo", "hunter2"])
        assert telling.told == [ExecAdmitted("e1", "web/say", ("/bin/echo", "*"), False, 1)]
        await ask(channel, ["/bin/echo", "again"], "e2")
        assert telling.told[1:] == [ExecAdmitted("e2", "web/say", ("/bin/echo", "*"), False, 2)]


@in_network
async def test_a_refusal_is_told_without_its_words_and_the_next_command_is_judged(
    pod: AgentPod, network: Network
) -> None:
    telling = Telling()
    async with asking(pod, telling) as channel:
        with pytest.raises(Permanent) as refused:
            await ask(channel, ["/bin/sh", "-c", "hunter2"])
        assert refused.value.code is Code.EXEC_DENIED
        reason = "the launch policy does not admit this command"
        assert telling.told == [ExecRefused("e1", "E-EXEC-001", reason, 1)]
        await ask(channel, ["/app", "check"])


@in_network
async def test_what_comes_often_is_told_at_powers_of_two(pod: AgentPod, network: Network) -> None:
    telling = Telling()
    async with asking(pod, telling) as channel:
        for number in range(20):
            await ask(channel, ["/app", "check"], f"probe-{number}")
            with pytest.raises(Permanent):
                await ask(channel, ["/bin/sh"], f"denied-{number}")
    admitted = [body.times for body in telling.told if isinstance(body, ExecAdmitted)]
    refused = [body.times for body in telling.told if isinstance(body, ExecRefused)]
    assert admitted == refused == [1, 2, 4, 8, 16]


@in_network
async def test_what_cannot_be_told_does_not_run(pod: AgentPod, network: Network) -> None:
    telling = Telling(fault=Temporary(Code.BUS_AWAY, "a fact could not be stored"))
    async with asking(pod, telling) as channel:
        with pytest.raises(Permanent) as refused:
            await ask(channel, ["/bin/echo", "x"])
        assert refused.value.code is Code.BUS_AWAY
        with pytest.raises(Permanent, match="E-EXEC-001"):
            await ask(channel, ["/bin/sh"])
        telling.fault = None
        await ask(channel, ["/bin/echo", "x"])


@pytest.mark.parametrize("id_", ["", "../x", "x" * 129, "a b"])
@in_network
async def test_an_id_that_is_none_is_refused_and_not_repeated(pod: AgentPod, network: Network, id_: str) -> None:
    telling = Telling()
    async with asking(pod, telling) as channel:
        with pytest.raises(Permanent, match="E-EXEC-001"):
            await ask(channel, ["/app", "check"], id_)
        assert telling.told == [ExecRefused("", "E-EXEC-001", "the command's id is none of containerd's", 1)]


@pytest.mark.parametrize(
    "said",
    [
        b"",
        b'{"type": "booted"}',
        b'{"type": "exec", "exec": "e", "args": "x", "terminal": false}',
        b'{"type": "exec", "exec": 1, "args": [], "terminal": false}',
        b'{"type": "exec", "exec": "e", "args": []}',
    ],
)
@in_network
async def test_a_boot_init_that_says_something_else_is_not_listened_to(
    pod: AgentPod, network: Network, said: bytes
) -> None:
    telling = Telling()
    async with asking(pod, telling) as channel:
        await channel.send(said)
        with pytest.raises(Temporary):
            await asyncio.wait_for(channel.receive(), 10)
    assert telling.told == []
