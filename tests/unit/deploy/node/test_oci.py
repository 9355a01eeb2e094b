"""A payload that comes as an OCI layout."""

from __future__ import annotations

import json
from collections.abc import Mapping
from pathlib import Path

import pytest

from deploy.node import oci, payload
from orchestrator.faults import Code, Fault
from tests.e2e.images import MANIFEST, Image, digest, image, plain, tar
from tests.trees import tree

INDEX = "application/vnd.oci.image.index.v1+json"


def made_of(files: Mapping[str, bytes], links: Mapping[str, str] | None = None) -> Image:
    return image([plain(tar(files, [name for name in files if "/bin/" in name], links))], {})


def written(folder: Path, made: Image) -> Path:
    """The layout: `index.json` names an index, which names the image for one platform and another for another."""
    blobs = folder / "blobs/sha256"
    blobs.mkdir(parents=True)
    ours = {"mediaType": MANIFEST, "digest": made.digest, "platform": {"os": "linux", "architecture": "amd64"}}
    other = {**ours, "platform": {"os": "linux", "architecture": "arm64"}}
    index = json.dumps({"mediaType": INDEX, "manifests": [other, ours]}).encode()
    for name, blob in {**made.blobs, made.digest: made.manifest, digest(index): index}.items():
        (blobs / name.removeprefix("sha256:")).write_bytes(blob)
    (folder / "oci-layout").write_text('{"imageLayoutVersion": "1.0.0"}')
    (folder / "index.json").write_text(json.dumps({"manifests": [{"mediaType": INDEX, "digest": digest(index)}]}))
    return folder


def test_it_is_the_folder_that_was_packed_and_goes_by_its_manifests_digest(
    tmp_path: Path, payloads: tuple[Path, Path]
) -> None:
    files = {str(path.relative_to(payloads[0])): path for path in payloads[0].rglob("*") if path.is_file()}
    made = made_of({name: path.read_bytes() for name, path in files.items()})
    with oci.unpacked(written(tmp_path, made), made.digest) as (folder, found):
        assert found == made.digest
        assert {name: tree(folder)[name] for name in files} == {name: tree(payloads[0])[name] for name in files}
        payload.verify(payload.read(folder, found), folder)
    assert not folder.exists()


def refused(layout: Path, wanted: str = "") -> str:
    with pytest.raises(Fault) as raised, oci.unpacked(layout, wanted):
        pass
    assert raised.value.code is Code.NODE_PAYLOAD
    return raised.value.diagnosis.got


def test_another_image_than_the_one_that_was_named_is_refused(tmp_path: Path) -> None:
    made = made_of({"payload.json": b"{}"})
    assert refused(written(tmp_path, made), f"sha256:{'0' * 64}") == made.digest


def test_a_blob_that_is_another_is_refused(tmp_path: Path) -> None:
    made = made_of({"payload.json": b"{}"})
    layout = written(tmp_path, made)
    (layout / "blobs/sha256" / made.digest.removeprefix("sha256:")).write_bytes(made.manifest + b" ")
    assert f"the blob {made.digest} is sha256:" in refused(layout)


@pytest.mark.parametrize("name", ["/etc/shadow", "../shadow", "host/../../shadow"])
def test_a_path_that_leads_out_is_refused(tmp_path: Path, name: str) -> None:
    assert "is no file or folder of a payload" in refused(written(tmp_path, made_of({name: b""})))


def test_a_link_is_refused(tmp_path: Path) -> None:
    assert "is no file or folder" in refused(written(tmp_path, made_of({"a": b""}, {"b": "/etc"})))
