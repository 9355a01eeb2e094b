"""The owner's command line, against a running broker and as a process of its own."""

from __future__ import annotations

import json
import re
import signal
import subprocess
import sys

import pytest
from click.testing import CliRunner

from deploy.kbs.cli import kbs, reference_json
from orchestrator.faults import Code, Permanent
from tests.simulators.broker import Broker, Enclave
from workers.enclave.kbs import ResourceUri

SECRET = b"\x00\xffsecret\n"
URI = "kbs:///default/image-key/redis"


@pytest.fixture(scope="module")
def running(tmp_path_factory, pki):
    with Broker(tmp_path_factory.mktemp("cli") / "owner", pki) as broker:
        yield broker


def run(broker, *arguments, stdin=None):
    return CliRunner().invoke(kbs, ["--home", str(broker.home), "--url", broker.url, *arguments], input=stdin)


def done(broker, *arguments, stdin=None):
    result = run(broker, *arguments, stdin=stdin)
    assert result.exit_code == 0, result.output
    return result.output


def test_an_owner_stores_and_an_enclave_reads(running, pki, tmp_path):
    enclave = Enclave(pki, mrenclave=b"\x11" * 32)
    assert URI in done(running, "put-resource", URI, "-", stdin=SECRET)
    done(running, "reference-value", "sgx_mr_enclave", enclave.mrenclave.hex())
    done(running, "reference-value", "allow_simulated", "true")
    client = running.client(enclave)
    assert client.get_resource(ResourceUri.parse(URI)) == SECRET
    (tmp_path / "new").write_bytes(b"new")
    done(running, "put-resource", URI, str(tmp_path / "new"))
    assert client.get_resource(ResourceUri.parse(URI)) == b"new"
    (tmp_path / "deny.rego").write_text("package policy\nimport rego.v1\ndefault allow := false\n")
    done(running, "set-policy", "resource", str(tmp_path / "deny.rego"))
    with pytest.raises(Permanent) as fault:
        client.get_resource(ResourceUri.parse(URI))
    assert fault.value.code == Code.KEY_DENIED
    done(running, "delete-resource", URI)
    assert run(running, "delete-resource", URI).exit_code == 1
    client.close()


def test_an_attestation_policy_is_replaced(running, tmp_path):
    (tmp_path / "new.rego").write_text("package policy\ntrust_claims := {}\n")
    done(running, "set-policy", "attestation", str(tmp_path / "new.rego"))
    assert (running.config.state / "policies/default_cpu.rego").read_text() == "package policy\ntrust_claims := {}\n"


@pytest.mark.parametrize(
    ("arguments", "code"),
    [
        (("put-resource", "kbs:///a/b", "-"), "E-INPUT-001"),
        (("put-resource", "kbs://host/a/b/c", "-"), "E-INPUT-001"),
        (("delete-resource", "kbs:///a/b/absent"), "E-INPUT-001"),
        (("set-policy", "resource", "-"), "E-INPUT-001"),
        (("reference-value", "sgx_mr_enclave", "AB" * 32), "E-INPUT-001"),
        (("--home", "/nonexistent", "put-resource", "kbs:///a/b/c", "-"), "E-INPUT-002"),
    ],
)
def test_a_refusal_is_a_diagnosis_and_a_status(running, arguments, code):
    result = run(running, *arguments, stdin="package policy\nallow {")
    assert result.exit_code == 1
    assert code in result.output
    assert "Traceback" not in result.output


def test_a_resource_over_two_mebibytes_is_not_sent(running):
    assert "too large" in run(running, "put-resource", URI, "-", stdin=bytes(2 * 2**20 + 1)).output


def test_a_broker_that_is_not_there_is_said_to_be_away(running):
    result = CliRunner().invoke(
        kbs, ["--home", str(running.home), "--url", "https://127.0.0.1:1", "delete-resource", URI]
    )
    assert (result.exit_code, "E-KEY-003" in result.output) == (1, True)


@pytest.mark.parametrize(
    ("name", "values", "value"),
    [
        ("allow_simulated", ("true",), True),
        ("allow_simulated", ("false",), False),
        ("sgx_tcb_status", ("UpToDate", "SWHardeningNeeded"), ["UpToDate", "SWHardeningNeeded"]),
        ("sgx_mr_enclave", ("ab" * 32, "cd" * 32), ["ab" * 32, "cd" * 32]),
        ("sgx_config_id", ("ab" * 32, "cd" * 64), ["ab" * 32 + "00" * 32, "cd" * 64]),
        ("anything", ("true", "false"), ["true", "false"]),
    ],
)
def test_what_words_become(name, values, value):
    assert reference_json(name, values) == value


@pytest.mark.parametrize("value", ["", "ab", "AB" * 32, "zz" * 32, "ab" * 32 + "\n", "ab" * 33])
@pytest.mark.parametrize("name", ["sgx_mr_enclave", "sgx_config_id"])
def test_a_measurement_that_is_none_is_refused_before_it_is_sent(name, value):
    with pytest.raises(Permanent):
        reference_json(name, (value,))


def test_init_prints_what_it_made_and_serve_serves_it(tmp_path, pki):
    pki.store(tmp_path)
    result = CliRunner().invoke(
        kbs,
        ["init", str(tmp_path / "own"), "--listen", "127.0.0.1:0", "--simulated-root", "here"]
        + [str(tmp_path / "root.der"), str(tmp_path / "collateral.json")],
    )
    assert result.exit_code == 0, result.output
    for line in result.output.splitlines():
        path, _, purpose = line.partition(": ")
        assert (tmp_path / path).exists()
        assert purpose
    serve = [sys.executable, "-c", "from deploy.kbs.cli import kbs; kbs()", "--home", str(tmp_path / "own"), "serve"]
    with subprocess.Popen(serve, stderr=subprocess.PIPE, text=True) as process:
        try:
            first = json.loads(process.stderr.readline())
            assert first["event"] == "serving"
            assert re.fullmatch(r"https://127\.0\.0\.1:[0-9]+", first["url"])
            output = CliRunner().invoke(
                kbs, ["--home", str(tmp_path / "own"), "--url", first["url"], "put-resource", URI, "-"], input=SECRET
            )
            assert output.exit_code == 0, output.output
            line = json.loads(process.stderr.readline())
            assert (line["event"], line["uri"], line["bytes"]) == ("resource stored", URI, len(SECRET))
        finally:
            process.terminate()
            rest = process.stderr.read()
        assert all(json.loads(line) for line in rest.splitlines())
    assert process.returncode == -signal.SIGTERM


def test_serve_without_an_owner_is_a_diagnosis(tmp_path):
    result = CliRunner().invoke(kbs, ["--home", str(tmp_path), "serve"])
    assert result.exit_code == 1
    assert "enclave-cc kbs init" in result.output
