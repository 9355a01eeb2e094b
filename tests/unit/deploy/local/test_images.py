"""The small images, built from what Debian's packages left on this machine."""

from __future__ import annotations

import hashlib
import json
import subprocess
from pathlib import Path

import pytest

from deploy.local import images
from deploy.payload import oci_layout


def manifest(image: Path) -> dict[str, object]:
    (described,) = json.loads((image / "index.json").read_text())["manifests"]
    return json.loads((image / "blobs/sha256" / described["digest"].removeprefix("sha256:")).read_text())  # type: ignore[no-any-return]


@pytest.mark.parametrize("build", [images.pause, images.busybox])
def test_every_blob_is_named_by_its_digest(build: object) -> None:
    image = build()  # type: ignore[operator]
    for blob in (image / "blobs/sha256").iterdir():
        assert hashlib.sha256(blob.read_bytes()).hexdigest() == blob.name


def test_the_same_tar_makes_the_same_image(tmp_path: Path) -> None:
    layer = tmp_path / "layer.tar"
    layer.write_bytes(images._tar({"a": (b"content", 0o644)}, {"b": "a"}, ("tmp",)))
    first = oci_layout.write(tmp_path / "one", [layer], {"Cmd": ["/a"]})
    assert oci_layout.write(tmp_path / "two", [layer], {"Cmd": ["/a"]}) == first
    assert oci_layout.write(tmp_path / "three", [layer], {"Cmd": ["/b"]}) != first


def test_another_tool_reads_the_layout(tmp_path: Path) -> None:
    shown = subprocess.run(
        ["skopeo", "inspect", "--config", f"oci:{images.busybox()}"], capture_output=True, text=True, check=True
    )
    assert json.loads(shown.stdout)["config"]["Cmd"] == ["/bin/sh"]


def test_a_second_build_comes_from_the_cache() -> None:
    assert images.busybox() == images.busybox()
    assert images.busybox({"etc/greeting": b"hello"}) != images.busybox()


def test_redis_is_debians_and_complete() -> None:
    (layer,) = manifest(images.redis())["layers"]  # type: ignore[misc]
    blob = images.redis() / "blobs/sha256" / layer["digest"].removeprefix("sha256:")
    names = subprocess.run(["tar", "-tzf", blob], capture_output=True, text=True, check=True).stdout.splitlines()
    assert {"./usr/bin/redis-server", "./usr/bin/redis-cli", "./etc/passwd"} <= set(names)
    assert not [name for name in names if name.startswith("./usr/share/man/") and not name.endswith("/")]
