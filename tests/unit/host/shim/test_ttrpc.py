from __future__ import annotations

import asyncio
import socket
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
from google.protobuf.empty_pb2 import Empty

from orchestrator.faults import Code, Permanent, Temporary
from schemas.containerd import task_pb2 as pb
from schemas.containerd import ttrpc_pb2
from tests.simulators.ttrpc_client import CallFailed, Client
from workers.host.shim.ttrpc.frame import MAX_DATA, REQUEST, Decoder, encode
from workers.host.shim.ttrpc.server import Method
from workers.host.shim.ttrpc.status import Refusal, StatusCode

STATE = "containerd.task.v2.Task/State"


def answering(answer: Callable[[pb.StateRequest], Any]) -> dict[str, Method]:
    async def state(request: pb.StateRequest) -> pb.StateResponse:
        result = answer(request)
        return await result if asyncio.iscoroutine(result) else result

    return {STATE: Method(pb.StateRequest, state)}


async def status_of(client: Client, method: str = STATE, **limits: float) -> tuple[int, str]:
    with pytest.raises(CallFailed) as failed:
        await client.call(method, pb.StateRequest(id="x"), pb.StateResponse, **limits)
    return failed.value.status, str(failed.value)


async def test_a_call_is_answered(serve: Any, connect: Any) -> None:
    client = await connect(serve(answering(lambda request: pb.StateResponse(id=request.id, pid=7))))
    for id_ in ("one", "two"):
        reply = await client.call(STATE, pb.StateRequest(id=id_), pb.StateResponse)
        assert (reply.id, reply.pid) == (id_, 7)


async def test_unknown_methods_and_services_are_unimplemented(serve: Any, connect: Any) -> None:
    client = await connect(serve(answering(lambda _: pb.StateResponse())))
    for method in ("containerd.task.v2.Task/Checkpoint", "containerd.task.v3.Task/State", "/"):
        status, _ = await status_of(client, method)
        assert status == StatusCode.UNIMPLEMENTED


@pytest.mark.parametrize(
    ("fault", "status", "words"),
    [
        (Permanent(Code.NOT_FOUND, "gone"), StatusCode.NOT_FOUND, "E-INPUT-002: gone"),
        (Permanent(Code.INPUT, "odd"), StatusCode.INVALID_ARGUMENT, "odd"),
        (Temporary(Code.BUS_AWAY, "away"), StatusCode.UNAVAILABLE, "E-BUS-001: away"),
        (Refusal(StatusCode.FAILED_PRECONDITION, "no"), StatusCode.FAILED_PRECONDITION, "no"),
        (
            Permanent(Code.ATTEST_NOT_LISTED, "not listed", expected="a", got="b", advice="list it"),
            StatusCode.UNKNOWN,
            "E-ATTEST-002: not listed (expected a; got b; try list it)",
        ),
    ],
)
async def test_a_fault_is_answered_by_its_status_and_in_one_line(
    serve: Any, connect: Any, fault: Exception, status: StatusCode, words: str
) -> None:
    def raises(_: pb.StateRequest) -> None:
        raise fault

    got, text = await status_of(await connect(serve(answering(raises))))
    assert got == status
    assert words in text


async def test_a_defect_is_internal_and_its_text_stays_inside(serve: Any, connect: Any) -> None:
    def raises(_: pb.StateRequest) -> None:
        raise RuntimeError("something that was being handled")

    status, text = await status_of(await connect(serve(answering(raises))))
    assert status == StatusCode.INTERNAL
    assert "RuntimeError" in text
    assert "being handled" not in text


async def test_the_callers_limit_ends_the_call(serve: Any, short: Path) -> None:
    cancelled = asyncio.Event()

    async def sleeps() -> None:
        try:
            await asyncio.sleep(60)
        finally:
            cancelled.set()

    address = serve(answering(lambda _: sleeps()))
    request = encode(1, REQUEST, _request(pb.StateRequest(id="x"), timeout_nano=50_000_000))
    answer = await _exchange(address, request)
    assert answer.status.code == StatusCode.DEADLINE_EXCEEDED
    assert cancelled.is_set()


async def test_a_slow_call_holds_up_no_other_call_of_its_connection(serve: Any) -> None:
    gate = asyncio.Event()

    async def answer(request: pb.StateRequest) -> pb.StateResponse:
        if request.id == "slow":
            await gate.wait()
        return pb.StateResponse(id=request.id)

    address = serve(answering(answer))
    reader, writer = await asyncio.open_unix_connection(address.removeprefix("unix://"))
    for stream, id_ in ((1, "slow"), (3, "quick")):
        writer.write(encode(stream, REQUEST, _request(pb.StateRequest(id=id_))))
    decoder = Decoder()
    (first,) = decoder.feed(await reader.read(4096))
    gate.set()
    (second,) = decoder.feed(await reader.read(4096))
    assert (first.stream, second.stream) == (3, 1)
    writer.close()


async def test_a_closed_connection_cancels_nothing_that_was_asked(serve: Any, connect: Any) -> None:
    asked, gate, done = asyncio.Event(), asyncio.Event(), asyncio.Event()

    async def answer(_: pb.StateRequest) -> pb.StateResponse:
        asked.set()
        await gate.wait()
        done.set()
        return pb.StateResponse()

    address = serve(answering(answer))
    _, writer = await asyncio.open_unix_connection(address.removeprefix("unix://"))
    writer.write(encode(1, REQUEST, _request(pb.StateRequest())))
    await asked.wait()
    writer.close()
    await writer.wait_closed()
    gate.set()
    await asyncio.wait_for(done.wait(), 30)
    status, _ = await status_of(await connect(address), "a.b/C")
    assert status == StatusCode.UNIMPLEMENTED


async def test_a_request_that_does_not_parse_or_is_too_long_is_refused_and_the_connection_goes_on(serve: Any) -> None:
    address = serve(answering(lambda _: pb.StateResponse(pid=1)))
    reader, writer = await asyncio.open_unix_connection(address.removeprefix("unix://"))
    writer.write(encode(1, REQUEST, b"\xff\xff"))
    writer.write((MAX_DATA + 1).to_bytes(4, "big") + (3).to_bytes(4, "big") + bytes((REQUEST, 0)) + bytes(MAX_DATA + 1))
    writer.write(encode(5, REQUEST, _request(pb.StateRequest())))
    decoder, codes = Decoder(), {}
    while len(codes) < 3:
        for frame in decoder.feed(await reader.read(4096)):
            codes[frame.stream] = _response(frame.data).status.code
    assert codes == {1: StatusCode.INVALID_ARGUMENT, 3: StatusCode.RESOURCE_EXHAUSTED, 5: StatusCode.OK}
    writer.close()


async def test_who_reads_no_answers_is_not_read_from_either(serve: Any, short: Path) -> None:
    address = serve(answering(lambda _: pb.StateResponse(id="x" * 10_000)))
    envelope = ttrpc_pb2.Request(service="containerd.task.v2.Task", method="State").SerializeToString()
    with socket.socket(socket.AF_UNIX) as client:
        client.connect(address.removeprefix("unix://"))
        client.setblocking(False)
        sent, quiet = 0, 0
        while quiet < 50:  # turns in which nothing more was taken
            try:
                sent += client.send(encode(1, REQUEST, envelope) * 1_000)
                quiet = 0
            except BlockingIOError:
                quiet += 1
            assert sent < 8 << 20
            await asyncio.sleep(0.01)


async def test_a_server_that_goes_away_or_is_not_there_is_a_temporary_fault(short: Path) -> None:
    with pytest.raises(Temporary):
        async with Client(str(short / "nobody.sock")):
            pass
    with socket.socket(socket.AF_UNIX) as listener:
        listener.bind(str(short / "mute.sock"))
        listener.listen(1)
        async with Client(f"unix://{short / 'mute.sock'}") as client:
            with pytest.raises(Temporary):
                await client.call(STATE, pb.StateRequest(), Empty, seconds=0.05)


def _request(message: pb.StateRequest, timeout_nano: int = 0) -> bytes:
    from schemas.containerd import ttrpc_pb2

    service, _, method = STATE.partition("/")
    return ttrpc_pb2.Request(
        service=service, method=method, payload=message.SerializeToString(), timeout_nano=timeout_nano
    ).SerializeToString()


def _response(data: bytes | None) -> Any:
    from schemas.containerd import ttrpc_pb2

    assert data is not None
    return ttrpc_pb2.Response.FromString(data)


async def _exchange(address: str, request: bytes) -> Any:
    reader, writer = await asyncio.open_unix_connection(address.removeprefix("unix://"))
    writer.write(request)
    (frame,) = Decoder().feed(await reader.read(4096))
    writer.close()
    return _response(frame.data)
