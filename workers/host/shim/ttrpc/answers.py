"""What a server answers to one frame, whichever loop it runs in.

- A method that the service does not have is answered UNIMPLEMENTED.
- The caller's timeout bounds the call: DEADLINE_EXCEEDED.
- A fault is answered by its status. Anything else that a method raises is a defect: INTERNAL with its type, no text,
  because an unforeseen message could quote what it was handling.
"""

from __future__ import annotations

from collections.abc import Awaitable, Callable, Mapping
from contextlib import AbstractAsyncContextManager
from dataclasses import dataclass
from typing import Any, Final, TypeAlias

from google.protobuf.message import DecodeError, Message

from orchestrator.faults import Diagnosis, Fault
from schemas.containerd import ttrpc_pb2
from workers.host.shim.ttrpc.frame import MAX_DATA, RESPONSE, Frame, encode
from workers.host.shim.ttrpc.status import StatusCode, status_of, words_of

Limit: TypeAlias = Callable[[float | None], AbstractAsyncContextManager[Any]]
"""Of the loop that runs it: `async with limit(seconds)` raises TimeoutError."""
Log: TypeAlias = Callable[[str, str, Diagnosis | BaseException], object]
"""Told of each refusal and each defect: which of the two, the method, and why."""
_HIGHEST: Final = 10.0**9


@dataclass(frozen=True, slots=True)
class Method:
    """One RPC: the message it takes, and what answers it."""

    request: type[Message]
    answer: Callable[[Any], Awaitable[Message]]


async def reply(frame: Frame, methods: Mapping[str, Method], limit: Limit, log: Log) -> bytes:
    """The frame that answers a request's frame. Does not raise."""
    response = (await _answer(frame, methods, limit, log)).SerializeToString()
    if len(response) > MAX_DATA:
        response = _failure(StatusCode.RESOURCE_EXHAUSTED, "the reply does not fit a frame").SerializeToString()
    return encode(frame.stream, RESPONSE, response)


async def _answer(frame: Frame, methods: Mapping[str, Method], limit: Limit, log: Log) -> ttrpc_pb2.Response:
    if frame.data is None:
        return _failure(StatusCode.RESOURCE_EXHAUSTED, f"a request has at most {MAX_DATA} bytes")
    try:
        request = ttrpc_pb2.Request.FromString(frame.data)
        name = f"{request.service}/{request.method}"
        method = methods.get(name)
        if method is None or frame.flags:
            return _failure(StatusCode.UNIMPLEMENTED, f"{name} is not implemented")
        payload = method.request.FromString(request.payload)
    except DecodeError:
        return _failure(StatusCode.INVALID_ARGUMENT, "the request does not parse")
    seconds = min(request.timeout_nano / 1e9, _HIGHEST) if request.timeout_nano > 0 else None
    try:
        if seconds is None:
            answer = await method.answer(payload)
        else:
            async with limit(seconds):
                answer = await method.answer(payload)
    except Fault as fault:
        log("refused", name, fault.diagnosis)
        return _failure(status_of(fault), words_of(fault))
    except TimeoutError:
        return _failure(StatusCode.DEADLINE_EXCEEDED, f"{name} was not done within {seconds or 0:g} s")
    except Exception as error:  # noqa: BLE001 - whatever it is, the caller gets an answer
        log("defect", name, error)
        return _failure(StatusCode.INTERNAL, f"{name} met {type(error).__name__}, which it was not written for")
    return ttrpc_pb2.Response(payload=answer.SerializeToString())


def _failure(code: StatusCode, message: str) -> ttrpc_pb2.Response:
    return ttrpc_pb2.Response(status=ttrpc_pb2.Status(code=code, message=message))
