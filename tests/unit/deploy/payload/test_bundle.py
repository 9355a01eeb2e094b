"""The bundles, as they are built from this tree."""

from __future__ import annotations

import json
import subprocess
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

import pytest

from deploy.payload.bundle import Built, build_bundle
from deploy.payload.roles import AGENT, BOOT
from schemas.places import AGENT_MEASUREMENT
from workers.host.libos.sim.measurement import measure_image

LARGEST = {"agent": 40_000_000, "boot": 44 << 20}
"""Bytes. A bundle that grows past this has taken in something that an enclave does not need."""

PACKAGES = {
    "agent": {
        "_cffi_backend",
        "cryptography",
        "google",
        "joserfc",
        "nats",
        "rfc8785",
        "six",
        "structlog",
        "transitions",
        "urllib3",
    },
    "boot": {
        "_cffi_backend",
        "attr",
        "attrs",
        "cryptography",
        "idna",
        "outcome",
        "pyfuse3",
        "sniffio",
        "sortedcontainers",
        "trio",
    },
}
"""All that is trusted beside Python's own library and ours: one more is a decision, not something that came along."""

OURS = {"__main__", "orchestrator", "schemas", "workers"}

PROGRAMS = {"agent": {"python3.11"}, "boot": {"python3.11", "crun", "gocryptfs", "fusermount"}}


@pytest.fixture(scope="module")
def cache(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return tmp_path_factory.mktemp("cache")


@pytest.fixture(scope="module")
def boot(cache: Path, tmp_path_factory: pytest.TempPathFactory) -> Built:
    return build_bundle(BOOT, tmp_path_factory.mktemp("bundles") / "boot.erofs", cache)


@pytest.fixture(scope="module")
def agent(boot: Built) -> Path:
    return boot.image.with_name("agent.erofs")


@contextmanager
def mounted(image: Path, at: Path) -> Iterator[Path]:
    at.mkdir()
    subprocess.run(["mount", "-o", "loop,ro", image, at], check=True)
    try:
        yield at
    finally:
        subprocess.run(["umount", at], check=True)


def test_two_builds_give_the_same_bytes(boot: Built, agent: Path, tmp_path: Path) -> None:
    again = build_bundle(BOOT, tmp_path / "boot.erofs", tmp_path / "cache")
    assert again.image.read_bytes() == boot.image.read_bytes()
    assert (tmp_path / "agent.erofs").read_bytes() == agent.read_bytes()


def test_a_build_of_what_has_not_changed_writes_nothing_anew(boot: Built, cache: Path, tmp_path: Path) -> None:
    before = {path: path.stat().st_mtime_ns for path in cache.rglob("*")}
    assert build_bundle(BOOT, tmp_path / "boot.erofs", cache).mrenclave == boot.mrenclave
    assert {path: path.stat().st_mtime_ns for path in cache.rglob("*")} == before != {}


def test_a_changed_input_is_noticed(cache: Path, boot: Built, tmp_path: Path) -> None:
    (index,) = cache.glob("agent-*.json")
    document = json.loads(index.read_text())
    some = next(iter(document["inputs"]))
    document["inputs"][some][1] += 1
    document["image"] = str(tmp_path / "stale.erofs")
    Path(document["image"]).write_bytes(b"stale")
    index.write_text(json.dumps(document))
    assert build_bundle(AGENT, tmp_path / "agent.erofs", cache).image.read_bytes() != b"stale"


def test_boot_init_trusts_the_agent_it_was_built_with(boot: Built, agent: Path, tmp_path: Path) -> None:
    with mounted(boot.image, tmp_path / "root") as root:
        baked = (root / AGENT_MEASUREMENT.lstrip("/")).read_text().strip()
    assert baked == measure_image(agent).mrenclave.hex()


def test_the_agent_starts_from_its_bundle_alone(agent: Path, tmp_path: Path) -> None:
    """It gets as far as looking for the file that says which pod it is for."""
    entry = measure_image(agent).entry
    with mounted(agent, tmp_path / "root") as root:
        ran = subprocess.run(
            ["chroot", root, *entry.argv], env=dict(entry.env), capture_output=True, text=True, check=False, timeout=60
        )
    assert "E-AGENT-001" in ran.stderr, ran.stderr
    assert ran.returncode == 1


@pytest.mark.parametrize("role", ["agent", "boot"])
def test_a_bundle_holds_what_an_enclave_needs_and_no_more(boot: Built, agent: Path, role: str, tmp_path: Path) -> None:
    image = {"agent": agent, "boot": boot.image}[role]
    assert image.stat().st_size <= LARGEST[role]
    with mounted(image, tmp_path / "root") as root:
        files = {str(path.relative_to(root)) for path in root.rglob("*") if path.is_file()}
        found = {path.name.partition(".")[0] for path in (root / "opt/enclave-cc").iterdir()}
        assert found == PACKAGES[role] | OURS
        assert not (root / "opt/enclave-cc/workers/host").exists()
    assert [name for name in files if name.endswith(".py")] == []
    assert "bin/sh" not in files
    assert {name.removeprefix("usr/bin/") for name in files if name.startswith("usr/bin/")} == PROGRAMS[role]
