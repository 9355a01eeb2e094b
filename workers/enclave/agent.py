"""The agent enclave's process: `python -m workers.enclave.agent`, started by the measured entry of its bundle.

Zone: enclave. May import: `workers`, `orchestrator.{bus,events,faults,lifecycle}`, `schemas`.

One agent a pod. It is told by the host which pod it is for, proves itself, and executes the pod's enclave-zone steps.
It ends when the pod does, or when it cannot go on; its keys end with it.
"""

from __future__ import annotations

import asyncio
import math
import signal
import sys
from contextlib import suppress
from functools import partial
from pathlib import Path
from typing import TYPE_CHECKING, Final

import structlog

from orchestrator.bus import Histories, connect, subjects
from orchestrator.events import Body, Fact
from orchestrator.faults import Code, Fault, Permanent
from orchestrator.lifecycle import TRANSITIONS, Zone
from orchestrator.log import configure
from schemas.places import INIT_DATA
from workers.enclave import init_data as init_data_file
from workers.enclave.attest import Attest
from workers.enclave.door import PROXY_URL, Pod, enroll, read_pod
from workers.enclave.event_key import BusKey, EventKey
from workers.enclave.init_data import InitData
from workers.enclave.late import LateContainers, LateKbs
from workers.enclave.patience import answered
from workers.enclave.tee.interface import Tee
from workers.enclave.tee.secrets import harden
from workers.enclave.tee.sim import SimulatedTee
from workers.process import Identity, Step, Worker

if TYPE_CHECKING:
    from workers.enclave.containers import Containers
    from workers.enclave.kbs.client import KbsClient

TELLING_SECONDS: Final = 15.0
"""What boot init is told after: it waits for an answer longer than that."""

_log = structlog.get_logger()


async def serve(pod: Pod, init_data: InitData, tee: Tee) -> None:
    """Execute the pod's steps until cancelled."""
    me = tee.report(tee.my_target_info(), b"").body
    if me.config_id != init_data.config_id:
        raise Permanent(
            Code.AGENT_INIT_DATA,
            "the init-data is not the one this enclave was started with",
            expected=f"CONFIGID {me.config_id.hex()}",
            got=f"init-data with {init_data.config_id.hex()}",
            advice="the host mounted another file than it measured",
        )
    key = EventKey()

    def make_kbs() -> KbsClient:
        from workers.enclave.kbs.client import KbsClient  # noqa: PLC0415 - see `late`

        return KbsClient(init_data.kbs_url, init_data.kbs_ca, tee, PROXY_URL, init_data.text)

    kbs = LateKbs(make_kbs)
    identity = Identity(Zone.ENCLAVE, f"agent/{pod.id[:16]}", key.sign)
    # An agent waits for its host and its bus as long as its pod lives; the deadline of `attest` bounds that.
    credentials = await answered(partial(enroll, pod, BusKey()), math.inf)
    async with await connect(credentials, identity.actor, math.inf) as bus, asyncio.TaskGroup() as tasks:
        histories = Histories(bus)

        async def tell(container: str, body: Body) -> None:
            fact = Fact(pod.id, body, identity.zone, identity.actor, container=container)
            await histories.append(fact, sign=key.sign, patience=TELLING_SECONDS)

        def make() -> Containers:
            from workers.enclave.containers import containers  # noqa: PLC0415 - see `late`

            return containers(tee, kbs(), init_data, tell, debug=me.attributes.debug)

        late = LateContainers(make)
        steps: dict[str, Step] = {"attest": late.wanted_after(Attest(tee, kbs, init_data, key))}
        steps |= {
            row.name: late.step(row.name) for row in TRANSITIONS if row.name not in steps and row.zone is Zone.ENCLAVE
        }
        tasks.create_task(late.run())
        tasks.create_task(Worker(bus, subjects.pod_consumer(pod.id), identity, steps, histories).run())


def main() -> int:
    """0 after SIGTERM, 1 with the reason on standard error."""
    harden()
    configure("agent")

    async def until_terminated() -> None:
        task = asyncio.current_task()
        if task is not None:
            asyncio.get_running_loop().add_signal_handler(signal.SIGTERM, task.cancel)
        with suppress(asyncio.CancelledError):
            await serve(pod, init_data, SimulatedTee())

    try:
        pod, init_data = read_pod(), init_data_file.parse(Path(INIT_DATA).read_bytes())
        asyncio.run(until_terminated())
    except Fault as fault:
        sys.stderr.write(fault.diagnostics() + "\n")
        return 1
    return 0


if __name__ == "__main__":
    sys.exit(main())
