"""decrypt_image: an image becomes a store that nobody can open yet, or a fault that says nothing that was read."""

from __future__ import annotations

import asyncio
import io
import json
import os
import threading
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field, replace
from pathlib import Path

import pytest
from cryptography.hazmat.primitives.asymmetric import ec

from orchestrator.events import ImageDecrypted
from orchestrator.faults import Code, Diagnosis, Permanent, Temporary
from orchestrator.launch import Container, Launch, Progress, new
from orchestrator.lifecycle import State
from tests.network import Network, in_network
from tests.simulators import history, oci
from tests.simulators.wayward_registry import WaywardRegistry
from tests.unit.enclave.pods import POD, POLICY_URI, STRANGER, AgentPod, command, launch_policy
from tests.waiting import eventually
from workers.enclave.decrypt_image import DecryptImage
from workers.enclave.image.layers import LayerReader, open_layer
from workers.enclave.image.manifest import Descriptor
from workers.enclave.image.ocicrypt import unwrap_layer_key
from workers.enclave.image.registry import Registry
from workers.enclave.image_source import ImageSource
from workers.enclave.kbs import AttestationResult, KbsClient, ResourceUri
from workers.enclave.policy_cache import LaunchPolicies
from workers.enclave.prefetch import prefetch
from workers.enclave.rootfs.sealing import SealingWriter
from workers.enclave.rootfs.tar import CHUNK
from workers.enclave.sealed_images import SealedImages, seal

KEK, KID = bytes(range(32)), "kbs:///default/image-key/app"
MEDIA = oci.TAR + "+encrypted"
SECRET = b"password"
BLOCK = 512


def encrypted(tar: bytes, altered: bytes | None = None) -> LayerReader:
    """A layer; with `altered`, as it is after somebody without its key has turned bits of the ciphertext over."""
    ciphertext, annotations = oci.encrypted_layer(tar, KEK, KID)
    descriptor = Descriptor(MEDIA, oci.digest(ciphertext), len(ciphertext), annotations)
    key = unwrap_layer_key(descriptor, lambda _: KEK)
    difference = bytes(a ^ b for a, b in zip(tar, altered or tar, strict=True))
    served = bytes(a ^ b for a, b in zip(ciphertext, difference, strict=True))
    return open_layer(io.BytesIO(served), descriptor, diff_id=oci.digest(tar), key=key, most_bytes=1 << 30)


def told(layer: LayerReader, folder: Path) -> Diagnosis:
    with SealingWriter(folder / "store") as writer, pytest.raises(Permanent) as raised:
        seal(layer, writer)
    assert list(folder.iterdir()) == []
    return raised.value.diagnosis


def emptied(tar: bytes) -> bytes:
    """The first entry said to be empty: the reader takes its content for the next header."""
    header = bytearray(tar[:BLOCK])
    header[124:136] = b"%011o\0" % 0
    header[148:156] = b" " * 8
    header[148:156] = b"%06o\0 " % sum(header)
    return bytes(header) + tar[BLOCK:]


def test_turning_bits_of_the_ciphertext_over_makes_the_enclave_quote_nothing(tmp_path: Path) -> None:
    # Where a header has its checksum, the content has a secret; and the layer is longer than the reader reads ahead.
    content = os.urandom(148) + SECRET + os.urandom(3 * CHUNK)
    tar = oci.tar({"known-name": content})
    diagnosis = told(encrypted(tar, emptied(tar)), tmp_path)
    assert diagnosis.code is Code.IMAGE_ALTERED
    assert "check 2" in diagnosis.message
    assert SECRET.decode() not in diagnosis.text()


def test_a_layer_that_its_owner_made_wrong_is_told_without_the_names_in_it(tmp_path: Path) -> None:
    diagnosis = told(encrypted(oci.tar({"../secret-name": b""})), tmp_path)
    assert diagnosis.code is Code.IMAGE_MALFORMED
    assert diagnosis.message == "a name in a layer climbs out of its directory"
    assert diagnosis.expected == "no '..'"
    assert "secret-name" not in diagnosis.text()


def test_a_good_layer_is_sealed(tmp_path: Path) -> None:
    with SealingWriter(tmp_path / "store") as writer:
        seal(encrypted(oci.tar({"a": b"content"})), writer)
        assert writer.finish().files == 2


# --- the step ---------------------------------------------------------------------------------------------------------

POLICY = "kbs:///default/security-policy/image"


class CountingKbs(KbsClient):
    """A client of the real broker that knows what it was asked."""

    attestations = 0
    keys = 0

    def attest(self) -> AttestationResult:
        self.attestations += 1
        return super().attest()

    def get_resource(self, uri: ResourceUri) -> bytes:
        self.keys += str(uri) == KID
        return super().get_resource(uri)


@dataclass
class Stage:
    """An owner's image in a registry, its policy and its key at the broker."""

    pod: AgentPod
    registry: WaywardRegistry
    key: ec.EllipticCurvePrivateKey = field(default_factory=lambda: ec.generate_private_key(ec.SECP256R1()))

    def __post_init__(self) -> None:
        self.repository = f"{self.registry.address}/shop/app"
        requirement = {"type": "sigstoreSigned", "keyData": oci.public_pem(self.key)}
        transports = {"docker": {self.repository: [requirement]}}
        policy = {"default": [{"type": "reject"}], "transports": transports, "enclave-cc": {}}
        self.pod.put(POLICY, json.dumps(policy).encode())
        self.pod.put(KID, KEK)
        self.image = oci.encrypted(oci.image([oci.tar({"bin/app": os.urandom(200_000)})]), KEK, KID)
        self.reference = self.registry.put("shop/app", self.image, "v1")
        body = oci.payload(self.repository, self.image.digest)
        signatures = oci.signatures((body, oci.sign(body, self.key)))
        self.registry.put("shop/app", signatures, self.image.digest.replace(":", "-") + ".sig")
        self.kbs = CountingKbs(self.pod.broker.url, self.pod.broker.ca_pem, self.pod.tee, None, None)
        self.policies = LaunchPolicies(self.kbs, POLICY_URI, debug=False)
        self.pod.stores.mkdir()
        self.images = SealedImages(self.pod.stores)

    @property
    def step(self) -> DecryptImage:
        source = ImageSource(self.kbs, Registry(plain_http_loopback=True), POLICY)
        return DecryptImage(source, self.policies, self.images, self.pod.works)

    def launch(self, *ids: str, state: State = State.REQUESTED) -> Launch:
        requested = replace(history.container_requested(), image=self.reference)
        containers = {id_: Container(id_, Progress(state), requested) for id_ in ids}
        return replace(new(POD), containers=containers)

    @property
    def layer(self) -> str:
        """The digest of the image's first layer."""
        return str(self.image.document["layers"][0]["digest"])

    async def decrypt(self, container: str = "c", attempt: int = 1) -> ImageDecrypted:
        return await self.step(command("decrypt_image", container, attempt), self.launch("c", container))

    def files(self) -> set[str]:
        return {path.name for path in self.pod.stores.iterdir()}


@contextmanager
def stage(pod: AgentPod) -> Iterator[Stage]:
    with WaywardRegistry() as registry:
        made = Stage(pod, registry)
        yield made
        made.kbs.close()


@in_network
async def test_an_admitted_image_is_in_a_store_that_waits_for_its_last_tag(pod: AgentPod, network: Network) -> None:
    with stage(pod) as s:
        fact = await s.decrypt()
        assert fact.manifest_digest == s.image.digest
        assert fact.reference.startswith(s.repository)
        assert (fact.key_ids, fact.nanoseconds > 0) == ((KID,), True)
        assert fact.bytes == sum(layer["size"] for layer in s.image.document["layers"])
        assert KEK.hex() not in repr(fact)
        work = pod.works.get("c")
        assert work is not None
        assert (work.sealed, work.delivered) == (None, False)
        assert s.files() == {"image.1.partial"}
        assert work.image.given_as(pod.stores / "c.1").files == 3
        assert s.files() == {"image.1", "c.1"}


@in_network
async def test_an_image_that_nobody_signed_costs_no_key(pod: AgentPod, network: Network) -> None:
    with stage(pod) as s:
        unsigned = oci.encrypted(oci.image([oci.tar({"bin/app": b"other"})]), KEK, KID)
        s.reference = s.registry.put("shop/app", unsigned, "v2")
        with pytest.raises(Permanent) as raised:
            await s.decrypt()
        assert raised.value.code is Code.SIGNATURE_MISSING
        assert s.kbs.keys == 0
        assert s.files() == set()
        assert pod.works.get("c") is None


@in_network
async def test_a_failed_attempt_leaves_nothing_and_the_next_one_succeeds(pod: AgentPod, network: Network) -> None:
    with stage(pod) as s:
        layer = s.image.document["layers"][0]["digest"]
        s.registry.faults.altered[layer] = s.image.blobs[layer][:-1] + b"?"
        with pytest.raises(Permanent) as raised:
            await s.decrypt(attempt=1)
        assert raised.value.code is Code.IMAGE_ALTERED
        assert s.files() == set()
        s.registry.faults.altered.clear()
        await s.decrypt(attempt=2)
        assert s.files() == {"image.2.partial"}


@in_network
async def test_an_image_whose_container_gave_up_is_gone_on_with_and_the_next_one_finds_it(
    pod: AgentPod, network: Network
) -> None:
    with stage(pod) as s:
        s.registry.faults.held[s.layer] = threading.Event()
        first = asyncio.create_task(s.decrypt("first"))
        await asyncio.to_thread(eventually, lambda: s.files() == {"image.1.partial"})
        first.cancel()
        with pytest.raises(asyncio.CancelledError):
            await asyncio.wait_for(first, 30)
        assert pod.works.get("first") is None
        second = asyncio.create_task(s.decrypt("second"))
        s.registry.faults.held[s.layer].set()
        assert (await second).bytes == 0
        assert s.files() == {"image.1.partial"}


@in_network
async def test_containers_that_ask_at_once_have_the_image_read_once(pod: AgentPod, network: Network) -> None:
    with stage(pod) as s:
        facts = await asyncio.gather(*(s.decrypt(name) for name in ("a", "b", "c")))
        assert sorted(fact.bytes for fact in facts)[:2] == [0, 0]
        assert sum(fact.bytes for fact in facts) == sum(layer["size"] for layer in s.image.document["layers"])
        assert len({fact.manifest_digest for fact in facts}) == 1
        assert s.files() == {"image.1.partial"}
        works = [pod.works.get(name) for name in ("a", "b", "c")]
        assert len({id(work.image) for work in works if work}) == 1


@in_network
async def test_a_pod_that_has_the_image_asks_the_owner_again(pod: AgentPod, network: Network) -> None:
    with stage(pod) as s:
        await s.decrypt("before")
        with pod.admin() as owner:
            owner.delete_resource(ResourceUri.parse(KID))
        with pytest.raises(Permanent) as raised:
            await s.decrypt("after")
        assert raised.value.code is Code.KEY_UNKNOWN


@in_network
async def test_an_image_that_could_not_be_finished_is_read_again(pod: AgentPod, network: Network) -> None:
    with stage(pod) as s:
        await s.decrypt("before")
        work = pod.works.get("before")
        assert work is not None
        work.image.wipe()
        assert (await s.decrypt("after")).bytes > 0
        assert s.files() == {"image.2.partial"}


@in_network
async def test_what_is_prefetched_is_there_when_a_container_wants_it(pod: AgentPod, network: Network) -> None:
    with stage(pod) as s:
        source = ImageSource(s.kbs, Registry(plain_http_loopback=True), POLICY)
        await prefetch([f"{s.repository}:absent", "no reference:", s.reference], source, s.images)
        assert s.files() == {"image.1.partial"}
        assert (await s.decrypt()).bytes == 0


@in_network
async def test_a_broker_that_is_away_is_worth_another_attempt(pod: AgentPod, network: Network) -> None:
    with stage(pod) as s:
        s.kbs = CountingKbs("https://127.0.0.1:1", pod.broker.ca_pem, pod.tee, None, None)
        with pytest.raises(Temporary):
            await s.decrypt()
        assert s.files() == set()


@in_network
async def test_a_resumed_container_is_judged_by_what_the_owner_says_now(pod: AgentPod, network: Network) -> None:
    with stage(pod) as s:
        pod.put(POLICY_URI, launch_policy())
        await s.decrypt(attempt=1)
        before, asked = await s.policies.get(), s.kbs.attestations
        pod.put(POLICY_URI, launch_policy(measurement=STRANGER))
        launch = s.launch("c")
        resumed = replace(launch.containers["c"], progress=Progress(attempt=2, first=2))
        for _ in range(2):
            fact = await s.step(command("decrypt_image", "c", 2), replace(launch, containers={"c": resumed}))
        assert s.kbs.attestations == asked + 2
        assert await s.policies.get() != before
        assert s.files() == {"image.1.partial", "image.2.partial"}, "what failed is not used, what is new is kept"
        assert fact.bytes == 0
