"""Ways in which the world around a launch can be other than it should. Each undoes itself.

An alteration is a context manager over a `World`; within it the world is altered. It yields what a true diagnosis of
it says was expected and was got, because only who alters knows.
"""

from __future__ import annotations

import hashlib
import os
import shutil
import signal
from collections.abc import Callable, Iterator
from concurrent.futures import ThreadPoolExecutor
from contextlib import AbstractContextManager, closing, contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import TypeAlias

from deploy.kbs.owner import default_policy
from deploy.kbs.state import RESOURCES, PolicyId
from deploy.local.demo.tampering import blob_path, flipped_byte, top_layer
from deploy.publish.cosign_key import SigningKey
from deploy.publish.publication import Published
from deploy.publish.push import RegistryWriter
from deploy.publish.sign import sign
from tests.e2e.cluster import Cluster
from tests.e2e.forgeries import Forgery
from tests.simulators.lying_kbs import Lie, LyingKbs
from workers.enclave.image.registry import Registry
from workers.enclave.image.signature import signature_tag
from workers.enclave.kbs import ResourceUri

NOBODY = "00" * 32
"""The measurement of no enclave."""

DENY_IMAGE_KEYS = """
package policy
import rego.v1
default allow := false
allow if data["resource-path"][1] != "image-key"
"""


@dataclass(frozen=True, slots=True)
class Told:
    """What stands in the diagnosis: a piece of its `expected`, and one of its `got`."""

    expected: str
    got: str


@dataclass(frozen=True, slots=True)
class World:
    """A cluster, the image that every case launches, and a key broker that lies when it is told to.

    `reference` is what a kubelet asks for. The liar's init-data is admitted by the owner and its address reachable for
    agents; none is started with it yet.
    """

    cluster: Cluster
    image: Published
    reference: str
    liar: LyingKbs
    liars_init_data: str

    @property
    def digest(self) -> str:
        """Of the image's manifest."""
        return self.image.reference.digest or ""

    @property
    def key(self) -> ResourceUri:
        """The name of the key that opens the image's layers."""
        return ResourceUri.parse(self.image.kids[0])

    def key_material(self) -> bytes:
        """That key, from the owner's own disk: a broker gives nothing back to an administrator."""
        key = self.key
        return (self.cluster.owner.home / "state" / RESOURCES / key.repository / key.type / key.tag).read_bytes()


Alteration: TypeAlias = Callable[[World], AbstractContextManager[Told]]


# --- the registry, its files, and what lies beside the image ----------------------------------------------------------


@contextmanager
def layer_byte_flipped(world: World) -> Iterator[Told]:
    """One bit in the middle of the highest layer."""
    digest = top_layer(world.cluster.layout, world.digest)
    path = blob_path(world.cluster.layout, digest)
    with flipped_byte(path):
        yield Told(digest, f"sha256:{hashlib.sha256(path.read_bytes()).hexdigest()}")


@contextmanager
def layer_truncated(world: World) -> Iterator[Told]:
    """The second half of the highest layer is missing."""
    path = blob_path(world.cluster.layout, top_layer(world.cluster.layout, world.digest))
    whole = path.read_bytes()
    os.truncate(path, len(whole) // 2)
    try:
        yield Told(f"{len(whole)} bytes", f"{len(whole) // 2} bytes")
    finally:
        path.write_bytes(whole)


@contextmanager
def unsigned(world: World) -> Iterator[Told]:
    """The tag that leads to the image's signatures is gone."""
    tag = signature_tag(world.digest)
    path = world.image.reference.path
    tags = world.cluster.layout.root / f"registry/docker/registry/v2/repositories/{path}/_manifests/tags"
    aside = tags.parent / "aside"
    (tags / tag).rename(aside)
    try:
        yield Told(tag, "none")
    finally:
        shutil.rmtree(tags / tag, ignore_errors=True)
        aside.rename(tags / tag)


@contextmanager
def signed_by_a_stranger(world: World) -> Iterator[Told]:
    """The only signature is a perfect one, under a key that the policy does not name."""
    with unsigned(world), closing(Registry(ca_pem=world.cluster.layout.ca.read_text())) as registry:
        writer = RegistryWriter(registry.transport, world.image.reference)
        sign(world.image.reference, world.digest, registry, writer, SigningKey.generate())
        yield Told(world.cluster.owner.signing_key().public().fingerprint, "another signer")


def stopped(program: str, told: Told) -> Alteration:
    """One server of the stack does not run."""

    @contextmanager
    def alteration(world: World) -> Iterator[Told]:
        world.cluster.stop(program)
        try:
            yield told
        finally:
            world.cluster.start(program)

    return alteration


# --- the owner's word, and the broker that keeps it -------------------------------------------------------------------


@contextmanager
def key_removed(world: World) -> Iterator[Told]:
    """The broker has no key of the image's name."""
    material = world.key_material()
    with closing(world.cluster.owner.admin()) as owner:
        owner.delete_resource(world.key)
        try:
            yield Told("a registered resource", str(world.key))
        finally:
            owner.put_resource(world.key, material)


@contextmanager
def image_keys_denied(world: World) -> Iterator[Told]:
    """The owner's resource policy gives policies, but no image's key, to anybody."""
    with closing(world.cluster.owner.admin()) as owner:
        owner.set_policy(PolicyId.RESOURCE, DENY_IMAGE_KEYS)
        try:
            yield Told("a policy that allows it", "PolicyDeny")
        finally:
            owner.set_policy(PolicyId.RESOURCE, default_policy(PolicyId.RESOURCE).decode())


@contextmanager
def measurement_unlisted(world: World) -> Iterator[Told]:
    """The owner lists another agent than the one that this node starts."""
    with closing(world.cluster.owner.admin()) as owner:
        listed = owner.reference_value("sgx_mr_enclave")
        assert isinstance(listed, list)
        owner.set_reference_value("sgx_mr_enclave", [NOBODY])
        try:
            yield Told("sgx_mr_enclave", str(listed[0]))
        finally:
            owner.set_reference_value("sgx_mr_enclave", listed)


def broker_lies(lie: Lie, told: Told) -> Alteration:
    """The node's pods are led to a broker that was taken over."""

    @contextmanager
    def alteration(world: World) -> Iterator[Told]:
        world.liar.lie = lie
        with rewritten(world.cluster.owner.init_data, lambda _: world.liars_init_data):
            yield told

    return alteration


# --- the node ---------------------------------------------------------------------------------------------------------


@contextmanager
def debug_enclaves(world: World) -> Iterator[Told]:
    """The host starts its enclaves with the attribute DEBUG: it could read their memory."""
    with node_configured(world.cluster, lambda text: text + "debug = true\n"):
        yield Told("attribute DEBUG is clear", "[debug]")


@contextmanager
def node_configured(cluster: Cluster, change: Callable[[str], str]) -> Iterator[None]:
    """`node.toml`, whose last table is `[enclave]`, is other than it was; the worker reads it anew."""
    with rewritten(cluster.layout.node_config, change):
        cluster.restart("worker")
        yield
    cluster.restart("worker")


@contextmanager
def rewritten(path: Path, change: Callable[[str], str]) -> Iterator[None]:
    """A text file is other than it was."""
    before = path.read_text()
    path.write_text(change(before))
    try:
        yield
    finally:
        path.write_text(before)


def only_asked_for(told: Told) -> Alteration:
    """Nothing is altered: what is wrong is what the kubelet asks for."""

    @contextmanager
    def alteration(_world: World) -> Iterator[Told]:
        yield told

    return alteration


def forged(forgery: Forgery, held: str) -> Alteration:
    """The host states a fact for the enclave, while the step that it pre-empts hangs on a `held` server."""

    @contextmanager
    def alteration(world: World) -> Iterator[Told]:
        pid = world.cluster.pid(held)
        os.kill(pid, signal.SIGSTOP)
        try:
            with ThreadPoolExecutor(1) as host:
                stated = host.submit(forgery, world.cluster)
                yield Told("signed by the event key that this launch's quote binds", "the enclave did not state")
                stated.result()
        finally:
            os.kill(pid, signal.SIGCONT)

    return alteration
