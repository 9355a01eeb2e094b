"""What is published, an enclave can launch; what fails on the way leaves nothing that looks published."""

from __future__ import annotations

import json
import os
from contextlib import closing
from pathlib import Path

import pytest

from deploy.publish.cosign_key import SigningKey
from deploy.publish.publication import Publisher
from deploy.publish.source import open_image
from orchestrator.faults import Code, Fault, Permanent, Temporary
from tests.simulators import oci
from tests.unit.deploy.publish.conftest import Owner, tars
from workers.enclave.image.manifest import LONGEST_CONFIG, Descriptor, Manifest, parse_config, parse_manifest
from workers.enclave.image.reference import parse_reference


@pytest.fixture
def plain() -> oci.OciImage:
    return oci.image([oci.tar({"bin/app": os.urandom(2_500_000)}), oci.tar({"etc/motd": b"hello\n" * 1000})])


@pytest.fixture
def layout(plain: oci.OciImage, tmp_path: Path) -> Path:
    return oci.write_layout(plain, tmp_path / "layout")


def publish(owner: Owner, layout: Path, **named: object):
    return owner.publisher.publish(open_image(str(layout), registry=owner.publisher.registry), owner.target, **named)


def manifest_of(owner: Owner) -> Manifest:
    found = parse_manifest(owner.publisher.registry.manifest(owner.target)[0])
    assert isinstance(found, Manifest)
    return found


def layers_of(owner: Owner) -> tuple[Descriptor, ...]:
    """Those of the source: above the one of random bytes."""
    return manifest_of(owner).layers[1:]


def test_what_is_published_is_what_an_enclave_reads(owner, plain, layout) -> None:
    counted: list[int] = []
    published = publish(owner, layout, progress=counted.append)
    plan = owner.pull()
    assert tars(plan) == list(plain.tars)
    assert plan.manifest_digest == published.reference.digest
    assert plan.key_ids == published.kids == tuple(owner.shelf.keys)
    assert plan.config.argv == ("/bin/app",)
    assert sum(counted) == sum(layer.size for layer in manifest_of(owner).layers)


def test_no_plaintext_is_in_the_registry(owner, plain, layout, docker_registry) -> None:
    publish(owner, layout)
    gz = [plain.blobs[layer["digest"]] for layer in plain.document["layers"]]
    stored = [path.read_bytes() for path in (docker_registry.root / "data").rglob("data") if path.is_file()]
    assert stored
    assert not any(body[100:200] in blob for blob in stored for body in gz)


def test_gzip_layers_stay_gzip_and_sizes_stay_the_same(owner, plain, layout) -> None:
    publish(owner, layout)
    layers = layers_of(owner)
    assert {layer.media_type for layer in layers} == {oci.TAR + "+gzip+encrypted"}
    assert [layer.size for layer in layers] == [layer["size"] for layer in plain.document["layers"]]


def test_uncompressed_and_empty_images_are_published(owner, tmp_path) -> None:
    for name, made in (("plain", oci.image([oci.tar({"a": b"a"})], compressed=False)), ("empty", oci.image([]))):
        publish(owner, oci.write_layout(made, tmp_path / name), again=True)
        assert tars(owner.pull()) == list(made.tars)


def test_publishing_again_changes_nothing(owner, layout) -> None:
    first = publish(owner, layout)
    second = publish(owner, layout)
    assert (second.reference, second.kids) == (first.reference, first.kids)
    assert (first.fresh, second.fresh) == (True, False)
    assert len(owner.shelf.keys) == 1


def test_publishing_again_on_purpose_takes_a_new_key_and_keeps_the_old(owner, plain, layout) -> None:
    first = publish(owner, layout)
    second = publish(owner, layout, again=True)
    assert first.kids != second.kids
    assert tars(owner.pull(first.reference)) == tars(owner.pull(second.reference)) == list(plain.tars)


def test_another_image_under_the_same_tag_is_published(owner, layout, tmp_path) -> None:
    publish(owner, layout)
    other = oci.image([oci.tar({"b": b"b"})])
    assert publish(owner, oci.write_layout(other, tmp_path / "other")).fresh
    assert tars(owner.pull()) == list(other.tars)


def test_another_owners_signature_is_not_taken_for_ours(owner, layout, tmp_path) -> None:
    publish(owner, layout)
    mine = owner.publisher
    other = Publisher(mine.registry, mine.broker, SigningKey.generate(), type(mine.policies)(tmp_path / "others"))
    image = open_image(str(layout), registry=mine.registry)
    assert other.publish(image, owner.target).fresh


def test_two_layers_that_are_the_same_are_encrypted_apart(owner, tmp_path) -> None:
    twice = oci.image([oci.tar({"a": b"a"})] * 2)
    publish(owner, oci.write_layout(twice, tmp_path / "twice"))
    layers = layers_of(owner)
    assert layers[0].digest != layers[1].digest
    assert tars(owner.pull()) == list(twice.tars)


def test_an_archive_is_published_like_its_layout(owner, plain, layout, tmp_path) -> None:
    archive = oci.write_archive(layout, tmp_path / "image.tar")
    publish(owner, archive)
    assert tars(owner.pull()) == list(plain.tars)


def test_an_image_of_docker_becomes_an_oci_image(owner, plain, tmp_path) -> None:
    document = plain.document | {"mediaType": "application/vnd.docker.distribution.manifest.v2+json"}
    document["config"]["mediaType"] = "application/vnd.docker.container.image.v1+json"
    for layer in document["layers"]:
        layer["mediaType"] = "application/vnd.docker.image.rootfs.diff.tar.gzip"
    publish(owner, oci.write_layout(plain.with_manifest(document), tmp_path / "docker"))
    assert {layer.media_type for layer in layers_of(owner)} == {oci.TAR + "+gzip+encrypted"}
    assert tars(owner.pull()) == list(plain.tars)


def refused(owner: Owner, layout: Path) -> Fault:
    with pytest.raises(Fault) as raised:
        publish(owner, layout)
    return raised.value


def nothing_is_published(owner: Owner) -> bool:
    with pytest.raises(Permanent) as raised:
        owner.publisher.registry.manifest(owner.target)
    return raised.value.code is Code.IMAGE_NOT_FOUND and owner.shelf.keys == []


def test_a_damaged_source_is_altered_and_nothing_is_published(owner, plain, layout) -> None:
    layer = plain.document["layers"][1]["digest"]
    path = layout / "blobs" / layer.replace(":", "/")
    body = bytearray(path.read_bytes())
    body[10] ^= 1
    path.write_bytes(bytes(body))
    assert refused(owner, layout).code is Code.IMAGE_ALTERED
    assert nothing_is_published(owner)


@pytest.mark.parametrize("change", [-1, 1], ids=["short", "long"])
def test_a_source_of_another_size_is_altered(owner, plain, layout, change) -> None:
    path = layout / "blobs" / plain.document["layers"][0]["digest"].replace(":", "/")
    body = path.read_bytes()
    path.write_bytes(body[:-1] if change < 0 else body + b"x")
    assert refused(owner, layout).code is Code.IMAGE_ALTERED
    assert nothing_is_published(owner)


def test_zstd_layers_are_refused_before_a_key_is_made(owner, plain, tmp_path) -> None:
    document = plain.document
    document["layers"][0]["mediaType"] = oci.TAR + "+zstd"
    fault = refused(owner, oci.write_layout(plain.with_manifest(document), tmp_path / "zstd"))
    assert fault.code is Code.IMAGE_MALFORMED
    assert nothing_is_published(owner)


def test_an_encrypted_source_is_refused(owner, plain, tmp_path) -> None:
    sealed = oci.encrypted(plain, bytes(32), "kbs:///default/image-key/x")
    assert refused(owner, oci.write_layout(sealed, tmp_path / "sealed")).code is Code.IMAGE_MALFORMED


def test_a_broker_that_is_away_stops_before_anything_is_pushed(owner, layout) -> None:
    owner.shelf.away = True
    fault = refused(owner, layout)
    assert (fault.code, type(fault)) == (Code.KEY_KBS_AWAY, Temporary)
    owner.shelf.away = False
    assert nothing_is_published(owner)


def test_a_policy_with_another_rule_stops_before_anything_is_pushed(owner, layout) -> None:
    owner.publisher.policies.admit(owner.target.repository, SigningKey.generate().public_pem())
    assert refused(owner, layout).code is Code.INPUT
    assert nothing_is_published(owner)


def test_a_target_without_a_tag_is_refused(owner, layout) -> None:
    image = open_image(str(layout), registry=owner.publisher.registry)
    with pytest.raises(Permanent) as raised:
        owner.publisher.publish(image, parse_reference(f"{owner.address}/app@sha256:" + "0" * 64))
    assert raised.value.code is Code.IMAGE_REFERENCE


def test_the_key_is_in_no_file_and_no_representation(owner, layout, tmp_path, docker_registry) -> None:
    published = publish(owner, layout)
    key = owner.shelf.resources[published.kids[0]]
    for folder in (tmp_path, docker_registry.root):
        assert not any(key in path.read_bytes() for path in folder.rglob("*") if path.is_file())
    assert repr(key) not in repr(published)


def test_the_manifest_tells_which_source_it_was_made_from(owner, plain, layout) -> None:
    publish(owner, layout)
    assert manifest_of(owner).annotations == {"io.enclave-cc.source": plain.digest}


def test_no_chain_id_and_no_image_name_is_shared_with_the_plain_twin(owner, plain, layout) -> None:
    seen = [config_of(owner, layout) for _ in range(2)]
    own = json.loads(plain.blobs[plain.document["config"]["digest"]])
    for raw in seen:
        changed = json.loads(raw)
        lowest, *others = changed["rootfs"].pop("diff_ids")
        assert others == own["rootfs"]["diff_ids"]
        assert lowest not in others
        assert changed == own | {"rootfs": {"type": own["rootfs"]["type"]}}
    assert parse_config(seen[0]).diff_ids[0] != parse_config(seen[1]).diff_ids[0]


def config_of(owner: Owner, layout: Path) -> bytes:
    """The configuration after publishing anew."""
    publish(owner, layout, again=True)
    reference = owner.target.pinned(owner.publisher.registry.manifest(owner.target)[1])
    with closing(owner.publisher.registry.open_blob(reference, manifest_of(owner).config)) as blob:
        return blob.read(LONGEST_CONFIG)


def test_a_new_rule_admits_the_image_and_its_own_process(owner, layout) -> None:
    publish(owner, layout)
    launch = json.loads(owner.shelf.get("kbs:///default/launch-policy/default"))
    assert launch["rules"] == [
        {
            "image": owner.target.repository,
            "args": {"from_image": True},
            "mounts": ["/etc/hosts", "/etc/hostname", "/etc/resolv.conf"],
        }
    ]
