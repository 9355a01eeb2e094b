"""What every test may ask for. Nothing here replaces a real part; simulators/ stands in for hardware."""

from __future__ import annotations

import os
from collections.abc import Iterator
from pathlib import Path

import pytest
import structlog
from hypothesis import settings

from tests import tables

# gRPC, which no enclave has, restarts its threads in whatever this process forks. There they close descriptors that
# have become others': a FUSE mount's, of a server of sealed stores.
os.environ["GRPC_ENABLE_FORK_SUPPORT"] = "0"

# No test asserts a time: a busy machine is no defect.
settings.register_profile("suite", deadline=None)
settings.load_profile("suite")

ROOT = Path(__file__).resolve().parent.parent

# A Kubernetes that is first built takes longer than the whole suite: `just e2e-kubernetes` names its folder.
collect_ignore = ["kubernetes"]


@pytest.fixture(scope="session")
def repository() -> Path:
    """The top of this repository."""
    return ROOT


@pytest.fixture(autouse=True)
def _logging_is_each_tests_own() -> Iterator[None]:
    """Commands configure it for their process; where a test runs one in ours, the next test must not be silenced."""
    before = structlog.get_config()
    structlog.configure(cache_logger_on_first_use=False)
    yield
    structlog.configure(**before)


def pytest_collection_modifyitems(items: list[pytest.Item]) -> None:
    """Refuse, rather than skip, the tests that need root: a suite that skipped them would prove nothing."""
    if os.geteuid() != 0 and any(item.get_closest_marker("e2e") for item in items):
        raise pytest.UsageError("the tests marked e2e start containers and need root: sudo sh deploy/setup.sh test")


def pytest_terminal_summary(terminalreporter: pytest.TerminalReporter) -> None:
    """Print the tables that tests filled."""
    reports = (report for reports in terminalreporter.stats.values() for report in reports)
    cells = (cell for report in reports for cell in getattr(report, "user_properties", ()))
    for title, rows in tables.collect(cells).items():
        terminalreporter.section(title)
        for line in tables.lines(rows):
            terminalreporter.write_line(line)
