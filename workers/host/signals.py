"""Requests to the node that leave no trace of their own: sending a signal. What it leads to, an exit, is a fact.

Zone: host. May import: `workers.host.runc`, `orchestrator.{bus,faults}`, `schemas`.
"""

from __future__ import annotations

from google.protobuf.message import DecodeError

from orchestrator.bus import Bus, subjects
from orchestrator.faults import Code, Fault
from schemas import commands_pb2
from workers.host.runc import Runc

VERB = "signal"


async def serve_signals(bus: Bus, node: str, runc: Runc) -> None:
    """Answer `req.host.<node>.signal`: a SignalRequest by a SignalReply, whose code is empty when it was sent."""

    async def answer(raw: bytes) -> bytes:
        try:
            request = commands_pb2.SignalRequest.FromString(raw)
            await runc.kill(request.runc_id, request.signal, everything=request.all)
        except DecodeError:
            return _reply(Code.INPUT.value, "the request is no SignalRequest")
        except Fault as fault:
            return _reply(fault.code.value, str(fault))
        except (OSError, TimeoutError) as error:
            return _reply(Code.RUNTIME.value, f"runc did not answer: {type(error).__name__}")
        return _reply("", "")

    await bus.serve(subjects.host_request(node, VERB), answer)


def _reply(code: str, message: str) -> bytes:
    return commands_pb2.SignalReply(code=code, message=message).SerializeToString()
