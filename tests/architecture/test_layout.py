"""The tree says what it is: names, sizes, docstrings. One test for each rule that import-linter cannot hold."""

from __future__ import annotations

import ast
import re
from pathlib import Path

import pytest

PACKAGES = ("orchestrator", "workers", "schemas", "deploy")
LONGEST_MODULE = 500
"""Lines. A longer file is two ideas; generated code does not count."""

EMPTY_NAMES = {"utils", "util", "helpers", "helper", "common", "misc", "manager"}


def sources(repository: Path, *folders: str) -> list[Path]:
    """Python files below these folders, written by a person."""
    found = sorted(path for folder in folders for path in (repository / folder).rglob("*.py"))
    return [path for path in found if "_pb2" not in path.name]


def modules(repository: Path) -> list[Path]:
    return sources(repository, *PACKAGES)


def test_every_package_says_its_zone_and_what_it_may_import(repository: Path) -> None:
    silent = []
    for path in modules(repository):
        if path.name != "__init__.py":
            continue
        said = ast.get_docstring(ast.parse(path.read_text())) or ""
        if not re.search(r"^Zone: ", said, re.MULTILINE) or not re.search(r"\bMay import: ", said):
            silent.append(str(path.relative_to(repository)))
    assert silent == []


def test_every_folder_of_modules_is_a_package(repository: Path) -> None:
    folders = {path.parent for path in modules(repository)}
    assert sorted(str(f.relative_to(repository)) for f in folders if not (f / "__init__.py").exists()) == []


def test_every_module_has_a_docstring(repository: Path) -> None:
    silent = [p for p in modules(repository) if not ast.get_docstring(ast.parse(p.read_text()))]
    assert [str(p.relative_to(repository)) for p in silent] == []


def test_no_module_has_a_name_that_says_nothing(repository: Path) -> None:
    empty = [p for p in sources(repository, *PACKAGES, "tests") if {p.stem, p.parent.name} & EMPTY_NAMES]
    assert [str(p.relative_to(repository)) for p in empty] == []


def test_no_module_holds_two_ideas(repository: Path) -> None:
    long = {p: len(p.read_text().splitlines()) for p in sources(repository, *PACKAGES, "tests")}
    assert {str(p.relative_to(repository)): n for p, n in long.items() if n > LONGEST_MODULE} == {}


def test_tests_replace_no_real_part(repository: Path) -> None:
    this = Path(__file__).resolve()
    mocked = re.compile(r"\bunittest\.mock\b|\bMagicMock\b|\bmonkeypatch\.setattr\b|\bmocker\.")
    offenders = [p for p in sources(repository, "tests") if p != this and mocked.search(p.read_text())]
    assert [str(p.relative_to(repository)) for p in offenders] == []


@pytest.mark.parametrize("folder", PACKAGES)
def test_every_folder_of_the_architecture_exists(repository: Path, folder: str) -> None:
    assert (repository / folder / "__init__.py").is_file()


def test_every_path_that_the_architecture_names_exists(repository: Path) -> None:
    page = (repository / "ARCHITECTURE.md").read_text()
    missing = []
    for cell in re.findall(
        r"^\|(?: [a-z_, ]+ \| (?:host|enclave|host, then enclave) \|)? ([^|]*/[^|]*) \|", page, re.MULTILINE
    ):
        top = ""
        for word in cell.split(", "):
            if "/" in word:
                top = word.rpartition("/")[0]
            path = word if "/" in word else f"{top}/{word}"
            if "/" in path and not (repository / path).exists():
                missing.append(path)
    assert missing == []


def test_every_decision_is_listed(repository: Path) -> None:
    folder = repository / "docs/adr"
    listed = set(re.findall(r"\((\d{4}-[a-z0-9-]+\.md)\)", (folder / "README.md").read_text()))
    assert listed == {path.name for path in folder.glob("[0-9]*.md")}
