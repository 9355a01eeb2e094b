from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path

import pytest

from orchestrator.faults import Code, Permanent
from schemas.containerd.types_pb2 import Mount
from workers.host.shim.rootfs import mount, unmount


@pytest.fixture
def layers(tmp_path: Path) -> Iterator[Path]:
    for name in ("lower", "upper", "work"):
        (tmp_path / name).mkdir()
    (tmp_path / "lower" / "file").write_text("below")
    yield tmp_path
    unmount(tmp_path / "rootfs")


def overlay(layers: Path) -> Mount:
    options = [f"lowerdir={layers}/lower", f"upperdir={layers}/upper", f"workdir={layers}/work", "index=off"]
    return Mount(type="overlay", source="overlay", options=options)


def mounted_at(target: Path) -> list[str]:
    return [line for line in Path("/proc/self/mounts").read_text().splitlines() if line.split()[1] == str(target)]


def test_an_overlay_is_mounted_where_the_bundle_wants_it_and_taken_away(layers: Path) -> None:
    target = layers / "rootfs"
    mount([overlay(layers)], target)
    (target / "new").write_text("above")
    assert (target / "file").read_text() == "below"
    assert (layers / "upper" / "new").exists()
    unmount(target)
    assert mounted_at(target) == []
    unmount(target)


def test_a_read_only_bind_is_read_only(layers: Path) -> None:
    target = layers / "rootfs"
    mount([Mount(type="bind", source=str(layers / "lower"), options=["rbind", "ro"])], target)
    assert (target / "file").read_text() == "below"
    with pytest.raises(OSError, match="Read-only"):
        (target / "new").write_text("x")


def test_what_cannot_be_mounted_is_told_and_leaves_nothing(layers: Path) -> None:
    target = layers / "rootfs"
    missing = Mount(type="bind", source=str(layers / "missing"), options=["rbind"])
    with pytest.raises(Permanent) as refused:
        mount([overlay(layers), missing], target)
    assert refused.value.code is Code.SANDBOX_NOT_CREATED
    assert mounted_at(target) == []


def test_options_that_the_kernel_would_cut_are_refused(layers: Path) -> None:
    with pytest.raises(Permanent):
        mount([Mount(type="overlay", source="overlay", options=["lowerdir=" + "/x" * 3000])], layers / "rootfs")
