"""Every process's log: JSON lines that say whose they are."""

from __future__ import annotations

import json
import subprocess
import sys

SCRIPT = """
import logging, structlog
from orchestrator.log import configure
configure("agent")
structlog.get_logger().info("step", pod="x", attempt=1)
logging.getLogger("some.library").info("quiet")
logging.getLogger("some.library").warning("careful: %s", "now")
"""


def test_our_lines_and_libraries_warnings_are_json_with_the_process_and_the_time() -> None:
    ran = subprocess.run([sys.executable, "-c", SCRIPT], capture_output=True, text=True, check=True)
    ours, theirs = [json.loads(line) for line in ran.stderr.splitlines()]
    assert ran.stdout == ""
    assert (ours["process"], ours["level"], ours["event"], ours["pod"], ours["attempt"]) == (
        "agent",
        "info",
        "step",
        "x",
        1,
    )
    assert ours["timestamp"].endswith("Z")
    assert (theirs["event"], theirs["level"], theirs["library"]) == ("careful: now", "warning", "some.library")
