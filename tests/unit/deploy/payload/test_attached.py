"""What is attached to a payload in its layout: of a payload whose bundles hold nothing but their entry."""

from __future__ import annotations

import hashlib
import json
import shutil
import subprocess
from collections.abc import Iterator
from pathlib import Path

import pytest
from click.testing import CliRunner

from deploy.cli import enclave_cc
from deploy.node.oci import unpacked
from deploy.payload import oci_layout
from deploy.payload.attached import Layout, attestation_tag
from deploy.payload.contents import opened
from deploy.payload.image import INPUTS
from deploy.payload.vouched import AnyName, described, signed_in, verified_references
from deploy.publish import references
from deploy.publish.cosign_key import SigningKey
from deploy.publish.source import open_image
from orchestrator.faults import Code, Permanent
from tests.simulators.docker_registry import DockerRegistry
from tests.simulators.enclave_bundle import make_image
from workers.enclave.image.reference import parse_name
from workers.enclave.image.registry import Registry
from workers.enclave.image.signature import PublicKey, signature_tag
from workers.host.libos.sim.measurement import measure_image

KEY, OTHER = SigningKey.generate(), SigningKey.generate()
NAME = parse_name("releases.example/payload")


@pytest.fixture
def folder(tmp_path: Path) -> Path:
    return small_payload(tmp_path / "layout", "first")


def small_payload(layout: Path, marker: str) -> Path:
    """A layout, in a payload's form; another marker is another payload, which measures to something else."""
    root = layout.with_name(f"{layout.name}.root")
    bundles = {}
    for name in ("agent", "boot"):
        tree, image = root / "tree", root / f"bundles/sim/{name}.erofs"
        (tree / "etc/enclave-cc").mkdir(parents=True)
        entry = {"argv": [f"/{name}"], "env": {"MARKER": marker}, "cwd": "/"}
        (tree / "etc/enclave-cc/enclave.json").write_text(json.dumps(entry))
        image.parent.mkdir(parents=True, exist_ok=True)
        make_image(tree, image)
        shutil.rmtree(tree)
        image.chmod(0o644)
        bundles[name] = {"path": f"bundles/sim/{name}.erofs", "measurement": measure_image(image).mrenclave.hex()}
    files = [
        {
            "path": part["path"],
            "mode": "0644",
            "sha256": hashlib.sha256((root / part["path"]).read_bytes()).hexdigest(),
            "size": (root / part["path"]).stat().st_size,
        }
        for part in bundles.values()
    ]
    document = {"format": 1, "version": "1", "platform": "linux/amd64", "bundles": {"sim": bundles}, "files": files}
    (root / "payload.json").write_text(json.dumps(document))
    archive = root.with_suffix(".tar")
    subprocess.run(["tar", "-C", root, "-cf", archive, "payload.json", "bundles"], check=True)
    oci_layout.write(layout, [archive], {"Labels": {INPUTS: f"sha256:{'00' * 32}"}}, name="1")
    return layout


@pytest.fixture(scope="module")
def docker_registry(tmp_path_factory: pytest.TempPathFactory) -> Iterator[DockerRegistry]:
    with DockerRegistry(tmp_path_factory.mktemp("registry")) as running:
        yield running


def check(folder: Path, key: SigningKey) -> None:
    signed_in(key.public(), Layout(folder), Registry(ca_pem=None), AnyName())


def test_signing_twice_adds_nothing_but_the_later_reference_values(folder: Path) -> None:
    for values in (b"first", b"second", b"second"):
        Layout(folder).sign(NAME, KEY, values)
    held = Layout(folder)
    (digest,) = held.manifests
    assert [len(held.signatures(one)) for one in (digest, held.index)] == [1, 1]
    assert held.references() == b"second"
    names = [entry["annotations"]["org.opencontainers.image.ref.name"] for entry in index(folder)["manifests"]]
    assert names[0] == "1"
    assert sorted(names[1:]) == sorted([signature_tag(digest), signature_tag(held.index), attestation_tag(digest)])


def test_two_owners_sign_beside_each_other(folder: Path) -> None:
    Layout(folder).sign(NAME, OTHER, b"")
    with pytest.raises(Permanent) as wrong:
        check(folder, KEY)
    assert wrong.value.code is Code.SIGNATURE_WRONG
    Layout(folder).sign(NAME, KEY, b"")
    check(folder, KEY)
    check(folder, OTHER)


def test_what_is_attached_is_no_second_image_to_who_looks_for_the_first(folder: Path) -> None:
    registry = Registry(ca_pem=None)
    before = open_image(str(folder), registry=registry).digest
    Layout(folder).sign(NAME, KEY, b"")
    assert open_image(str(folder), registry=registry).digest == before == Layout(folder).manifests[0]
    tag = signature_tag(before)
    shown = subprocess.run(
        ["skopeo", "inspect", "--raw", f"oci:{folder}:{tag}"], capture_output=True, text=True, check=True
    ).stdout
    assert json.loads(shown)["layers"][0]["mediaType"] == "application/vnd.dev.cosign.simplesigning.v1+json"


def test_a_signature_of_another_image_does_not_serve(folder: Path, tmp_path: Path) -> None:
    small_payload(tmp_path / "other", "second")
    Layout(tmp_path / "other").sign(NAME, KEY, b"")
    ours, theirs = Layout(folder), Layout(tmp_path / "other")
    subprocess.run(["cp", "-r", f"{tmp_path}/other/blobs", folder], check=True)
    document = index(folder)
    for entry in index(tmp_path / "other")["manifests"][1:]:
        annotations = entry["annotations"]
        for one, another in (*zip(theirs.manifests, ours.manifests, strict=True), (theirs.index, ours.index)):
            for name, value in annotations.items():
                annotations[name] = value.replace(one.replace(":", "-"), another.replace(":", "-"))
        document["manifests"].append(entry)
    (folder / "index.json").write_text(json.dumps(document))
    with pytest.raises(Permanent) as wrong:
        check(folder, KEY)
    assert wrong.value.code is Code.SIGNATURE_WRONG


def test_a_blob_that_was_exchanged_is_noticed(folder: Path) -> None:
    Layout(folder).sign(NAME, KEY, b"values")
    (blob,) = [path for path in (folder / "blobs/sha256").iterdir() if path.read_bytes() == b"values"]
    blob.write_bytes(b"others")
    with pytest.raises(Permanent) as altered:
        Layout(folder).references()
    assert altered.value.code is Code.IMAGE_ALTERED


def test_a_signed_layout_that_was_copied_by_hand_is_checked_without_a_registry_and_keeps_its_signature_in_one(
    folder: Path, docker_registry: DockerRegistry, tmp_path: Path
) -> None:
    """What an air-gapped site does: sign here, carry the folder, check it there, push it to the site's own registry."""
    for name, key in (("ours", SigningKey.generate()), ("other", SigningKey.generate())):
        (tmp_path / f"{name}.key").write_bytes(key.write(b"password"))
        (tmp_path / f"{name}.pub").write_bytes(key.public_pem())
    (tmp_path / "password").write_bytes(b"password")
    (tmp_path / "ca.pem").write_text(docker_registry.ca_pem)
    carried, digest = tmp_path / "carried", Layout(folder).manifests[0]
    shown = f"{docker_registry.address}/site/payload:1"

    def run(*words: object, status: int = 0) -> str:
        ran = CliRunner().invoke(enclave_cc, ["payload", *map(str, words)])
        told = f"{ran.output}{ran.exception}"
        assert ran.exit_code == status, told
        return told

    private = ("--key", tmp_path / "ours.key", "--key-password-file", tmp_path / "password")
    public, ca = ("--key", tmp_path / "ours.pub"), ("--registry-ca", tmp_path / "ca.pem")
    assert Code.SIGNATURE_MISSING in run("verify", f"oci:{folder}", *public, status=1)
    run("sign", folder, "releases.example/payload", *private, "--unlocked", "--references", tmp_path / "references")
    subprocess.run(["cp", "-a", folder, carried], check=True)
    told = run("verify", f"oci:{carried}", *public, "--signed-as", "releases.example/payload")
    assert f"signature     of {digest}" in told
    assert "references    signed 20" in told
    assert Code.SIGNATURE_WRONG in run("verify", f"oci:{carried}", "--key", tmp_path / "other.pub", status=1)
    assert Code.SIGNATURE_WRONG in run("verify", f"oci:{carried}", *public, "--signed-as", "else.example/p", status=1)
    assert digest in run("push", carried, shown, *ca)
    assert "signature     of" in run("verify", shown, *public, *ca, "--signed-as", "releases.example/payload")
    assert Code.SIGNATURE_WRONG in run("verify", shown, *public, *ca, status=1)
    run("push", carried, shown, *ca, *private)
    assert "signature     of" in run("verify", shown, *public, *ca)
    assert "signature     of" in run("verify", shown, *public, *ca, "--signed-as", "releases.example/payload")
    document = references.verify((tmp_path / "references").read_bytes(), PublicKey.parse(public[1].read_bytes()))
    assert document.payload == digest
    assert set(document.measurements["sim"]) == {"agent", "boot"}
    with unpacked(carried) as (_, found):
        assert found == digest
    subprocess.run(["skopeo", "inspect", f"oci:{carried}:1"], check=True, capture_output=True)


def test_a_payload_of_other_inputs_than_a_releases_is_signed_only_where_one_insists(
    folder: Path, tmp_path: Path
) -> None:
    (tmp_path / "key").write_bytes(KEY.write(b"password"))
    (tmp_path / "password").write_bytes(b"password")
    words = ["payload", "sign", folder, "releases.example/payload", "--key", tmp_path / "key"]
    ran = CliRunner().invoke(enclave_cc, [*map(str, words), "--key-password-file", str(tmp_path / "password")])
    assert isinstance(ran.exception, Permanent)
    assert ran.exception.code is Code.PAYLOAD_UNLISTED
    assert len(index(folder)["manifests"]) == 1


def test_reference_values_of_another_payload_do_not_pass_for_this_ones(folder: Path, tmp_path: Path) -> None:
    other = small_payload(tmp_path / "other", "second")
    with opened(str(other), Registry(ca_pem=None)) as contents:
        document = described(contents, Layout(other), references.now())
    Layout(folder).sign(NAME, KEY, references.sign(document, KEY))
    with opened(str(folder), Registry(ca_pem=None)) as contents, pytest.raises(Permanent) as refused:
        verified_references(KEY.public(), contents, Layout(folder))
    assert refused.value.code is Code.REFERENCES_ALTERED


def index(folder: Path) -> dict:
    return json.loads((folder / "index.json").read_text())
