"""Where the command line finds the bus, and what it says when it does not."""

from __future__ import annotations

import os
import subprocess
from pathlib import Path

import pytest

from orchestrator.bus.settings import BusSettings
from orchestrator.cli import subcommand
from orchestrator.cli.subcommand import settings_path
from orchestrator.faults import Code, Permanent
from tests.unit.orchestrator.cli.conftest import PROGRAM

COMMANDS = ("launches", "show", "events", "follow", "verify", "resume", "fork", "stop")


def test_settings_are_read_back_as_they_were_written(tmp_path: Path) -> None:
    path = tmp_path / "client.toml"
    for settings in (
        BusSettings("nats://127.0.0.1:1"),
        BusSettings("tls://127.0.0.1:1", "/a b/ca.pem", '/"quoted"/x.creds', "_INBOX_reader"),
    ):
        path.write_text(settings.text())
        assert BusSettings.load(path) == settings


def test_settings_become_credentials_for_their_role(tmp_path: Path) -> None:
    authority = tmp_path / "ca.pem"
    authority.write_text("PEM")
    entered = BusSettings("tls://x", str(authority), "/x.creds", "_INBOX_reader").enter()
    assert (entered.url, entered.ca_pem, entered.file, entered.inbox) == ("tls://x", "PEM", "/x.creds", "_INBOX_reader")
    assert BusSettings("nats://x").enter().inbox == "_INBOX"
    with pytest.raises(Permanent, match="E-INPUT-001"):
        BusSettings("tls://x", str(tmp_path / "none")).enter()


@pytest.mark.parametrize(
    "text",
    ["", "x", "[bus]", "[bus]\nurl = 1", "[bus]\nurl = ''", "[bus]\nurl = 'x'\nseed = 'y'", "[bus]\nurl='x'\n[more]"],
)
def test_settings_of_another_form_are_refused(tmp_path: Path, text: str) -> None:
    path = tmp_path / "client.toml"
    path.write_text(text)
    with pytest.raises(Permanent) as caught:
        BusSettings.load(path)
    assert caught.value.code is Code.INPUT


def test_no_settings_is_not_found_and_says_who_writes_them(tmp_path: Path) -> None:
    with pytest.raises(Permanent, match="E-INPUT-002") as caught:
        BusSettings.load(tmp_path / "none.toml")
    assert "enclave-cc up" in caught.value.diagnostics()


def test_the_option_goes_before_the_stack_and_both_before_the_environment(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv(subcommand.ENVIRONMENT, "/from/environment.toml")
    assert settings_path(Path("/given.toml"), "demo") == Path("/given.toml")
    assert settings_path(None, "demo") == Path("/var/lib/enclave-cc/stacks/demo/client.toml")
    assert settings_path(None, None) == Path("/from/environment.toml")
    monkeypatch.delenv(subcommand.ENVIRONMENT)
    assert settings_path(None, None) in {subcommand.MACHINE, Path("/var/lib/enclave-cc/stacks/default/client.toml")}


@pytest.mark.parametrize("command", COMMANDS)
def test_every_help_tells_the_exit_codes_and_where_the_bus_is(command: str) -> None:
    shown = subprocess.run([PROGRAM, command, "--help"], capture_output=True, text=True, check=True).stdout
    words = " ".join(shown.split())
    assert "Exit codes: 0 done, 1 a fault, 2 used wrongly, 3 not found, 4 verification failed" in words
    assert "--config FILE" in words
    assert "--json" in words


def test_a_stack_that_is_not_there_ends_with_3(tmp_path: Path) -> None:
    environment = {**os.environ, "ENCLAVE_CC_CONFIG": str(tmp_path / "none")}
    for arguments in (["launches"], ["launches", "--name", "no-such-stack"]):
        shown = subprocess.run([PROGRAM, *arguments], capture_output=True, text=True, check=False, env=environment)
        assert shown.returncode == 3
        assert shown.stderr.startswith("E-INPUT-002")
