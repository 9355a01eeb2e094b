"""The snapshotter under an unmodified containerd: plain images run, encrypted ones are never pulled by the host."""

from __future__ import annotations

import json
import time
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path

import pytest

from deploy.local.cri import ContainerSpec, ContainerState
from orchestrator.faults import Permanent
from tests.e2e.containerd import Containerd, Settings
from tests.e2e.images import ENCRYPTED_LAYER, Image, Layer, busybox, digest, image, plain, tar
from tests.e2e.registry import Registry

pytestmark = pytest.mark.e2e


@pytest.fixture(scope="module")
def registry(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Registry]:
    with Registry(tmp_path_factory.mktemp("registry")) as running:
        yield running


@pytest.fixture
def containerd(registry: Registry) -> Iterator[Containerd]:
    with Containerd(Settings(registry=registry.address, registry_ca=registry.ca)) as running:
        yield running


def encrypted(seed: str, plaintext: bytes) -> Layer:
    """Bytes that only their media type says anything of: nobody here can decrypt them, nobody may try."""
    return Layer(ENCRYPTED_LAYER, f"ciphertext {seed} ".encode() * 4096, digest(plaintext))


def confidential(seed: str) -> Image:
    layers = [encrypted(f"{seed} {number}", f"{seed} plain {number}".encode()) for number in range(3)]
    return image(layers, {"Entrypoint": ["/bin/redis"]})


@dataclass(frozen=True, slots=True)
class Kept:
    """What containerd keeps at one moment: blobs, and snapshots of our snapshotter."""

    blobs: set[str]
    snapshots: set[str]

    @staticmethod
    def by(containerd: Containerd) -> Kept:
        return Kept(containerd.blobs(), set(containerd.snapshots()))

    def nothing_more(self, before: Kept) -> bool:
        """Less is fine: what an import leased is collected some time later."""
        return self.blobs <= before.blobs and self.snapshots <= before.snapshots


def unpacked(containerd: Containerd) -> list[Path]:
    """The directories of snapshots that have any."""
    return list((containerd.root / "snapshots/snapshots").iterdir())


def run(containerd: Containerd, reference: str, *command: str) -> tuple[int, str]:
    """Run a container to its end under runc; its exit code and output."""
    pod = containerd.cri.run_pod(f"pod-{time.monotonic_ns()}")
    container = containerd.cri.create_container(pod, ContainerSpec("main", reference, command))
    containerd.cri.start_container(container)
    while (status := containerd.cri.container_status(container)).state is not ContainerState.EXITED:
        time.sleep(0.05)
    output = status.log.read_text()
    containerd.cri.stop_pod(pod.id)
    containerd.cri.remove_pod(pod.id)
    return status.exit_code, output


def test_a_plain_image_runs_from_overlayfs_layers(containerd: Containerd, registry: Registry) -> None:
    before = Kept.by(containerd)
    layers = [plain(busybox()), plain(tar({"motd": b"from the second layer\n"}))]
    reference = registry.push("plain", "1", image(layers, {"Entrypoint": ["/bin/cat", "/motd"]}))
    containerd.cri.pull(reference)
    assert len(Kept.by(containerd).snapshots - before.snapshots) == 2
    code, output = run(containerd, reference)
    assert (code, output.split()[-4:]) == (0, ["from", "the", "second", "layer"])
    containerd.cri.remove_image(reference)
    assert Kept.by(containerd).nothing_more(before)
    assert len(unpacked(containerd)) == len(before.snapshots)


def test_of_an_encrypted_image_the_host_fetches_manifest_and_configuration_only(
    containerd: Containerd, registry: Registry
) -> None:
    before = Kept.by(containerd)
    made = confidential("secret")
    reference = registry.push("secret", "1", made)
    containerd.cri.pull(reference)
    pulled = Kept.by(containerd)
    config = next(name for name, blob in made.blobs.items() if b"rootfs" in blob)
    assert pulled.blobs - before.blobs == {made.digest, config}
    assert len(pulled.snapshots - before.snapshots) == 3
    assert f"GET /v2/secret/blobs/{config}" in registry.requests()
    assert not [name for name in made.blobs if name != config and f"GET /v2/secret/blobs/{name}" in registry.requests()]
    containerd.cri.remove_image(reference)
    assert Kept.by(containerd).nothing_more(before)


def test_layers_below_the_first_encrypted_one_are_unpacked_and_those_above_are_not(
    containerd: Containerd, registry: Registry
) -> None:
    before, folders = Kept.by(containerd), set(unpacked(containerd))
    layers = [plain(busybox()), encrypted("mixed", b"mixed"), plain(tar({"above": b"1"}))]
    reference = registry.push("mixed", "1", image(layers, {"Entrypoint": ["/bin/sh"]}))
    containerd.cri.pull(reference)
    assert len(Kept.by(containerd).snapshots - before.snapshots) == 3
    (base,) = set(unpacked(containerd)) - folders
    assert (base / "fs/bin/busybox").is_file()
    containerd.cri.remove_image(reference)
    assert Kept.by(containerd).nothing_more(before)


def test_runc_is_never_given_half_of_an_encrypted_image(containerd: Containerd, registry: Registry) -> None:
    made = image([plain(busybox()), encrypted("half", b"half")], {"Entrypoint": ["/bin/sh", "-c", "echo half"]})
    reference = registry.push("half", "1", made)
    containerd.cri.pull(reference)
    with pytest.raises(Permanent) as refused:
        run(containerd, reference)
    assert "no such file or directory" in str(refused.value)


def test_a_killed_snapshotter_comes_back_with_everything_it_had(containerd: Containerd, registry: Registry) -> None:
    before = Kept.by(containerd)
    base = image([plain(busybox())], {"Entrypoint": ["/bin/echo", "still here"]})
    secret, ordinary = registry.push("durable", "1", confidential("durable")), registry.push("ordinary", "1", base)
    containerd.cri.pull(secret)
    containerd.cri.pull(ordinary)
    pulled = Kept.by(containerd)
    containerd.kill_snapshotter()
    containerd.start_snapshotter()
    assert Kept.by(containerd).nothing_more(pulled)
    assert Kept.by(containerd).snapshots == pulled.snapshots
    code, output = run(containerd, ordinary)
    assert (code, "still here" in output) == (0, True)
    containerd.cri.remove_image(secret)
    containerd.cri.remove_image(ordinary)
    assert Kept.by(containerd).nothing_more(before)


def test_an_encrypted_image_can_be_pulled_again_after_removal(containerd: Containerd, registry: Registry) -> None:
    before = Kept.by(containerd)
    reference = registry.push("again", "1", confidential("again"))
    for _ in range(3):
        containerd.cri.pull(reference)
        assert len(Kept.by(containerd).snapshots - before.snapshots) == 3
        containerd.cri.remove_image(reference)
        assert Kept.by(containerd).nothing_more(before)


@pytest.mark.parametrize("user", ["redis", "redis:cache", "1001", "1001:1002", ""])
def test_a_container_of_an_encrypted_image_can_be_created_whatever_user_it_names(
    containerd: Containerd, registry: Registry, user: str
) -> None:
    layer = encrypted(f"user {user}", f"user {user}".encode())
    made = image([layer], {"Entrypoint": ["/bin/redis"], "User": user})
    reference = registry.push("user", user.replace(":", "-") or "none", made)
    containerd.cri.pull(reference)
    pod = containerd.cri.run_pod("user")
    container = containerd.cri.create_container(pod, ContainerSpec("main", reference))
    described = json.loads(containerd.ctr("containers", "info", container))["Spec"]["process"]["user"]
    number = 1001 if user.startswith("1001") else 65534 if user else 0
    assert described["uid"] == number
