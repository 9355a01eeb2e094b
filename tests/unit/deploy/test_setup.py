"""`sh deploy/setup.sh`: what it promises before it installs anything, and the lists that it installs from."""

from __future__ import annotations

import hashlib
import os
import re
import shutil
import subprocess
import sys
import tomllib
from pathlib import Path

import pytest

LISTS = ("build", "dev", "runtime")
PINNED = re.compile(r"^([a-z0-9][a-z0-9.-]*)==\S+ \\$", re.MULTILINE)


@pytest.fixture
def installed(repository: Path, tmp_path: Path) -> Path:
    """A tree whose environment is marked as whole, with a `just` that tells what it was asked."""
    for name in ("pyproject.toml", "Justfile", "deploy/setup.sh", *(f"requirements/{name}.txt" for name in LISTS)):
        (tmp_path / name).parent.mkdir(exist_ok=True)
        shutil.copy(repository / name, tmp_path / name)
    parts = [tmp_path / "deploy/setup.sh", tmp_path / "pyproject.toml"]
    parts += sorted((tmp_path / "requirements").glob("*.txt"))
    digest = hashlib.sha256(b"".join(part.read_bytes() for part in parts)).hexdigest()
    (tmp_path / ".venv/bin").mkdir(parents=True)
    (tmp_path / ".venv/complete").write_text(f"{digest}\n{tmp_path}\n")
    just = tmp_path / ".venv/bin/just"
    just.write_text('#!/bin/sh\necho "just $*"\n')
    just.chmod(0o755)
    for folder in (tmp_path, *tmp_path.parents):
        if folder.stat().st_uid == os.geteuid() and folder != Path("/"):
            folder.chmod(folder.stat().st_mode | 0o055)  # for the test that gives root up
    return tmp_path


def setup(root: Path, *words: str, user: int = 0) -> subprocess.CompletedProcess[str]:
    command = ["sh", root / "deploy/setup.sh", *words]
    if user:
        command = ["setpriv", f"--reuid={user}", f"--regid={user}", "--clear-groups", *command]
    return subprocess.run(command, capture_output=True, text=True, check=False, timeout=60)


@pytest.mark.parametrize("recipe", ["demo", "test"])
def test_a_machine_that_has_everything_goes_straight_to_the_recipe(installed: Path, recipe: str) -> None:
    ran = setup(installed, recipe)
    assert ran.stdout == f"just --justfile {installed}/Justfile {recipe}\n", ran.stderr


def test_without_a_word_it_only_installs(installed: Path) -> None:
    ran = setup(installed)
    assert (ran.returncode, ran.stdout, ran.stderr) == (0, "", "")


def test_an_unknown_word_is_refused(installed: Path) -> None:
    assert setup(installed, "everything").returncode == 64


def test_without_root_it_says_what_it_needs_and_stops(installed: Path) -> None:
    ran = setup(installed, "test", user=65534)
    assert ran.returncode == 77
    assert "root" in ran.stderr


def test_without_root_it_names_what_it_would_install(installed: Path) -> None:
    (installed / ".venv/complete").unlink()
    ran = setup(installed, user=65534)
    assert ran.returncode == 77
    assert "the Python environment" in ran.stderr


@pytest.mark.parametrize("name", LISTS)
def test_a_list_pins_every_package_by_hash_and_names_no_address(repository: Path, name: str) -> None:
    text = (repository / f"requirements/{name}.txt").read_text()
    assert "://" not in text
    pinned = PINNED.findall(text)
    assert pinned
    assert len(pinned) == len([line for line in text.splitlines() if line and line[0] not in " #"])
    assert text.count("==") == len(pinned)
    assert all("--hash=sha256:" in part for part in PINNED.split(text)[2::2])


def test_the_lists_cover_what_the_project_names(repository: Path) -> None:
    project = tomllib.loads((repository / "pyproject.toml").read_text())
    wanted = {
        "runtime": project["project"]["dependencies"],
        "dev": [*project["project"]["dependencies"], *project["dependency-groups"]["dev"]],
        "build": project["dependency-groups"]["build"],
    }
    for name, requirements in wanted.items():
        names = {re.split(r"[^A-Za-z0-9_.-]", requirement)[0].lower().replace("_", "-") for requirement in requirements}
        assert names <= set(PINNED.findall((repository / f"requirements/{name}.txt").read_text())), name


def test_the_interpreter_is_debians(repository: Path) -> None:
    assert sys.base_prefix == "/usr"
