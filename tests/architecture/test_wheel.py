"""The wheel is the four packages and nothing else, and owns their names (docs/adr/0001)."""

from __future__ import annotations

import json
import subprocess
import sys
import zipfile
from pathlib import Path

import pytest

OURS = {"orchestrator", "workers", "schemas", "deploy"}


@pytest.fixture(scope="module")
def wheel(repository: Path, tmp_path_factory: pytest.TempPathFactory) -> Path:
    out = tmp_path_factory.mktemp("wheel")
    subprocess.run(
        [sys.executable, "-m", "hatchling", "build", "-t", "wheel", "-d", out],
        cwd=repository,
        check=True,
        capture_output=True,
    )
    (built,) = out.glob("*.whl")
    return built


def test_the_wheel_holds_our_packages_and_no_tests(wheel: Path) -> None:
    with zipfile.ZipFile(wheel) as archive:
        top = {name.split("/")[0] for name in archive.namelist()}
    assert {name for name in top if not name.endswith(".dist-info")} == OURS


def test_an_installed_wheel_owns_its_top_level_names(wheel: Path, tmp_path: Path) -> None:
    """Two owners of one import name is how another distribution overwrites ours without a word."""
    subprocess.run(
        [sys.executable, "-m", "pip", "install", "--quiet", "--no-deps", "--target", tmp_path, wheel],
        check=True,
        capture_output=True,
    )
    ask = (
        "import importlib.metadata, json, sys; sys.path.insert(0, sys.argv[1]);"
        "owners = importlib.metadata.packages_distributions();"
        "print(json.dumps({name: owners.get(name) for name in sys.argv[2:]}))"
    )
    told = subprocess.run(
        [sys.executable, "-I", "-c", ask, tmp_path, *OURS], check=True, capture_output=True, text=True
    )
    assert json.loads(told.stdout) == {name: ["enclave-cc"] for name in OURS}


def test_the_wheel_carries_what_is_not_python(wheel: Path, repository: Path) -> None:
    with zipfile.ZipFile(wheel) as archive:
        names = set(archive.namelist())
    data = [p.relative_to(repository) for p in (repository / "schemas").glob("*.proto")]
    assert {str(p) for p in data} <= names


def test_the_classifier_keeps_it_off_any_index(repository: Path) -> None:
    assert '"Private :: Do Not Upload"' in (repository / "pyproject.toml").read_text()
