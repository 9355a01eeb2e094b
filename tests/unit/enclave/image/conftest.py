"""What the tests of pulling share: a registry that misbehaves on demand, an owner's keys and policy, a key broker."""

from __future__ import annotations

import json
import os
from collections.abc import Iterator
from dataclasses import dataclass, field

import pytest
from cryptography.hazmat.primitives.asymmetric import ec

from orchestrator.faults import Code, Permanent
from tests.simulators import oci
from tests.simulators.wayward_registry import WaywardRegistry
from workers.enclave.image.policy import ImagePolicy
from workers.enclave.image.pull import ImagePlan, resolve
from workers.enclave.image.registry import Registry

KID = "kbs:///default/image-key/app"


@pytest.fixture
def wayward() -> Iterator[WaywardRegistry]:
    with WaywardRegistry() as running:
        yield running


@pytest.fixture
def registry() -> Iterator[Registry]:
    made = Registry(plain_http_loopback=True)
    yield made
    made.close()


@dataclass
class Broker:
    """The owner's resources, and what was asked for."""

    resources: dict[str, bytes] = field(default_factory=dict)
    asked: list[str] = field(default_factory=list)

    def get(self, uri: str) -> bytes:
        self.asked.append(uri)
        if uri not in self.resources:
            raise Permanent(Code.KEY_UNKNOWN, f"there is no {uri}")
        return self.resources[uri]


@dataclass
class Owner:
    """An image's owner: signs, encrypts, publishes to `wayward`, and says what is admitted."""

    wayward: WaywardRegistry
    registry: Registry
    key: ec.EllipticCurvePrivateKey = field(default_factory=lambda: ec.generate_private_key(ec.SECP256R1()))
    kek: bytes = field(default_factory=lambda: os.urandom(32))
    broker: Broker = field(default_factory=Broker)
    extension: dict[str, object] = field(default_factory=dict)

    def __post_init__(self) -> None:
        self.broker.resources[KID] = self.kek

    @property
    def repository(self) -> str:
        return f"{self.wayward.address}/shop/app"

    def policy(self, *requirements: dict[str, object]) -> ImagePolicy:
        wanted = list(requirements) or [{"type": "sigstoreSigned", "keyData": oci.public_pem(self.key)}]
        return ImagePolicy.parse(
            json.dumps(
                {
                    "default": [{"type": "reject"}],
                    "transports": {"docker": {self.repository: wanted}},
                    "enclave-cc": self.extension,
                }
            ).encode()
        )

    def encrypt(self, plain: oci.OciImage) -> oci.OciImage:
        return oci.encrypted(plain, self.kek, KID)

    def publish(self, image: oci.OciImage, *, sign: bool = True, more: oci.OciImage | None = None) -> str:
        if sign:
            self.sign(image.digest)
        return self.wayward.put("shop/app", image, "v1", more=more)

    def sign(self, digest: str, *, payload: bytes | None = None, key: oci.SigningKey | None = None) -> None:
        body = payload or oci.payload(self.repository, digest)
        self.put_signatures(digest, oci.signatures((body, oci.sign(body, key or self.key))))

    def put_signatures(self, digest: str, signatures: oci.OciImage) -> None:
        self.wayward.put("shop/app", signatures, digest.replace(":", "-") + ".sig")

    def resolve(self, reference: str, *requirements: dict[str, object]) -> ImagePlan:
        return resolve(reference, self.registry, self.policy(*requirements), self.broker.get)


@pytest.fixture
def owner(wayward: WaywardRegistry, registry: Registry) -> Owner:
    return Owner(wayward, registry)


@pytest.fixture
def app() -> oci.OciImage:
    """Two layers, the second of them not a multiple of anything."""
    return oci.image([oci.tar({"bin/app": os.urandom(300_000)}), oci.tar({"etc/motd": b"hello\n" * 1000})])
