"""A pod for tests of the host worker: real runc, conmon, simulated CPU, bus and network; neither containerd nor agent.

The enclaves are busybox in bundles of their own. What a history would say is put together here.
"""

from __future__ import annotations

import json
import os
import subprocess
import tempfile
from collections.abc import Callable
from dataclasses import dataclass, field, replace
from pathlib import Path

from orchestrator import events
from orchestrator.bus import Bus, Histories, WorkQueue
from orchestrator.events import Command
from orchestrator.launch import Container, Launch, Progress, new
from tests.busybox import BUSYBOX, Bundles
from tests.network import Network
from tests.simulators import history
from tests.simulators.enclave_bundle import make_image
from tests.simulators.enclaves import CpuProcess
from workers.host.bus_users import AgentSigner
from workers.host.exits import Exits
from workers.host.gate import Gate
from workers.host.launch_agent import LaunchAgent
from workers.host.libos.backend import LibOS
from workers.host.node import Node
from workers.host.runc import Runc
from workers.host.start_app import StartApp
from workers.host.teardown import Teardown


def busybox_image(folder: Path, name: str, script: str) -> Path:
    """A measured bundle whose first process is this script."""
    with tempfile.TemporaryDirectory(dir=folder) as made:
        tree = Path(made)
        for top in ("bin", "proc", "dev", "sys", "run", "tmp", "etc/enclave-cc"):
            (tree / top).mkdir(parents=True)
        (tree / "bin/busybox").write_bytes(BUSYBOX.read_bytes())
        (tree / "bin/busybox").chmod(0o755)
        entry = {"argv": ["/bin/busybox", "sh", "-c", script], "env": {"HOME": "/"}, "cwd": "/"}
        (tree / "etc/enclave-cc/enclave.json").write_text(json.dumps(entry))
        image = folder / f"{name}.erofs"
        make_image(tree, image)
    return image


@dataclass
class HostPod:
    """One pod on a node. `launch` is what the history says so far; steps are made anew for each use, as by a worker."""

    node: Node
    runc: Runc
    cpu: CpuProcess
    bus: Bus
    bundles: Bundles
    network: Network
    gate: Gate = field(init=False)
    launch: Launch = field(init=False)

    def __post_init__(self) -> None:
        self.gate = self.another_gate()
        self.id, self.bundle = self.bundles.bundle("pod")
        requested = replace(history.pod_requested(), bundle=str(self.bundle), init_data_sha256="")
        sandbox = events.SandboxCreated(self.id, os.getpid(), self.network.path)
        self.launch = replace(new(self.id), requested=requested, sandbox=sandbox)

    @property
    def agent(self) -> str:
        return f"{self.id}-agent"

    @property
    def libos(self) -> LibOS:
        return self.cpu.libos

    @property
    def queue(self) -> WorkQueue:
        return WorkQueue(self.bus)

    def another_gate(self) -> Gate:
        return Gate(self.node, AgentSigner.load(self.node.credentials["agent_signer"]), Histories(self.bus))

    def launch_agent(self, libos: LibOS | None = None) -> LaunchAgent:
        return LaunchAgent(self.node, self.runc, libos or self.libos, self.queue, self.gate)

    def start_app(self, libos: LibOS | None = None) -> StartApp:
        return StartApp(self.node, self.runc, libos or self.libos)

    def teardown(self, runc: Runc | None = None) -> Teardown:
        held_by = runc or self.runc
        exits = Exits(held_by, Histories(self.bus), "host-worker/test")
        return Teardown(self.node, held_by, self.libos, self.queue, self.gate, exits)

    def command(self, transition: str, container: str = "", attempt: int = 1) -> Command:
        return Command(self.id, container, transition, attempt, 1, 0)

    def container(self, name: str, change: Callable[[dict], None] = lambda _: None, store: str = "") -> str:
        """A container that containerd has asked for, whose store (if named) is sealed; its id."""
        id_, bundle = self.bundles.bundle(name)
        document = self.bundles.spec(id_, "/app")
        change(document)
        (bundle / "config.json").write_text(json.dumps(document))
        requested = replace(history.container_requested(id_), bundle=str(bundle), stdout="", stderr="")
        sealed = events.FsSealed("cd" * 32, 1, 1, store) if store else None
        if store:
            self.node.store_dir(self.id).mkdir(mode=0o700, parents=True, exist_ok=True)
            (self.node.store_dir(self.id) / Path(store).name).write_text(f"sealed store of {name}")
        made = Container(id_, Progress(), requested, sealed=sealed)
        self.launch = replace(self.launch, containers={**self.launch.containers, id_: made})
        return id_


def seen_inside(pid: int, path: str) -> str:
    """A file as the process sees it."""
    return subprocess.run(
        ["nsenter", "--target", str(pid), "--mount", "--root", "/bin/busybox", "cat", path],
        capture_output=True,
        text=True,
        check=True,
    ).stdout
