"""Plain, encrypted and mixed images on the same lowest layer, on one node: none takes another's place."""

from __future__ import annotations

import io
import itertools
import json
import time
from collections.abc import Iterator, Sequence
from contextlib import ExitStack, closing, contextmanager
from dataclasses import dataclass
from functools import partial
from pathlib import Path

import pytest

from deploy.local.cri import ContainerSpec, Kubelet, Pod
from deploy.publish.encrypt import ImageKey, LayerEncryption
from deploy.publish.push import RegistryWriter
from deploy.publish.sign import sign
from tests.e2e import images
from tests.e2e.cluster import WEB, Cluster, fetch
from tests.waiting import eventually
from workers.enclave.image.manifest import Descriptor
from workers.enclave.image.reference import Reference, parse_reference
from workers.enclave.image.registry import Registry
from workers.enclave.kbs import ResourceUri

pytestmark = pytest.mark.e2e

BASE = images.busybox()
KINDS = ("plain", "sealed", "mixed")


def page_of(kind: str) -> bytes:
    return b"plain" if kind == "sealed" else kind.encode()


def made(kind: str) -> images.Image:
    """Two layers: a shell that all have in common, and a page. What is published as `sealed` is `plain`."""
    page = images.tar({"www/index.html": page_of(kind), f"www/{kind}": b""})
    return images.image([images.plain(BASE), images.plain(page)], {"Entrypoint": list(WEB)})


@dataclass(frozen=True, slots=True)
class Node:
    """The cluster, and for each kind of image the runtime that runs it and the name that a kubelet has for it."""

    cluster: Cluster
    kubelets: dict[str, Kubelet]
    references: dict[str, str]

    def layers(self, kind: str) -> set[str]:
        """The digests of the image's encrypted layers."""
        with closing(Registry(ca_pem=self.cluster.layout.ca.read_text())) as registry:
            layers = json.loads(registry.manifest(parse_reference(self.references[kind]))[0])["layers"]
        found = {layer["digest"] for layer in layers if layer["mediaType"].endswith("+encrypted")}
        assert found
        return found

    def blobs(self) -> set[str]:
        """The digests of everything in containerd's content store."""
        store = self.cluster.layout.root / "containerd/lib/io.containerd.content.v1.content/blobs/sha256"
        return {f"sha256:{path.name}" for path in store.glob("*")}

    @property
    def unpacked(self) -> Path:
        """The folder of the snapshots' folders."""
        return self.cluster.layout.root / "snapshots/snapshots"

    def snapshots(self) -> set[str]:
        """The snapshots that have files."""
        return {path.name for path in self.unpacked.glob("*")}

    @contextmanager
    def running(self, kind: str) -> Iterator[Pod]:
        """A pod of the image, removed at the end."""
        kubelet = self.kubelets[kind]
        kubelet.pull(self.references[kind])
        pod = kubelet.run_pod(f"shares-{kind}-{time.monotonic_ns()}")
        try:
            kubelet.start_container(kubelet.create_container(pod, ContainerSpec("web", self.references[kind])))
            yield pod
        finally:
            kubelet.stop_pod(pod.id)
            kubelet.remove_pod(pod.id)


@pytest.fixture(scope="module")
def node(cluster: Cluster) -> Iterator[Node]:
    with closing(Registry(ca_pem=cluster.layout.ca.read_text())) as registry:
        push(registry, parse_reference(cluster.reference("plain:1")), made("plain"))
        cluster.owner.publish(f"docker://{cluster.reference('plain:1')}", "sealed:1")
        publish_mixed(cluster, registry, parse_reference(cluster.reference("mixed:1")))
    runc = Kubelet(cluster.layout.containerd, handler="runc", log_directory=cluster.layout.logs / "pods")
    with closing(runc):
        kubelets = {"plain": runc, "sealed": cluster.kubelet, "mixed": cluster.kubelet}
        node = Node(cluster, kubelets, {kind: cluster.reference(f"{kind}:1") for kind in KINDS})
        with node.running("plain"):  # containerd has the sandbox's own image from here on
            runc.remove_image(node.references["plain"])
        yield node


def push(registry: Registry, target: Reference, image: images.Image) -> None:
    writer = RegistryWriter(registry.transport, target)
    for blob in image.blobs.values():
        writer.put_blob(blob)
    writer.put_manifest(image.manifest, target.tag or "")


def publish_mixed(cluster: Cluster, registry: Registry, target: Reference) -> None:
    """As other tools publish (`skopeo copy --encrypt-layer 1`): the base as it is, the page encrypted."""
    image = made("mixed")
    document = json.loads(image.manifest)
    page = document["layers"][1]
    key = ImageKey.generate("kbs:///default/image-key/mixed-1")
    cipher = LayerEncryption(Descriptor(page["mediaType"], page["digest"], page["size"]), key)
    sealed = b"".join(cipher.ciphertext(io.BytesIO(image.blobs[page["digest"]])))
    blobs = {digest: blob for digest, blob in image.blobs.items() if digest != page["digest"]}
    descriptor = cipher.descriptor()
    page |= {"mediaType": descriptor.media_type, "digest": descriptor.digest}
    page["annotations"] = dict(descriptor.annotations)
    encrypted = images.Image(json.dumps(document).encode(), blobs | {descriptor.digest: sealed})
    push(registry, target, encrypted)
    writer = RegistryWriter(registry.transport, target)
    sign(target, encrypted.digest, registry, writer, cluster.owner.signing_key())
    cluster.owner.policies.admit(target.repository, cluster.owner.signing_key().public_pem(), unencrypted=True)
    with closing(cluster.owner.admin()) as broker:
        broker.put_resource(ResourceUri.parse(key.kid), key.key)
        cluster.owner.policies.put(broker)


@pytest.mark.parametrize("order", list(itertools.permutations(KINDS)), ids="-".join)
def test_pulled_in_any_order_all_run_side_by_side_and_leave_nothing(node: Node, order: Sequence[str]) -> None:
    blobs, snapshots = node.blobs(), node.snapshots()
    for kind in order:
        node.kubelets[kind].pull(node.references[kind])
    assert not node.layers("sealed") & node.blobs()
    with ExitStack() as running:
        pods = [running.enter_context(node.running(kind)) for kind in order]
        for kind, pod in zip(order, pods, strict=True):
            address = f"http://{node.kubelets[kind].pod_status(pod).ip}:8080/"
            assert eventually(partial(fetch, address)) == page_of(kind)
    for kind in order:
        node.kubelets[kind].remove_image(node.references[kind])
    node.cluster.collect_garbage()
    eventually(lambda: node.blobs() <= blobs and node.snapshots() <= snapshots)


def test_of_a_mixed_image_the_host_never_unpacks_what_was_encrypted(node: Node) -> None:
    """On a node that has the base, it does not fetch it either."""
    node.kubelets["plain"].pull(node.references["plain"])
    node.kubelets["mixed"].pull(node.references["mixed"])
    try:
        assert not node.layers("mixed") & node.blobs()
        assert not list(node.unpacked.glob("*/fs/www/mixed"))
    finally:
        for kind in ("plain", "mixed"):
            node.kubelets[kind].remove_image(node.references[kind])
