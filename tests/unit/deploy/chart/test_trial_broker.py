"""The trial's key broker reads the configuration that the chart renders, with an owner's keys and first policies."""

from __future__ import annotations

from pathlib import Path

import pytest
from click.testing import CliRunner

from deploy.cli import enclave_cc
from deploy.kbs.config import KbsConfig
from deploy.kbs.owner import default_policy
from deploy.kbs.state import PolicyId
from tests.helm import render
from tests.unit.deploy.chart.conftest import BROKERS

NAME = "enclave-cc-kbs.enclave-cc-system.svc"


def typed(*words: str | Path) -> str:
    done = CliRunner().invoke(enclave_cc, ["kbs", *map(str, words)], catch_exceptions=False)
    assert done.exit_code == 0, done.output
    return done.output


def configured(broker: str, folder: Path) -> KbsConfig:
    text = render(*BROKERS[broker]).one("ConfigMap", "enclave-cc-kbs")["data"]["kbs.toml"]
    owner, config = folder / "owner", folder / "kbs.toml"
    config.write_text(text.replace("/etc/kbs/keys", str(owner)).replace('"/data', f'"{folder}/data'))
    return KbsConfig.load(config)


@pytest.mark.parametrize("broker", ["sim", "hardware"])
def test_its_configuration_names_an_owners_files(broker: str, tmp_path: Path) -> None:
    typed("init", tmp_path / "owner", "--name", NAME)
    read = configured(broker, tmp_path)
    for file in (read.tls_certificate, read.tls_key, read.token_certificate, read.token_key, read.token_ca):
        assert file.is_file()
    assert read.admin_public_key.is_file()
    assert [root.name for root in read.simulated_roots] == (["a"] if broker == "sim" else [])
    assert (read.intel_collateral is None) is (broker == "sim")
    assert (read.host, read.port) == ("0.0.0.0", 8443)


def test_the_first_policies_are_copied_once_and_what_the_owner_set_later_stays(tmp_path: Path) -> None:
    typed("init", tmp_path / "owner")
    policies, state = tmp_path / "owner/state/policies", tmp_path / "data/state"
    assert typed("first-policies", policies, state) == "".join(f"{policy}.rego: the first\n" for policy in PolicyId)
    kept = state / "policies" / f"{PolicyId.RESOURCE}.rego"
    assert kept.read_bytes() == default_policy(PolicyId.RESOURCE)
    kept.write_text("package policy\n")
    assert typed("first-policies", policies, state) == ""
    assert kept.read_text() == "package policy\n"


def test_a_policy_that_nobody_gave_is_missed(tmp_path: Path) -> None:
    (tmp_path / "policies").mkdir()
    done = CliRunner().invoke(
        enclave_cc, ["kbs", "first-policies", str(tmp_path / "policies"), str(tmp_path / "state")]
    )
    assert done.exit_code == 1
    assert "a policy is missing" in done.output
