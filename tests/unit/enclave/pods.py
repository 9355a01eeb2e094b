"""A pod's agent without its process: real broker, real stores, real local attestation, the pod's own network.

Not real is the CPU's daemon: reports are made and checked by its code, in this process.
"""

from __future__ import annotations

import io
import json
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from orchestrator.events import Command
from orchestrator.launch import Launch, new
from schemas.places import store_name
from schemas.sgx import KeyPolicy, Report, TargetInfo
from tests.network import Network
from tests.simulators.broker import MEASUREMENT, Broker, Enclave
from tests.simulators.direct_tee import DirectTee, machine
from tests.simulators.oci import tar
from workers.enclave.image.manifest import ImageConfig
from workers.enclave.image.policy import Limits
from workers.enclave.image.pull import ImagePlan
from workers.enclave.image.reference import parse_reference
from workers.enclave.kbs import KbsClient, ResourceUri
from workers.enclave.policy_cache import LaunchPolicies
from workers.enclave.rootfs.sealing import SealingWriter
from workers.enclave.sealed_images import SealedImage
from workers.enclave.sessions import Sessions
from workers.enclave.work import ContainerWork, Works
from workers.host.libos.sim.cpu import Cpu

POD = "a1b2c3d4" * 8
BOOT, STRANGER = b"b" * 32, b"x" * 32
REPOSITORY = "registry.example/shop/app"
IMAGE = parse_reference(f"{REPOSITORY}@sha256:{'ab' * 32}")
CONFIG = ImageConfig("amd64", "linux", (), env=("PATH=/bin",), entrypoint=("/app",), cmd=(), working_dir="/", user="0")
POLICY_URI = "kbs:///default/launch-policy/default"
TOKEN_URI = "kbs:///default/secret/token"
PROPOSED: dict[str, Any] = {
    "ociVersion": "1.0.2",
    "process": {"user": {"uid": 0, "gid": 0}, "args": ["/app"], "env": ["PATH=/bin"], "cwd": "/"},
    "root": {"path": "rootfs"},
    "mounts": [],
    "linux": {"namespaces": [], "resources": {}},
}


def launch_policy(*secrets: dict[str, object], measurement: bytes = BOOT) -> bytes:
    """Admits `PROPOSED` for the image, and app enclaves of that measurement."""
    rule = {"name": "web", "image": REPOSITORY}
    document = {"version": 1, "boot_measurements": [measurement.hex()], "rules": [rule], "secrets": list(secrets)}
    return json.dumps(document).encode()


class AgentTee:
    """Local attestation by one simulated CPU, quotes by another one's hierarchy, for one identity."""

    kind = "sim"

    def __init__(self, cpu: Cpu, enclave: Enclave, *, config_id: bytes = bytes(64)) -> None:
        self._local = DirectTee(cpu, enclave.mrenclave, config_id=config_id)
        self._enclave = enclave

    def my_target_info(self) -> TargetInfo:
        return self._local.my_target_info()

    def report(self, target: TargetInfo, report_data: bytes) -> Report:
        return self._local.report(target, report_data)

    def verify_report(self, report: Report) -> None:
        self._local.verify_report(report)

    def quote(self, report_data: bytes) -> bytes:
        return self._enclave.quote(report_data)

    def seal_key(self, policy: KeyPolicy) -> bytes:
        return self._local.seal_key(policy)


@dataclass
class AgentPod:
    """One agent, and what it needs of the world."""

    broker: Broker
    tee: Enclave
    folder: Path
    network: Network
    cpu: Cpu = field(default_factory=machine)
    works: Works = field(default_factory=Works)

    def kbs(self) -> KbsClient:
        return self.broker.client(self.tee)

    @property
    def agent(self) -> DirectTee:
        return DirectTee(self.cpu, MEASUREMENT)

    def boot(self, measurement: bytes = BOOT, *, debug: bool = False) -> DirectTee:
        """An app enclave on the agent's machine."""
        return DirectTee(self.cpu, measurement, debug=debug)

    def policies(self, *, debug: bool = False) -> LaunchPolicies:
        return LaunchPolicies(self.kbs(), POLICY_URI, debug=debug)

    def sessions(self, *, debug: bool = False) -> Sessions:
        return Sessions(self.agent, self.policies(debug=debug), self.works)

    def put(self, uri: str, content: bytes) -> None:
        """The owner's resource."""
        with self.admin() as admin:
            admin.put_resource(ResourceUri.parse(uri), content)

    @contextmanager
    def admin(self) -> Iterator[Any]:
        admin = self.broker.admin()
        try:
            yield admin
        finally:
            admin.close()

    @property
    def stores(self) -> Path:
        """Where the agent writes sealed stores."""
        return self.folder / "stores"

    def decrypted(self, container: str, attempt: int = 1, content: bytes = b"content") -> ContainerWork:
        """What decrypt_image leaves in the agent's memory."""
        self.stores.mkdir(exist_ok=True)
        writer = SealingWriter(self.stores / f"image.{container}.{attempt}")
        writer.add_layer(io.BytesIO(tar({"app": content})))
        plan = ImagePlan(IMAGE, IMAGE.digest or "", CONFIG, None, (), (), Limits(), None)  # type: ignore[arg-type]
        work = ContainerWork(plan, SealedImage(writer))
        self.works.put(container, work)
        return work

    def sealed(self, container: str, attempt: int = 1) -> ContainerWork:
        """What seal_fs leaves there."""
        work = self.decrypted(container, attempt)
        work.sealed = work.image.given_as(self.stores / store_name(container, attempt))
        return work


def command(transition: str, container: str = "c", attempt: int = 1) -> Command:
    return Command(POD, container, transition, attempt, 1, 0)


def nothing_known() -> Launch:
    """For steps that do not look at the history."""
    return new(POD)
