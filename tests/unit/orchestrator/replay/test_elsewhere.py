"""An exported launch on another machine: no bus, no network, no privilege, nothing but the file and the policy."""

from __future__ import annotations

import os
import subprocess
import sys
from pathlib import Path

import pytest

from orchestrator.audit.bundle import prove
from orchestrator.audit.reader import LogReader
from orchestrator.audit.search import of_launch
from orchestrator.audit.storage import Folder
from orchestrator.bus import subjects
from orchestrator.replay import bundle
from orchestrator.replay.redaction import NAMES, redact
from tests.simulators import audit_logs
from tests.simulators.history import History

COMMAND = Path(sys.executable).with_name("enclave-cc")
ELSEWHERE = ("unshare", "--user", "--map-user=65534", "--map-group=65534", "--net", "--")
"""A user without any privilege, in a network that has not even its loopback up."""


@pytest.fixture
def files(tmp_path: Path) -> Path:
    """`whole` and `redacted`, both with proofs, and `policy`."""
    history = History()
    history.up_to_booted()
    messages = audit_logs.messages(history)
    audit_logs.write_messages(tmp_path / "log", messages)
    reader, policy = LogReader(Folder(tmp_path / "log")), audit_logs.policy()
    accepted = policy.accept(reader.checkpoint())
    found = of_launch(reader, len(messages), history.pod)
    proofs = bundle.proofs_of(prove(history.pod, found, reader, accepted, b""))
    stored = [(message.sequence, message.raw) for message in messages]
    whole = bundle.export(history.pod, subjects.history(history.pod), "payments/redis-0", stored, "now", proofs)
    (tmp_path / "whole").write_bytes(bundle.encode(whole))
    (tmp_path / "redacted").write_bytes(bundle.encode(redact(whole, set(NAMES) & {item.kind for item in whole.items})))
    audit_logs.write_policy(tmp_path / "policy")
    return tmp_path


def run(home: Path, *command: str | Path) -> str:
    environment = {"PATH": os.environ["PATH"], "HOME": str(home), "LANG": "C.UTF-8"}
    shown = subprocess.run(
        [*ELSEWHERE, *map(str, command)], env=environment, capture_output=True, text=True, check=False, timeout=60
    )
    assert shown.returncode == 0, shown.stdout + shown.stderr
    return shown.stdout


def test_there_is_no_privilege_and_no_network(tmp_path: Path) -> None:
    assert run(tmp_path, "id", "-u") == "65534\n"
    assert "state DOWN" in run(tmp_path, "ip", "-o", "link")
    assert "CapEff:\t0000000000000000" in run(tmp_path, "cat", "/proc/self/status")


def test_it_is_imported_proved_replayed_described_and_compared(files: Path) -> None:
    imported = run(files, COMMAND, "import", files / "whole", "--policy", files / "policy")
    assert "today's code decides every message as it was decided" in imported
    assert "proved: 11 of its 11 messages are in test.example/audit at size 11; witnesses: w0 at" in imported
    name = imported.split("kept as ")[1].strip()
    assert "not checked: the audit log's proofs" in run(files, COMMAND, "import", files / "whole")
    assert "as they were decided" in run(files, COMMAND, "replay", name)
    assert "nothing of it has failed" in run(files, COMMAND, "describe", name)
    assert "every step came out the same" in run(files, COMMAND, "diff", name, files / "whole")


def test_of_a_redacted_one_the_proofs_hold_and_what_cannot_be_checked_is_told(files: Path) -> None:
    imported = run(files, COMMAND, "import", "--check-only", files / "redacted", "--policy", files / "policy")
    assert "names were taken out" in imported
    assert "not checked: the contents of pod-requested" in imported
    assert "the pod is attested, container 0f0f0f0f0f0f is app-booted; nothing of it has failed" in imported
    assert "proved: 11 of its 11 messages are in test.example/audit at size 11; witnesses: w0 at" in imported
    assert b"redis" not in (files / "redacted").read_bytes()
