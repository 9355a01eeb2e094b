"""The one command: fast to start, completed by three shells, telling faults."""

from __future__ import annotations

import re
import shutil
import subprocess
import sys
from pathlib import Path

import pytest

from deploy.cli import SUBCOMMANDS

PROGRAM = Path(sys.executable).with_name("enclave-cc")


def run(*arguments: str) -> subprocess.CompletedProcess[str]:
    return subprocess.run([PROGRAM, *arguments], capture_output=True, text=True, check=False, timeout=60)


def test_help_imports_no_subcommand() -> None:
    script = (
        "import sys; from deploy.cli import enclave_cc; enclave_cc(['--help'], standalone_mode=False); "
        "print(*sorted(sys.modules), file=sys.stderr)"
    )
    shown = subprocess.run([sys.executable, "-c", script], capture_output=True, text=True, check=True)
    loaded = set(shown.stderr.split())
    assert loaded.isdisjoint({"rich", "asyncio", "nats", "grpc", "starlette", "cryptography", "deploy.local"})
    assert all(name in shown.stdout for name in SUBCOMMANDS)


@pytest.mark.parametrize("name", SUBCOMMANDS)
def test_every_subcommand_of_the_table_is_there_and_says_what_it_does(name: str) -> None:
    shown = run(name, "--help")
    assert shown.returncode == 0, shown.stderr
    assert f"enclave-cc {name}" in shown.stdout


@pytest.mark.parametrize("shell", ["bash", "zsh", "fish"])
def test_a_completion_script_is_printed_for_each_shell(shell: str) -> None:
    shown = run("completion", shell)
    assert shown.returncode == 0
    assert "_ENCLAVE_CC_COMPLETE" in shown.stdout
    if interpreter := shutil.which(shell):
        subprocess.run([interpreter, "-n"], input=shown.stdout, text=True, check=True)


def test_a_fault_is_told_with_its_code_and_advice() -> None:
    told = run("status", "--name", "there-is-none")
    assert told.returncode == 1
    assert re.match(r"E-INPUT-002: .*\n  expected: .*\n  got: .*\n  try: ", told.stderr)
    assert "Traceback" not in told.stderr
