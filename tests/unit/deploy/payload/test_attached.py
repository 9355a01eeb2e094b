"""What is attached to an image in its layout, without the weight of a payload."""

from __future__ import annotations

import json
import subprocess
from pathlib import Path

import pytest

from deploy.payload import oci_layout
from deploy.payload.attached import Layout, attestation_tag
from deploy.payload.vouched import AnyName, signed_in
from deploy.publish.cosign_key import SigningKey
from deploy.publish.source import open_image
from orchestrator.faults import Code, Permanent
from workers.enclave.image.reference import parse_name
from workers.enclave.image.registry import Registry
from workers.enclave.image.signature import signature_tag

KEY, OTHER = SigningKey.generate(), SigningKey.generate()
NAME = parse_name("releases.example/payload")


@pytest.fixture
def folder(tmp_path: Path) -> Path:
    (tmp_path / "empty.tar").write_bytes(bytes(10240))
    oci_layout.write(tmp_path / "layout", [tmp_path / "empty.tar"], {}, name="1")
    return tmp_path / "layout"


def check(folder: Path, key: SigningKey) -> None:
    signed_in(key.public(), Layout(folder), Registry(ca_pem=None), AnyName())


def test_signing_twice_adds_nothing_but_the_later_reference_values(folder: Path) -> None:
    for references in (b"first", b"second", b"second"):
        Layout(folder).sign(NAME, KEY, references)
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
    (tmp_path / "full.tar").write_bytes(bytes(20480))
    oci_layout.write(tmp_path / "other", [tmp_path / "full.tar"], {}, name="1")
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


def index(folder: Path) -> dict:
    return json.loads((folder / "index.json").read_text())
