"""Where a plain image comes from, and how a damaged place is told."""

from __future__ import annotations

import json
import shutil
from pathlib import Path

import pytest

from deploy.publish.source import open_image
from orchestrator.faults import Code, Permanent
from tests.simulators import oci
from workers.enclave.image.registry import Registry

PLAIN = oci.image([oci.tar({"a": b"a"})])


@pytest.fixture
def layout(tmp_path: Path) -> Path:
    return oci.write_layout(PLAIN, tmp_path / "layout", tag="v1")


def digest(text: str) -> str:
    return open_image(text, registry=Registry()).digest


def test_a_layout_is_found_by_scheme_tag_or_path(layout, tmp_path) -> None:
    archive = oci.write_archive(layout, tmp_path / "image.tar")
    for text in (f"oci:{layout}", f"oci:{layout}:v1", str(layout), f"oci-archive:{archive}:v1", str(archive)):
        assert digest(text) == PLAIN.digest


def test_a_layout_of_several_images_needs_a_tag(layout) -> None:
    index = json.loads((layout / "index.json").read_text())
    index["manifests"].append(index["manifests"][0] | {"annotations": {"org.opencontainers.image.ref.name": "v2"}})
    (layout / "index.json").write_text(json.dumps(index))
    assert digest(f"oci:{layout}:v2") == PLAIN.digest
    with pytest.raises(Permanent) as refused:
        digest(f"oci:{layout}")
    assert refused.value.code is Code.IMAGE_NOT_FOUND
    assert "'v1', 'v2'" in refused.value.diagnosis.got


def test_an_index_in_a_layout_leads_to_this_machines_image(tmp_path) -> None:
    both = oci.index({"arm64": oci.image([b""], architecture="arm64"), "amd64": PLAIN})
    folder = oci.write_layout(both, tmp_path / "both")
    for blob in (PLAIN.manifest,):
        (folder / "blobs" / oci.digest(blob).replace(":", "/")).write_bytes(blob)
    assert digest(str(folder)) == PLAIN.digest


def test_a_missing_blob_is_not_found(layout) -> None:
    shutil.rmtree(layout / "blobs")
    with pytest.raises(Permanent) as refused:
        digest(str(layout))
    assert refused.value.code is Code.IMAGE_NOT_FOUND


def test_an_altered_manifest_is_altered(layout) -> None:
    path = layout / "blobs" / PLAIN.digest.replace(":", "/")
    path.write_bytes(path.read_bytes().replace(b"amd64", b"arm64")[::-1])
    with pytest.raises(Permanent) as refused:
        digest(str(layout))
    assert refused.value.code is Code.IMAGE_ALTERED


def test_what_is_no_archive_is_refused(tmp_path) -> None:
    (tmp_path / "image.tar").write_bytes(b"no tar")
    with pytest.raises(Permanent) as refused:
        digest(f"oci-archive:{tmp_path / 'image.tar'}")
    assert refused.value.code is Code.INPUT


def test_a_name_that_is_no_path_is_a_registrys() -> None:
    with pytest.raises(Permanent) as refused:
        digest("docker://Not A Name")
    assert refused.value.code is Code.IMAGE_REFERENCE
