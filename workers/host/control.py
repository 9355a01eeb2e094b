"""What the host can do to a container without its enclave: pause it, let it go on, give it other limits.

Zone: host. May import: `workers.host.runc`, `orchestrator.{bus,faults}`, `schemas`.

An enclave has no say in this, and no owner's policy could: who has the machine has its processors and its memory.
"""

from __future__ import annotations

from google.protobuf.message import DecodeError

from orchestrator.bus import Bus, subjects
from orchestrator.faults import Code, Fault, Permanent
from schemas import commands_pb2
from workers.host.runc import Runc

VERB = "control"


async def serve_control(bus: Bus, node: str, runc: Runc) -> None:
    """Answer `req.host.<node>.control`: a ControlRequest by a ControlReply, whose code is empty when it was done."""

    async def answer(raw: bytes) -> bytes:
        try:
            await _do(runc, commands_pb2.ControlRequest.FromString(raw))
        except DecodeError:
            return commands_pb2.ControlReply(code=Code.INPUT.value, message="no ControlRequest").SerializeToString()
        except Fault as fault:
            d = fault.diagnosis
            reply = commands_pb2.ControlReply(
                code=d.code.value, message=d.message, expected=d.expected, got=d.got, advice=d.advice
            )
            return reply.SerializeToString()
        return b""

    await bus.serve(subjects.host_request(node, VERB), answer)


async def _do(runc: Runc, request: commands_pb2.ControlRequest) -> None:
    id_ = request.runc_id
    # Only ids of our own become arguments of runc.
    if runc.record(id_) is None:
        raise Permanent(Code.NOT_FOUND, "there is no such container on this node", expected="one that runs", got=id_)
    match request.WhichOneof("ask"):
        case "pause":
            await runc.pause(id_)
        case "unpause":
            await runc.resume(id_)
        case "limit":
            await runc.update(id_, request.limit.resources)
        case _:
            raise Permanent(Code.INPUT, "the request asks nothing", expected="one of three", got="none known here")
