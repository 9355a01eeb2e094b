"""A policy in a file, and a log's folder beside it."""

from __future__ import annotations

from pathlib import Path

import pytest

from orchestrator.audit.reader import LogReader
from orchestrator.audit.storage import Folder
from tests.simulators.audit_logs import write_policy


@pytest.fixture
def place(tmp_path: Path) -> Path:
    """Where a settings file would lie: `audit` is the log's folder, `audit.policy` asks for no witness."""
    write_policy(tmp_path / "audit.policy", 0)
    return tmp_path


@pytest.fixture
def folder(place: Path) -> Path:
    return place / "audit"


@pytest.fixture
def reader(folder: Path) -> LogReader:
    return LogReader(Folder(folder))
