"""Images between us and the tools people have: skopeo copies and inspects, umoci builds, docker-registry stores.

And once all the way: published with the owner's real broker, whose key only an attested enclave gets.
"""

from __future__ import annotations

import json
import subprocess
from collections.abc import Iterator
from pathlib import Path

import pytest

from deploy.publish.cosign_key import SigningKey
from deploy.publish.policies import PolicyFolder
from deploy.publish.publication import Published, Publisher
from deploy.publish.source import open_image
from orchestrator.faults import Code, Permanent, Temporary
from tests.simulators import oci
from tests.simulators.broker import MEASUREMENT, Broker, Enclave
from tests.simulators.connect_proxy import ConnectProxy
from tests.simulators.docker_registry import DockerRegistry
from workers.enclave.image.credentials import Credentials
from workers.enclave.image.policy import ImagePolicy
from workers.enclave.image.pull import ImagePlan, resolve
from workers.enclave.image.reference import parse_reference
from workers.enclave.image.registry import Registry
from workers.enclave.kbs import ResourceUri
from workers.host.libos.sim.pki import SimulatedPki

# bcrypt of "pässword:1", cost 5.
ACCOUNT = ("owner", "$2b$05$Jgl0VsDs/2UkyexCsWDvf..iXklGM05EQ8jo4hX6wjjxJnaO5B/qW")


@pytest.fixture(scope="module")
def docker_registry(tmp_path_factory: pytest.TempPathFactory) -> Iterator[DockerRegistry]:
    with DockerRegistry(tmp_path_factory.mktemp("registry")) as running:
        yield running


@pytest.fixture
def registry(docker_registry: DockerRegistry) -> Iterator[Registry]:
    made = Registry(ca_pem=docker_registry.ca_pem)
    yield made
    made.close()


@pytest.fixture(scope="module")
def broker(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Broker]:
    folder = tmp_path_factory.mktemp("broker")
    pki = SimulatedPki.create(folder / "pki")
    with Broker(folder / "owner", pki) as running:
        running.list_enclave(MEASUREMENT)
        running.enclave = Enclave(pki)
        yield running


@pytest.fixture
def image() -> oci.OciImage:
    return oci.image([oci.tar({"bin/app": b"\x7fELF" * 50_000}), oci.tar({"etc/motd": b"hello\n"})])


def skopeo(*arguments: object) -> str:
    done = subprocess.run(["skopeo", *map(str, arguments)], capture_output=True, text=True, check=False, timeout=60)
    assert done.returncode == 0, done.stderr
    return done.stdout


def tars(plan: ImagePlan) -> list[bytes]:
    """What the enclave reads of each layer of the source: those above the one of random bytes."""
    read = []
    for reader in plan.layers():
        read.append(reader.read())
        reader.verify()
    return read[1:]


def publish(broker: Broker, registry: Registry, source: str, target: str, folder: Path) -> Published:
    publisher = Publisher(registry, broker.admin(), SigningKey.generate(), PolicyFolder(folder / "policies"))
    return publisher.publish(open_image(source, registry=registry), parse_reference(target))


def pull(broker: Broker, registry: Registry, reference: str, tee: Enclave) -> ImagePlan:
    """As the agent does it: attest, take the policy from the broker, resolve."""
    client = broker.client(tee)

    def get(uri: str) -> bytes:
        return client.get_resource(ResourceUri.parse(uri))

    return resolve(reference, registry, ImagePolicy.parse(get("kbs:///default/security-policy/image")), get)


def test_an_image_that_skopeo_pushed_is_published_and_read_by_an_attested_enclave(
    docker_registry, registry, broker, image, tmp_path
) -> None:
    layout = oci.write_layout(image, tmp_path / "layout")
    plain, target = f"{docker_registry.address}/plain/app:v1", f"{docker_registry.address}/shop/app:v1"
    certificates = docker_registry.certificates
    skopeo("copy", "--insecure-policy", "--dest-cert-dir", certificates, f"oci:{layout}", f"docker://{plain}")
    published = publish(broker, registry, f"docker://{plain}", target, tmp_path)
    plan = pull(broker, registry, target, broker.enclave)
    assert plan.manifest_digest == published.reference.digest
    assert tars(plan) == list(image.tars)


def test_an_enclave_that_the_owner_did_not_list_gets_no_key(docker_registry, registry, broker, image, tmp_path) -> None:
    target = f"{docker_registry.address}/shop/secret:v1"
    publish(broker, registry, str(oci.write_layout(image, tmp_path / "layout")), target, tmp_path)
    stranger = Enclave(broker.enclave.pki, mrenclave=bytes(32))
    with pytest.raises(Permanent) as refused:
        pull(broker, registry, target, stranger)
    assert refused.value.code in {Code.ATTEST_NOT_LISTED, Code.KEY_DENIED}


def test_skopeo_inspects_what_we_publish(docker_registry, registry, broker, image, tmp_path) -> None:
    target = f"{docker_registry.address}/shop/inspected:v1"
    published = publish(broker, registry, str(oci.write_layout(image, tmp_path / "layout")), target, tmp_path)
    certificates = docker_registry.certificates
    told = json.loads(skopeo("inspect", "--cert-dir", certificates, f"docker://{target}"))
    assert told["Digest"] == published.reference.digest
    raw = json.loads(skopeo("inspect", "--raw", "--cert-dir", certificates, f"docker://{target}"))
    random_bytes, *layers = [layer["mediaType"] for layer in raw["layers"]]
    assert random_bytes == oci.TAR + "+encrypted"
    assert layers == [oci.TAR + "+gzip+encrypted"] * 2
    assert published.reference.digest.replace(":", "-") + ".sig" in told["RepoTags"]


def test_an_encrypted_image_that_skopeo_mirrored_is_still_ours(
    docker_registry, registry, broker, image, tmp_path
) -> None:
    """A mirror keeps the digest; the policy must name it, because the signature is for the old name."""
    target = f"{docker_registry.address}/shop/mirrored:v1"
    publish(broker, registry, str(oci.write_layout(image, tmp_path / "layout")), target, tmp_path)
    away = f"oci:{tmp_path / 'away'}:v1"
    certificates = docker_registry.certificates
    skopeo("copy", "--insecure-policy", "--src-cert-dir", certificates, f"docker://{target}", away)
    skopeo("copy", "--insecure-policy", "--dest-cert-dir", certificates, away, f"docker://{target}")
    assert tars(pull(broker, registry, target, broker.enclave)) == list(image.tars)


def test_an_archive_of_skopeo_and_an_image_of_umoci_are_published(
    docker_registry, registry, broker, image, tmp_path
) -> None:
    layout = oci.write_layout(image, tmp_path / "layout")
    added = tmp_path / "added"
    added.write_text("by umoci\n")
    for command in (
        ["umoci", "insert", "--image", f"{layout}:latest", str(added), "/etc/added"],
        ["umoci", "config", "--image", f"{layout}:latest", "--config.cmd", "/bin/app", "--config.user", "1000:1000"],
    ):
        subprocess.run(command, check=True, capture_output=True, timeout=60)
    archive = tmp_path / "image.tar"
    skopeo("copy", "--insecure-policy", f"oci:{layout}:latest", f"oci-archive:{archive}:v9")
    target = f"{docker_registry.address}/shop/umoci:v1"
    publish(broker, registry, f"oci-archive:{archive}:v9", target, tmp_path)
    plan = pull(broker, registry, target, broker.enclave)
    assert (plan.config.cmd, plan.config.user) == (("/bin/app",), "1000:1000")
    layers = tars(plan)
    assert layers[:2] == list(image.tars)
    # umoci 0.4.7 ends its tar with the file's last byte, unpadded: what is asked here is that not a byte is lost.
    assert layers[2].endswith(b"by umoci\n")


def test_an_image_that_skopeo_encrypted_for_a_jwe_key_is_refused_in_clear_words(
    docker_registry, registry, image, tmp_path
) -> None:
    layout = oci.write_layout(image, tmp_path / "layout")
    for command in (
        ["openssl", "genpkey", "-algorithm", "RSA", "-pkeyopt", "rsa_keygen_bits:2048", "-out", str(tmp_path / "k")],
        ["openssl", "pkey", "-in", str(tmp_path / "k"), "-pubout", "-out", str(tmp_path / "k.pub")],
    ):
        subprocess.run(command, check=True, capture_output=True, timeout=60)
    target = f"{docker_registry.address}/shop/jwe:v1"
    encrypt = ["--encryption-key", f"jwe:{tmp_path / 'k.pub'}", "--dest-cert-dir", docker_registry.certificates]
    skopeo("copy", "--insecure-policy", *encrypt, f"oci:{layout}", f"docker://{target}")
    anything = ImagePolicy.parse(b'{"default": [{"type": "insecureAcceptAnything"}]}')
    with pytest.raises(Permanent) as refused:
        resolve(target, registry, anything, lambda _: bytes(32))
    assert refused.value.code is Code.IMAGE_MALFORMED
    assert refused.value.diagnosis.got == "jwe"


def test_through_a_proxy_tls_ends_in_the_enclave_and_the_host_sees_names_only(
    docker_registry, registry, broker, image, tmp_path
) -> None:
    target = f"{docker_registry.address}/shop/proxied:v1"
    publish(broker, registry, str(oci.write_layout(image, tmp_path / "layout")), target, tmp_path)
    with ConnectProxy(docker_registry.address) as proxy:
        inside = Registry(ca_pem=docker_registry.ca_pem, proxy_url=proxy.url)
        assert tars(pull(broker, inside, target, broker.enclave)) == list(image.tars)
        inside.close()
        assert set(proxy.asked) == {f"CONNECT {docker_registry.address}"}
        assert b"shop/proxied" not in proxy.seen
        assert len(proxy.seen) > sum(len(layer) for layer in image.tars) // 1000


def test_a_proxy_that_refuses_the_registry_is_told_as_a_registry_that_is_away(docker_registry) -> None:
    with ConnectProxy("elsewhere.example:443") as proxy:
        inside = Registry(ca_pem=docker_registry.ca_pem, proxy_url=proxy.url)
        with pytest.raises(Temporary) as refused:
            inside.manifest(parse_reference(f"{docker_registry.address}/app:v1"))
        assert refused.value.code is Code.IMAGE_REGISTRY_AWAY
        assert "403" in refused.value.diagnosis.got


def test_a_registry_under_another_authority_is_away(docker_registry) -> None:
    with DockerRegistry(docker_registry.root / "other") as other:
        stranger = Registry(ca_pem=docker_registry.ca_pem)
        with pytest.raises(Temporary, match=r"cannot be proved") as refused:
            stranger.manifest(parse_reference(f"{other.address}/app:v1"))
        assert refused.value.code is Code.IMAGE_REGISTRY_AWAY
        assert "certificate" in refused.value.diagnosis.expected


def test_a_registry_that_asks_for_an_account_is_pushed_to_and_pulled_from(image, tmp_path) -> None:
    with DockerRegistry(tmp_path / "registry", account=ACCOUNT) as asking:
        layout = oci.write_layout(image, tmp_path / "layout")
        ours = Registry(ca_pem=asking.ca_pem, credentials=Credentials(asking.address, "owner", "pässword:1"))
        key = SigningKey.generate()
        shelf: dict[str, bytes] = {}

        class Shelf:
            def put_resource(self, uri: ResourceUri, content: bytes) -> None:
                shelf[str(uri)] = content

            def delete_resource(self, uri: ResourceUri) -> None:
                del shelf[str(uri)]

        target = f"{asking.address}/shop/app:v1"
        publisher = Publisher(ours, Shelf(), key, PolicyFolder(tmp_path / "policies"))
        publisher.publish(open_image(str(layout), registry=ours), parse_reference(target))
        policy = ImagePolicy.parse(shelf["kbs:///default/security-policy/image"])
        assert tars(resolve(target, ours, policy, shelf.__getitem__)) == list(image.tars)
        with pytest.raises(Permanent) as refused:
            resolve(target, Registry(ca_pem=asking.ca_pem), policy, shelf.__getitem__)
        assert refused.value.code is Code.IMAGE_NOT_FOUND
