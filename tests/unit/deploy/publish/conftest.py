"""What the tests of publishing share: a real registry over TLS, a broker that keeps what it gets, a signing key."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass, field
from pathlib import Path

import pytest

from deploy.publish.cosign_key import SigningKey
from deploy.publish.policies import PolicyFolder
from deploy.publish.publication import Publisher
from orchestrator.faults import Code, Permanent, Temporary
from tests.simulators.docker_registry import DockerRegistry
from workers.enclave.image.policy import ImagePolicy
from workers.enclave.image.pull import ImagePlan, resolve
from workers.enclave.image.reference import Reference, parse_reference
from workers.enclave.image.registry import Registry
from workers.enclave.kbs import ResourceUri


@pytest.fixture(scope="session")
def docker_registry(tmp_path_factory: pytest.TempPathFactory) -> Iterator[DockerRegistry]:
    with DockerRegistry(tmp_path_factory.mktemp("registry")) as running:
        yield running


@pytest.fixture
def registry(docker_registry: DockerRegistry) -> Iterator[Registry]:
    made = Registry(ca_pem=docker_registry.ca_pem)
    yield made
    made.close()


@dataclass
class Shelf:
    """A broker reduced to what publishing asks of it."""

    resources: dict[str, bytes] = field(default_factory=dict)
    away: bool = False

    def put_resource(self, uri: ResourceUri, content: bytes) -> None:
        if self.away:
            raise Temporary(Code.KEY_KBS_AWAY, "the broker is away")
        self.resources[str(uri)] = content

    def delete_resource(self, uri: ResourceUri) -> None:
        del self.resources[str(uri)]

    def get(self, uri: str) -> bytes:
        if uri not in self.resources:
            raise Permanent(Code.KEY_UNKNOWN, f"there is no {uri}")
        return self.resources[uri]

    @property
    def keys(self) -> list[str]:
        return [uri for uri in self.resources if "/image-key/" in uri]


@dataclass
class Owner:
    """A publisher, and the enclave's view of what it published."""

    publisher: Publisher
    shelf: Shelf
    address: str
    name: str

    @property
    def target(self) -> Reference:
        return parse_reference(f"{self.address}/{self.name}:v1")

    def pull(self, reference: Reference | None = None) -> ImagePlan:
        policy = ImagePolicy.parse(self.shelf.get("kbs:///default/security-policy/image"))
        return resolve(str(reference or self.target), self.publisher.registry, policy, self.shelf.get)


@pytest.fixture
def owner(docker_registry: DockerRegistry, registry: Registry, tmp_path: Path) -> Owner:
    shelf = Shelf()
    publisher = Publisher(registry, shelf, SigningKey.generate(), PolicyFolder(tmp_path / "policies"))
    return Owner(
        publisher, shelf, docker_registry.address, f"shop/{tmp_path.name.replace('_', '-').lower().strip('-')}x"
    )


def tars(plan: ImagePlan) -> list[bytes]:
    """What the enclave reads of each layer of the source: those above the one of random bytes."""
    read = []
    for reader in plan.layers():
        read.append(reader.read())
        reader.verify()
    return read[1:]
