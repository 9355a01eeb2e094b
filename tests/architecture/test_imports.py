"""Who imports whom: the contracts of pyproject.toml, and the allow-list that forbidding cannot say."""

from __future__ import annotations

import subprocess
import sys
from pathlib import Path

import grimp

WORKERS_MAY_IMPORT = {"lifecycle", "bodies", "events", "faults", "launch", "fold", "log", "bus"}
"""Modules and packages of the orchestrator: what a launch is, and how to tell of it."""


def test_every_import_contract_is_kept(repository: Path) -> None:
    linter = Path(sys.executable).with_name("lint-imports")
    kept = subprocess.run([linter, "--no-logo"], cwd=repository, capture_output=True, text=True, check=False)
    assert kept.returncode == 0, kept.stdout


def test_workers_import_nothing_else_of_the_control_plane() -> None:
    graph = grimp.build_graph("orchestrator", "workers")
    strays = {
        f"{importer} -> {imported}"
        for importer in graph.find_descendants("workers")
        for imported in graph.find_modules_directly_imported_by(importer)
        if imported.startswith("orchestrator.") and imported.split(".")[1] not in WORKERS_MAY_IMPORT
    }
    assert strays == set()
