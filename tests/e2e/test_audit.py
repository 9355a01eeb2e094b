"""The audit log of a real stack: every fact of a real launch, proved down to the (simulated) CPU's quote."""

from __future__ import annotations

import json
import subprocess
import sys
from pathlib import Path

import pytest

from tests.e2e.cluster import Cluster
from tests.waiting import eventually

pytestmark = pytest.mark.e2e
PROGRAM = Path(sys.executable).with_name("enclave-cc")


def test_a_launch_is_logged_proved_and_verified_elsewhere(cluster: Cluster, tmp_path: Path) -> None:
    reference = cluster.publish_web("audited:1")
    with cluster.launched(reference) as launched:
        pod = launched.pod.id
    facts = len(cluster.histories()[pod])
    place, bundle = cluster.layout.root, tmp_path / "launch.zip"

    def audit(*arguments: str | Path) -> subprocess.CompletedProcess[str]:
        config = ("--config", cluster.layout.client_config) if "--policy" not in arguments else ()
        return subprocess.run(
            [PROGRAM, "audit", *arguments, *config], capture_output=True, text=True, timeout=60, check=False
        )

    def all_logged() -> bool:
        found = audit("search", "--launch", pod, "--json")
        return found.returncode == 0 and len(found.stdout.splitlines()) == facts

    eventually(lambda: all_logged() or None)
    whole = audit("verify", "--stream", "--max-age", "600", "--json")
    assert whole.returncode == 0, whole.stdout
    assert [check["number"] for check in json.loads(whole.stdout)["checks"]] == list(range(1, 10))
    assert audit("prove", pod, "--out", bundle).returncode == 0
    policy = tmp_path / "policy"
    policy.write_bytes((place / "audit.policy").read_bytes())
    pki = place / "cpu/pki"
    trusted = ("--root", pki / "root.der", "--collateral", pki / "collateral.json")
    verified = audit("verify", bundle, "--policy", policy, *trusted, "--json")
    assert verified.returncode == 0, verified.stdout
    told = json.loads(verified.stdout)
    assert [check["number"] for check in told["checks"]] == [1, 2, 3, 4, 5, 6]
    assert any("genuine under the given root" in sentence for sentence in told["proved"])

    def run(*arguments: str | Path) -> str:
        return subprocess.run([PROGRAM, *arguments], capture_output=True, text=True, timeout=60, check=True).stdout

    file = tmp_path / "launch.jsonl"
    for options in ((), ("--redact", "names")):
        exported = run("export", pod, "-o", file, "--config", cluster.layout.client_config, *options)
        assert f"{facts} messages, {facts} with proofs" in exported
        imported = run("import", "--check-only", file, "--policy", policy)
        assert f"proved: {facts} of its {facts} messages are in" in imported


def test_the_writer_goes_on_where_it_was_killed(cluster: Cluster) -> None:
    config = cluster.layout.client_config

    def size() -> int:
        shown = subprocess.run(
            [PROGRAM, "audit", "checkpoint", "--json", "--config", config], capture_output=True, text=True, check=False
        )
        return int(json.loads(shown.stdout)["size"]) if shown.returncode == 0 else 0

    subprocess.run(["kill", "-9", str(cluster.pid("audit"))], check=True)
    with cluster.launched(cluster.publish_web("audited:2")) as launched:
        pod = launched.pod.id
    stored = sum(len(history) for history in cluster.histories().values())
    eventually(lambda: size() == stored or None)
    assert pod
    verified = subprocess.run([PROGRAM, "audit", "verify", "--stream", "--config", config], check=False)
    assert verified.returncode == 0
