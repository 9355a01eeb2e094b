"""The image owner's side of a stack: a key broker's home, what is admitted, and the init-data that points to it.

Zone: owner, on the one machine of a local stack, which is for trying things out: here the owner trusts the host
with everything. May import: `deploy.{kbs,local,publish}`, `workers.{enclave,host.libos.sim}`, `orchestrator.faults`.
"""

from __future__ import annotations

import hashlib
import json
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from typing import Final

from deploy.kbs import owner as broker
from deploy.kbs.admin_client import AdminClient
from deploy.local.layout import Layout
from deploy.publish.cosign_key import SigningKey
from deploy.publish.policies import IMAGE_POLICY, LAUNCH_POLICY, PolicyFolder
from deploy.publish.publication import Published, Publisher
from deploy.publish.source import open_image
from workers.enclave.image.reference import parse_reference
from workers.enclave.image.registry import Registry
from workers.enclave.init_data import MEMBER
from workers.host.libos.sim.measurement import measure_image

SIGNING_KEY: Final = "cosign.key"
NO_PASSWORD: Final = b""
"""A local stack's key lies beside its authority's, on a disk that is wiped with the stack."""


@dataclass(frozen=True, slots=True)
class Admitted:
    """Measurements, in hex, that this owner gives secrets to."""

    agent: str
    boot: str
    config_id: str


class Owner:
    """The owner of a stack's images. Its home is `<root>/owner`; the broker serves from there."""

    def __init__(self, layout: Layout) -> None:
        self._layout = layout
        self.home = layout.root / "owner"

    def create(self) -> None:
        """Make authority, keys, default policies and broker configuration, and the init-data for this node's pods."""
        pki = self._layout.root / "cpu/pki"
        broker.create(
            self.home,
            listen=f"127.0.0.1:{self._layout.ports.kbs}",
            simulated_roots=[("simulated-cpu", pki / "root.der", pki / "collateral.json")],
        )
        self.init_data.write_text(self._init_data())
        (self.home / SIGNING_KEY).touch(mode=0o600)
        (self.home / SIGNING_KEY).write_bytes(SigningKey.generate().write(NO_PASSWORD))

    @property
    def init_data(self) -> Path:
        """The file that the host worker hands to agents."""
        return self._layout.root / "init-data.toml"

    @property
    def ca_pem(self) -> str:
        """The owner's authority."""
        return (self.home / broker.CA_CERTIFICATE).read_text()

    def admin(self) -> AdminClient:
        """A client that may change what the broker holds; close it."""
        return AdminClient(self._layout.kbs_url, self.ca_pem, (self.home / broker.ADMIN_KEY).read_bytes())

    def admit(self, agent_bundle: Path, boot_bundle: Path) -> Admitted:
        """Register the bundles' measurements and this node's CONFIGID, and that simulated enclaves are acceptable."""
        config_id = hashlib.sha256(self.init_data.read_bytes()).digest().ljust(64, b"\0").hex()
        admitted = Admitted(
            measure_image(agent_bundle).mrenclave.hex(), measure_image(boot_bundle).mrenclave.hex(), config_id
        )
        client = self.admin()
        try:
            client.set_reference_value("sgx_mr_enclave", [admitted.agent])
            client.set_reference_value("sgx_config_id", [admitted.config_id])
            client.set_reference_value("allow_simulated", True)
            self.policies.admit_boot([admitted.boot])
            self.policies.put(client)
        finally:
            client.close()
        return admitted

    @property
    def policies(self) -> PolicyFolder:
        """The image policy and the launch policy, as files that a person may edit."""
        return PolicyFolder(self.home / "policies")

    def signing_key(self) -> SigningKey:
        """Signs this owner's images."""
        return SigningKey.read((self.home / SIGNING_KEY).read_bytes(), NO_PASSWORD)

    def publish(self, image: str, name: str, progress: Callable[[int], None] = lambda _: None) -> Published:
        """Encrypt, push, sign and admit `image` (as `enclave-cc publish` takes it) as `name` (`repository:tag`)."""
        target = parse_reference(f"{self._layout.registry_host}/{name}")
        registry = Registry(ca_pem=self._layout.ca.read_text())
        broker = self.admin()
        try:
            plain = open_image(image, registry=registry)
            publisher = Publisher(registry, broker, self.signing_key(), self.policies)
            return publisher.publish(plain, target, progress=progress)
        finally:
            broker.close()
            registry.close()

    def _init_data(self) -> str:
        inner = "\n".join(
            f"{name} = {json.dumps(value)}"
            for name, value in (
                ("kbs_url", self._layout.kbs_url),
                ("kbs_ca", self.ca_pem),
                ("image_policy", str(IMAGE_POLICY)),
                ("launch_policy", str(LAUNCH_POLICY)),
                ("registry_ca", self._layout.ca.read_text()),
            )
        )
        return f"version = \"0.1.0\"\nalgorithm = \"sha256\"\n\n[data]\n{json.dumps(MEMBER)} = '''\n{inner}\n'''\n"
