"""launch_agent: the pod's agent enclave, from its measured bundle, in the pod's network namespace, behind its doors.

Zone: host. May import: `workers.host`, `orchestrator.{bus,events,faults,launch}`.
"""

from __future__ import annotations

import asyncio
import hashlib
import json
import shutil
from pathlib import Path
from typing import Any

from orchestrator.bus import WorkQueue, subjects
from orchestrator.events import AgentUp, Command
from orchestrator.faults import Code, Permanent, Temporary
from orchestrator.launch import Launch
from schemas.places import INIT_DATA, POD_FILE, STORES
from workers.host import spec
from workers.host.conmon import Streams
from workers.host.gate import Gate
from workers.host.libos.backend import LibOS
from workers.host.node import Node
from workers.host.runc import Held, Role, Runc
from workers.host.taken_away import told_as_taken_away


def agent_id(pod: str) -> str:
    """runc's id of the pod's agent container."""
    return f"{pod}-agent"


class LaunchAgent:
    """The transition sandbox -> agent-up."""

    def __init__(self, node: Node, runc: Runc, libos: LibOS, queue: WorkQueue, gate: Gate) -> None:
        self._node = node
        self._runc = runc
        self._libos = libos
        self._queue = queue
        self._gate = gate

    async def __call__(self, command: Command, launch: Launch) -> AgentUp:
        """Raises Permanent(AGENT_NOT_STARTED, AGENT_INIT_DATA, RUNTIME), and what the LibOS raises.

        Raises Temporary(AGENT_NOT_STARTED) when the agent's process ended before its first instruction.
        """
        netns = launch.sandbox.netns if launch.sandbox else ""
        with told_as_taken_away(netns, launch.requested.bundle if launch.requested else ""):
            return await self._launch(command, launch, netns)

    async def _launch(self, command: Command, launch: Launch, netns: str) -> AgentUp:
        pod, id_ = command.pod, agent_id(command.pod)
        await self._queue.ensure_consumer(subjects.pod_consumer(pod), subjects.pod_commands(pod))
        await self._gate.open(pod, netns)
        bundle = await self._libos.prepare(self._node.enclaves.agent_bundle)
        status, pid = await self._runc.known(id_)
        record = self._runc.record(id_)
        if not (status == "running" and record is not None and record.attempt == command.attempt):
            if status != "absent" or self._runc.traces(id_):
                await self._runc.discard(id_)
            self._gate.expect_agent(pod)
            init_data = self._init_data(launch)
            directory = await asyncio.to_thread(self._prepare_directory, pod, init_data)
            mounts = [
                spec.Mount(directory / "pod.json", POD_FILE),
                spec.Mount(directory / "init-data.toml", INIT_DATA),
                spec.Mount(self._node.store_dir(pod), STORES, writable=True),
            ]
            cgroup = agent_cgroup(Path(launch.requested.bundle if launch.requested else ""), pod)
            extras = self._libos.container_extras()
            spec.write(spec.agent(bundle, extras, mounts, netns, cgroup), directory)
            log = self._node.agent_log(pod)
            log.parent.mkdir(mode=0o700, parents=True, exist_ok=True)
            log.touch(mode=0o600)
            held = Held(id_, pod, "", Role.AGENT, command.attempt)
            pid = await self._runc.create(held, directory, Streams("", str(log), str(log)))
            config_id = hashlib.sha256(init_data).digest().ljust(64, b"\0")
            try:
                await self._libos.enter(pid, bundle, config_id, debug=self._node.enclaves.debug)
                await self._runc.start(id_)
            except Permanent as fault:
                if (await self._runc.state(id_))[0] != "stopped":
                    raise
                raise _ended_at_once(fault) from fault
        return AgentUp(
            runc_id=id_,
            pid=pid,
            libos=self._libos.kind,
            bundle_sha256=bundle.image_sha256,
            measurement=bundle.expected_measurement.hex(),
        )

    def _prepare_directory(self, pod: str, init_data: bytes) -> Path:
        directory = self._node.pod_dir(pod) / "agent"
        directory.mkdir(mode=0o700, parents=True, exist_ok=True)
        store = self._node.store_dir(pod)
        shutil.rmtree(store, ignore_errors=True)  # a new agent has no key for what an old one sealed
        store.mkdir(mode=0o700, parents=True)
        document = {"pod": pod, "node": self._node.name, "bus_ca": self._node.bus_ca.read_text()}
        (directory / "pod.json").write_text(json.dumps(document))
        (directory / "init-data.toml").write_bytes(init_data)
        pinned = self._node.pinned_boot_bundle(pod)
        pinned.unlink(missing_ok=True)
        pinned.symlink_to(self._node.enclaves.boot_bundle.resolve())
        return directory

    def _init_data(self, launch: Launch) -> bytes:
        try:
            init_data = self._node.enclaves.init_data.read_bytes()
        except OSError as error:
            raise _init_data_fault("a readable init-data file", f"{self._node.enclaves.init_data}: {error}") from error
        wanted = launch.requested.init_data_sha256 if launch.requested else ""
        found = hashlib.sha256(init_data).hexdigest()
        if wanted not in ("", found):
            raise _init_data_fault(f"init-data with SHA-256 {wanted}, as the pod asked", f"SHA-256 {found}")
        return init_data


def agent_cgroup(bundle: Path, pod: str) -> str:
    """The agent's cgroup, beside the pause container's, so that the pod's limits hold for it too."""
    try:
        document: dict[str, Any] = json.loads((bundle / "config.json").read_text())
        path = str(document["linux"]["cgroupsPath"])
    except (OSError, ValueError, KeyError, TypeError):
        return f"/enclave-cc/{agent_id(pod)}"
    return str(Path(path).parent / agent_id(pod))


def _ended_at_once(fault: Permanent) -> Temporary:
    return Temporary(
        Code.AGENT_NOT_STARTED,
        "the agent's process ended while it was being started",
        expected="a process that waits for its start",
        got=str(fault),
        advice="something killed it: see the kernel's log",
    )


def _init_data_fault(expected: str, got: str) -> Permanent:
    return Permanent(
        Code.AGENT_INIT_DATA,
        "the init-data of this pod's agent is not what was asked for",
        expected=expected,
        got=got,
        advice="the owner's init-data is set in the node's configuration, [enclave] init_data",
    )
