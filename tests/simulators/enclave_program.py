"""The program of a test enclave: reads one JSON request a line, answers one JSON line, on its standard streams.

It runs inside a bundle, as the first process of its container, and uses the very code that agents use.
"""

from __future__ import annotations

import asyncio
import json
import subprocess
import sys

from orchestrator.faults import Fault
from schemas.sgx import KeyPolicy, Report, TargetInfo
from workers.enclave.tee.channel import accept, connect
from workers.enclave.tee.judge import OnlyMeasurements
from workers.enclave.tee.secrets import harden
from workers.enclave.tee.sim import SimulatedTee


async def _channel(request: dict) -> dict:
    tee = SimulatedTee()
    judge = OnlyMeasurements(frozenset(bytes.fromhex(listed) for listed in request["listed"]))
    if request["do"] == "connect":
        streams = await asyncio.open_unix_connection(request["at"])
        channel = await connect(*streams, tee, judge)
        await channel.send(request["say"].encode())
        heard = await channel.receive()
    else:
        arrived: asyncio.Queue = asyncio.Queue()
        server = await asyncio.start_unix_server(lambda *streams: arrived.put(streams), request["at"])
        channel = await accept(*await arrived.get(), tee, judge)
        heard = await channel.receive()
        await channel.send(request["say"].encode())
        server.close()
    channel.close()
    return {"heard": heard.decode(), "peer": channel.peer.mrenclave.hex()}


def answer(request: dict) -> dict:
    tee = SimulatedTee()
    match request["do"]:
        case "target":
            return {"target": tee.my_target_info().encode().hex()}
        case "report":
            target = TargetInfo.parse(bytes.fromhex(request["target"]))
            return {"report": tee.report(target, bytes.fromhex(request["data"])).encode().hex()}
        case "verify":
            tee.verify_report(Report.parse(bytes.fromhex(request["report"])))
            return {"verified": True}
        case "quote":
            return {"quote": tee.quote(bytes.fromhex(request["data"])).hex()}
        case "seal":
            return {"key": tee.seal_key(KeyPolicy(request["policy"])).hex()}
        case "harden":
            harden()
            return {"hardened": True}
        case "child":
            argv = [*sys.orig_argv]
            child = subprocess.run(argv, input='{"do": "target"}\n', capture_output=True, text=True, check=False)
            return json.loads(child.stdout)
        case "connect" | "accept":
            return asyncio.run(asyncio.wait_for(_channel(request), 30))
        case _:
            return {"unknown": request}


def main() -> None:
    for line in sys.stdin:
        try:
            reply = answer(json.loads(line))
        except Fault as fault:
            reply = {"code": fault.code.value, "got": fault.diagnosis.got, "expected": fault.diagnosis.expected}
        sys.stdout.write(json.dumps(reply) + "\n")
        sys.stdout.flush()


if __name__ == "__main__":
    main()
