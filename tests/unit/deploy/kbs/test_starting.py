"""The broker starts whole or not at all."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path

import pytest

from deploy.kbs import owner
from deploy.kbs.certificates import Authority
from deploy.kbs.config import KbsConfig
from deploy.kbs.server import KbsServer, broker
from orchestrator.faults import Code, Permanent


def refused(config, code=Code.INPUT):
    with pytest.raises(Permanent) as fault:
        KbsServer(config)
    assert fault.value.code == code
    return fault.value.diagnostics()


def test_a_whole_owner_starts(config):
    broker(config)


@pytest.mark.parametrize("missing", ["token.key", "token.pem", "ca.pem", "admin.pem"])
def test_without_a_key_or_certificate_it_does_not_start(config, missing):
    (config.state.parent / missing).unlink()
    assert missing in refused(config, Code.NOT_FOUND)


@pytest.mark.parametrize("damaged", ["token.key", "token.pem", "ca.pem", "admin.pem", "tls.pem", "tls.key"])
def test_with_a_damaged_key_or_certificate_it_does_not_start_and_does_not_quote_it(config, damaged):
    path = config.state.parent / damaged
    path.write_bytes(b"-----BEGIN PRIVATE KEY-----\nc2VjcmV0\n-----END PRIVATE KEY-----\n")
    assert "c2VjcmV0" not in refused(config)


@pytest.mark.parametrize("policy", ["resource-policy", "default_cpu"])
def test_without_a_policy_it_does_not_start(config, policy):
    (config.state / f"policies/{policy}.rego").unlink()
    assert policy in refused(config)


def test_with_a_broken_policy_it_does_not_start(config):
    (config.state / "policies/resource-policy.rego").write_text("package policy\nallow {")
    assert "policy is missing or broken" in refused(config)


@pytest.mark.parametrize("damage", [b"", b"[]", b'{"a": 1', b"\xff"])
def test_with_damaged_reference_values_it_does_not_start(config, damage):
    (config.state / "reference-values.json").write_bytes(damage)
    assert "reference values are damaged" in refused(config)


def test_without_any_trusted_root_it_does_not_start(config):
    assert "no root is trusted" in refused(replace(config, simulated_roots=()))


def test_a_missing_or_damaged_root_stops_it(config):
    root = config.simulated_roots[0].root
    root.write_bytes(b"\x30\x00")
    assert "is no certificate" in refused(config)
    root.unlink()
    refused(config, Code.NOT_FOUND)


def test_a_token_signer_of_another_authority_stops_it(config):
    signer = Authority().token_signer()
    config.token_key.write_bytes(signer.key)
    config.token_certificate.write_bytes(signer.certificate)
    assert "refused by every client" in refused(config)


def test_a_token_certificate_for_another_key_stops_it(config):
    config.token_key.write_bytes(Authority().token_signer().key)
    assert "for another key" in refused(config)


def test_the_tls_key_may_not_sign_tokens(config):
    assert "not for TLS servers" in refused(
        replace(config, token_key=config.tls_key, token_certificate=config.tls_certificate)
    )


def test_an_owner_is_made_once_and_privately(tmp_path):
    made = owner.create(tmp_path / "own", names=["kbs.example", "192.0.2.7"])
    assert {file.path.name for file in made} >= {"ca.key", "ca.pem", "admin.key", "kbs.toml", "default_cpu.rego"}
    for file in made:
        assert file.path.stat().st_mode & 0o777 == 0o600
    with pytest.raises(Permanent) as fault:
        owner.create(tmp_path / "own")
    assert fault.value.code == Code.INPUT


@pytest.mark.parametrize("wrong", [{"names": ["é.example"]}, {"listen": "nowhere"}, {"listen": "127.0.0.1:65536"}])
def test_an_impossible_address_makes_nothing(tmp_path, wrong):
    with pytest.raises(Permanent) as fault:
        owner.create(tmp_path / "own", **wrong)
    assert fault.value.code == Code.INPUT
    assert not any(path.is_file() for path in tmp_path.rglob("*"))


CONFIG = """
listen = "[::1]:8443"
state = "state"
session_minutes = 5
[tls]
certificate = "tls.pem"
key = "/etc/tls.key"
[token]
certificate = "token.pem"
key = "token.key"
ca = "ca.pem"
minutes = 5
[admin]
public_key = "admin.pem"
issuer = "me"
[sgx]
intel_collateral = "collateral"
[[sgx.simulated_roots]]
name = "node-1"
root = "root.der"
collateral = "collateral.json"
"""


def load(tmp_path, text):
    path = tmp_path / "kbs.toml"
    path.write_text(text)
    return KbsConfig.load(path)


def test_a_configurations_paths_are_relative_to_it(tmp_path):
    config = load(tmp_path, CONFIG)
    assert (config.host, config.port) == ("::1", 8443)
    assert config.tls_certificate == tmp_path / "tls.pem"
    assert config.tls_key == Path("/etc/tls.key")
    assert config.intel_collateral == tmp_path / "collateral"
    assert config.simulated_roots[0].root == tmp_path / "root.der"


@pytest.mark.parametrize(
    ("old", "new", "named"),
    [
        ('listen = "[::1]:8443"', "", "listen"),
        ('"[::1]:8443"', '"::1:8443"', "address to listen at"),
        ('"[::1]:8443"', '"localhost"', "address to listen at"),
        ('"[::1]:8443"', '"localhost:70000"', "address to listen at"),
        ('"[::1]:8443"', '"https://localhost:1"', "address to listen at"),
        ("session_minutes = 5", "session_minutes = 0", "session_minutes"),
        ("session_minutes = 5", "session_minutes = 1441", "session_minutes"),
        ("session_minutes = 5", "session_minutes = true", "session_minutes"),
        ("session_minutes = 5", 'session_minutes = "5"', "session_minutes"),
        ("session_minutes = 5", "session_minutes = 5\ninsecure_http = true", "insecure_http"),
        ('issuer = "me"', 'issuer = ""', "admin.issuer"),
        ('issuer = "me"', 'issuer = "me"\nmode = "InsecureAllowAll"', "admin.mode"),
        ('name = "node-1"', 'name = "node-1"\nsimulated = false', "sgx.simulated_roots.simulated"),
        ("[[sgx.simulated_roots]]", "[sgx.simulated_roots]", "sgx.simulated_roots"),
        ("[admin]", "[administrator]", "admin"),
        ("minutes = 5\n[admin]", "[admin]", "token.minutes"),
    ],
)
def test_a_configuration_that_is_not_exactly_one_is_refused_by_the_members_name(tmp_path, old, new, named):
    with pytest.raises(Permanent, match=named) as fault:
        load(tmp_path, CONFIG.replace(old, new, 1))
    assert fault.value.code == Code.INPUT


def test_no_configuration_and_no_toml_are_told_apart(tmp_path):
    with pytest.raises(Permanent) as fault:
        KbsConfig.load(tmp_path / "none.toml")
    assert fault.value.code == Code.NOT_FOUND
    with pytest.raises(Permanent, match="not TOML"):
        load(tmp_path, "listen")
