"""Commands and control asked for over a real bus: by real crun beside a real workload, and by runc on its cgroup."""

from __future__ import annotations

import asyncio
import json
from collections.abc import AsyncIterator, Callable, Iterator
from contextlib import suppress
from dataclasses import asdict, dataclass
from pathlib import Path

import pytest

from orchestrator.bus import Bus, subjects
from orchestrator.faults import Code
from schemas import commands_pb2 as pb
from tests.busybox import Bundles
from tests.simulators.boot_init import CONTAINER, booted
from workers.host import control
from workers.host.conmon import Streams
from workers.host.execs import VERB, Execs
from workers.host.node import Node
from workers.host.runc import Held, Role, Runc
from workers.host.start_app import app_directory

POD = "p0d"


@dataclass
class Asker:
    bus: Bus

    async def ask(self, container: str = CONTAINER, exec_: str = "e1", **ask: object) -> pb.ExecReply:
        request = pb.ExecRequest(runc_id=container, exec=exec_, **ask)  # type: ignore[arg-type]  # one of five
        return await self.send(request.SerializeToString())

    async def send(self, raw: bytes) -> pb.ExecReply:
        answer = await self.bus.request(subjects.host_request("node-a", VERB), raw, timeout=30)
        return pb.ExecReply.FromString(answer)

    async def start(self, *args: str, **streams: str) -> pb.ExecReply:
        return await self.ask(start=pb.ExecStart(args=args, **streams))  # type: ignore[arg-type]  # paths


@pytest.fixture
def init(tmp_path: Path, runc: Runc, node: Callable[..., Node]) -> Iterator[int]:
    """A boot init, with the records that a node keeps of its container."""
    with booted(Bundles(tmp_path / "boot")) as (pid, _):
        held = Held(CONTAINER, POD, CONTAINER, Role.APP, 1)
        made = node()
        (made.run_dir / "held" / f"{CONTAINER}.json").write_text(json.dumps(asdict(held)))
        place = app_directory(made, POD, CONTAINER)
        place.mkdir(parents=True)
        (place / "pid").write_text(str(pid))
        yield pid


@pytest.fixture
async def asker(bus: Bus, runc: Runc, node: Callable[..., Node]) -> AsyncIterator[Asker]:
    async def serve() -> None:
        async with asyncio.TaskGroup() as tasks:
            await Execs(node(), runc).serve(bus, tasks)
            await asyncio.Event().wait()

    serving = asyncio.create_task(serve())
    while not bus.client._subs:
        await asyncio.sleep(0.01)
    yield Asker(bus)
    serving.cancel()
    with suppress(asyncio.CancelledError):
        await serving


async def test_a_commands_life_over_the_bus(init: int, asker: Asker, tmp_path: Path) -> None:
    output = tmp_path / "out"
    output.touch()
    reply = await asker.start("sh", "-c", "echo said; exec sleep 100", stdout=str(output))
    assert (reply.code, reply.pid > 0) == ("", True)
    assert not (await asker.ask(wait=pb.ExecWait(seconds=0))).ended
    waiting = asyncio.create_task(asker.ask(wait=pb.ExecWait(seconds=20)))
    assert (await asker.ask(resize=pb.ExecResize(rows=1, columns=1))).code == "", "a wait holds up nobody"
    assert (await asker.ask(signal=pb.ExecSignal(signal=9))).code == ""
    told = await asyncio.wait_for(waiting, 20)
    assert (told.ended, told.status, told.exited_at_ns > 0) == (True, 137, True)
    assert output.read_text() == "said\n"
    assert (await asker.ask(signal=pb.ExecSignal(signal=9))).code == Code.NOT_FOUND
    assert (await asker.ask(forget=pb.ExecForget())).code == ""
    assert (await asker.ask(wait=pb.ExecWait(seconds=1))).code == Code.NOT_FOUND


async def test_a_refusal_keeps_its_words(init: int, asker: Asker) -> None:
    reply = await asker.start("denied")
    told = (reply.code, reply.message, reply.expected, reply.got, reply.advice)
    assert told == (Code.EXEC_DENIED, "denied by the test", "another one", "denied", "none")


async def test_streams_that_cannot_be_opened_are_told(init: int, asker: Asker, tmp_path: Path) -> None:
    reply = await asker.start("true", stdout=str(tmp_path / "no" / "fifo"))
    assert (reply.code, reply.message) == (Code.EXEC_FAILED, "the command's streams cannot be opened")


async def test_containers_that_are_none_of_ours_or_have_ended_are_not_there(
    init: int, asker: Asker, runc: Runc, node: Callable[..., Node]
) -> None:
    assert (await asker.ask("../../etc", start=pb.ExecStart(args=["true"]))).code == Code.NOT_FOUND
    (node().run_dir / "exits" / CONTAINER).write_text("0")
    assert (await asker.start("true")).code == Code.NOT_FOUND


@pytest.mark.parametrize("raw", [b"", b"\xff\xff", pb.ExecRequest(runc_id=CONTAINER, exec="e").SerializeToString()])
async def test_what_asks_nothing_is_refused(init: int, asker: Asker, raw: bytes) -> None:
    assert (await asker.send(raw)).code in {Code.INPUT, Code.NOT_FOUND}


async def test_a_container_is_frozen_gets_other_limits_and_is_removed_all_the_same(
    bus: Bus, runc: Runc, bundles: Bundles
) -> None:
    await control.serve_control(bus, "node-a", runc)
    id_, bundle = bundles.shell("frozen", "exec sleep 100")
    await runc.create(Held(id_, "pod", "app", Role.APP, 1), bundle, Streams())
    await runc.start(id_)

    async def ask(**what: object) -> str:
        request = pb.ControlRequest(runc_id=id_, **what)  # type: ignore[arg-type]  # one of three
        subject = subjects.host_request("node-a", control.VERB)
        return pb.ControlReply.FromString(await bus.request(subject, request.SerializeToString(), timeout=20)).code

    limits = json.dumps({"memory": {"limit": 64 << 20}}).encode()
    assert await ask(limit=pb.Limit(resources=limits)) == ""
    group = Path("/sys/fs/cgroup/memory/enclave-cc-tests", id_)
    unified = Path("/sys/fs/cgroup/enclave-cc-tests", id_, "memory.max")
    limit = (group / "memory.limit_in_bytes") if group.exists() else unified
    assert limit.read_text().strip() == str(64 << 20)
    assert await ask(limit=pb.Limit(resources=b"no json")) == Code.RUNTIME
    assert await ask() == Code.INPUT
    assert await ask(pause=pb.Pause()) == ""
    assert (await runc.state(id_))[0] == "paused"
    assert await ask(unpause=pb.Unpause()) == ""
    assert (await runc.state(id_))[0] == "running"
    assert await ask(pause=pb.Pause()) == ""
    assert await runc.delete(id_)
    runc.forget(id_)
    assert await ask(pause=pb.Pause()) == Code.NOT_FOUND
