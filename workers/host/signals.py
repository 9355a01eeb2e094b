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
    """Answer `req.host.<node>.signal`: a SignalRequest by a SignalReply, whose code is empty when it was sent.

    NOT_FOUND: there is nothing (any more) to send it to; RUNTIME: runc refused; INPUT: that was no request.
    """

    async def answer(raw: bytes) -> bytes:
        try:
            request = commands_pb2.SignalRequest.FromString(raw)
        except DecodeError:
            return _reply(Code.INPUT.value, "the request is no SignalRequest")
        # Only ids of our own become arguments of runc.
        if runc.record(request.runc_id) is None:
            return _reply(Code.NOT_FOUND.value, "there is no such container on this node")
        try:
            await runc.kill(request.runc_id, request.signal, everything=request.all)
        except Fault as fault:
            return _reply(fault.code.value, str(fault))
        return _reply("", "")

    await bus.serve(subjects.host_request(node, VERB), answer)


def _reply(code: str, message: str) -> bytes:
    return commands_pb2.SignalReply(code=code, message=message).SerializeToString()
