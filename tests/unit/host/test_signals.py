"""Signals asked for over a real bus, sent to real containers."""

from __future__ import annotations

import signal
from contextlib import suppress
from dataclasses import dataclass
from pathlib import Path

import pytest
from google.protobuf.message import DecodeError
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from orchestrator.bus import Bus, subjects
from orchestrator.faults import Code
from schemas import commands_pb2
from tests.busybox import Bundles
from tests.nats import until
from workers.host.conmon import Streams
from workers.host.runc import Held, Role, Runc
from workers.host.signals import VERB, serve_signals

SUBJECT = subjects.host_request("node-a", VERB)


@dataclass
class Asker:
    bus: Bus

    async def send(self, raw: bytes) -> tuple[str, str]:
        reply = commands_pb2.SignalReply.FromString(await self.bus.request(SUBJECT, raw, timeout=10))
        return reply.code, reply.message

    async def ask(self, id_: str, number: int, *, everything: bool = False) -> tuple[str, str]:
        request = commands_pb2.SignalRequest(runc_id=id_, signal=number, all=everything)
        return await self.send(request.SerializeToString())


@pytest.fixture
async def asker(bus: Bus, runc: Runc) -> Asker:
    await serve_signals(bus, "node-a", runc)
    return Asker(bus)


async def started(runc: Runc, bundles: Bundles, script: str) -> str:
    id_, bundle = bundles.shell("a", script)
    await runc.create(Held(id_, "pod", "app", Role.APP, 1), bundle, Streams())
    await runc.start(id_)
    return id_


async def process_of(runc: Runc, id_: str) -> Path:
    _, pid = await runc.state(id_)
    return Path(f"/proc/{pid}")


async def catches(process: Path, number: signal.Signals) -> bool:
    """Whether it has set a handler of its own (proc(5), SigCgt)."""
    mask = next(line for line in (process / "status").read_text().splitlines() if line.startswith("SigCgt"))
    return bool(int(mask.split()[1], 16) >> (number - 1) & 1)


async def sleeps(process: Path) -> bool:
    """Whether its one child has become sleep(1)."""
    children = (process / "task" / process.name / "children").read_text().split()
    return bool(children) and b"sleep" in Path(f"/proc/{children[0]}/cmdline").read_bytes()[:6]


async def exit_of(runc: Runc, id_: str) -> int:
    async def there() -> bool:
        return runc.exit_of(id_) is not None

    await until(there)
    code, _ = runc.exit_of(id_) or (-1, 0)
    return code


async def test_a_signal_that_is_asked_for_is_sent(runc: Runc, bundles: Bundles, asker: Asker) -> None:
    id_ = await started(runc, bundles, "trap 'exit 3' TERM; while :; do sleep 0.02; done")
    process = await process_of(runc, id_)
    await until(lambda: catches(process, signal.SIGTERM))
    assert await asker.ask(id_, signal.SIGTERM) == ("", "")
    assert await exit_of(runc, id_) == 3


async def test_a_signal_for_all_reaches_the_children_too(runc: Runc, bundles: Bundles, asker: Asker) -> None:
    id_ = await started(runc, bundles, "sleep 1000 & wait $!; exit 4")
    process = await process_of(runc, id_)
    await until(lambda: sleeps(process))
    # The shell has no handler, and the first process of a namespace is not ended by a signal without one.
    assert await asker.ask(id_, signal.SIGTERM, everything=True) == ("", "")
    assert await exit_of(runc, id_) == 4


async def test_what_has_ended_cannot_be_signalled(runc: Runc, bundles: Bundles, asker: Asker) -> None:
    id_ = await started(runc, bundles, "exit 0")
    await exit_of(runc, id_)
    code, message = await asker.ask(id_, signal.SIGTERM)
    assert code == Code.NOT_FOUND.value
    assert message


@pytest.mark.parametrize("id_", ["", "absent", "--all", "-9", "\0", "../../etc", "a" * 5000])
async def test_what_is_no_container_of_ours_is_not_found(asker: Asker, id_: str) -> None:
    assert (await asker.ask(id_, signal.SIGTERM))[0] == Code.NOT_FOUND.value


@pytest.mark.parametrize("number", [-1, 0, 99, 1 << 20])
async def test_a_number_that_is_no_signal_is_runcs_to_refuse(
    runc: Runc, bundles: Bundles, asker: Asker, number: int
) -> None:
    id_ = await started(runc, bundles, "exec sleep 1000")
    with suppress(ValueError):  # what the field does not hold cannot be asked for
        code, _ = await asker.ask(id_, number)
        assert code in (Code.RUNTIME.value, "")
    assert (await runc.state(id_))[0] == "running"


@pytest.mark.parametrize("raw", [b"\xff", b"\x0a\xff", b"hello" * 1000])
async def test_what_is_no_request_is_answered_as_that(asker: Asker, raw: bytes) -> None:
    with pytest.raises(DecodeError):
        commands_pb2.SignalRequest.FromString(raw)
    assert (await asker.send(raw))[0] == Code.INPUT.value


@settings(max_examples=30, deadline=None, suppress_health_check=[HealthCheck.function_scoped_fixture])
@given(raws=st.lists(st.binary(max_size=40), max_size=10))
async def test_any_bytes_are_answered(asker: Asker, raws: list[bytes]) -> None:
    for raw in raws:
        code, _ = await asker.send(raw)
        assert code in (Code.INPUT.value, Code.NOT_FOUND.value)
