"""The owner's commands as a person types them: what they print, write and refuse."""

from __future__ import annotations

import json
import stat
from pathlib import Path

import pytest
from click.testing import CliRunner, Result

from deploy.publish.cli import keygen, policy, publish
from deploy.publish.cosign_key import SigningKey
from deploy.publish.output import output_key
from deploy.publish.policies import PolicyFolder
from orchestrator.faults import Code, Fault
from tests.simulators import oci
from tests.simulators.broker import Broker
from tests.simulators.docker_registry import DockerRegistry
from workers.host.libos.sim.pki import SimulatedPki

MEASUREMENT = "ab" * 32


def run(command, *arguments: object, typed: str | None = None) -> Result:
    return CliRunner().invoke(command, [str(argument) for argument in arguments], input=typed)


def fault(result: Result) -> Fault:
    assert isinstance(result.exception, Fault), result.output
    return result.exception


@pytest.fixture
def key(tmp_path: Path) -> Path:
    (tmp_path / "password").write_text("hunter2\n")
    assert run(keygen, tmp_path / "cosign", "--password-file", tmp_path / "password").exit_code == 0
    return tmp_path / "cosign.key"


class TestKeygen:
    def test_it_makes_a_pair_of_which_the_private_half_is_encrypted_and_private(self, key) -> None:
        made = SigningKey.read(key.read_bytes(), b"hunter2")
        assert key.with_suffix(".pub").read_bytes() == made.public_pem()
        assert stat.S_IMODE(key.stat().st_mode) == 0o600

    def test_it_asks_for_the_password_twice(self, tmp_path) -> None:
        result = run(keygen, tmp_path / "k", typed="pw\npw\n")
        assert result.exit_code == 0
        assert SigningKey.read((tmp_path / "k.key").read_bytes(), b"pw")
        assert "pw" not in result.output.replace("Password", "").split()

    def test_it_never_replaces_a_key(self, key) -> None:
        before = key.read_bytes()
        assert fault(run(keygen, key.with_suffix(""), typed="x\nx\n")).code is Code.INPUT
        assert key.read_bytes() == before


class TestPolicy:
    def test_admit_and_check(self, key, tmp_path) -> None:
        folder = tmp_path / "policies"
        public = key.with_suffix(".pub")
        admitted = run(policy, "admit", "r.example/app", "--key", public, "--policies", folder)
        assert admitted.exit_code == 0
        assert "sha256:" in admitted.output
        checked = run(policy, "check", "--policies", folder)
        assert "1 scopes" in checked.output
        assert "1 rules, 0 secrets" in checked.output

    def test_admit_reads_the_name_as_containerd_does(self, key, tmp_path) -> None:
        run(policy, "admit", "redis", "--key", key.with_suffix(".pub"), "--policies", tmp_path / "p")
        written = json.loads((tmp_path / "p/image-policy.json").read_text())
        assert list(written["transports"]["docker"]) == ["docker.io/library/redis"]

    def test_output_is_sealed_for_the_keys_that_are_named_and_for_those_before(self, key, tmp_path) -> None:
        folder, repository = tmp_path / "p", "r.example/app"
        made = [tmp_path / "a.jwk", tmp_path / "b.jwk"]
        assert run(output_key, made[0]).exit_code == 0
        assert run(output_key, made[1], "--curve", "P-256").exit_code == 0
        public = [path.with_name(f"{path.name}.pub") for path in made]
        seal = ["seal-output", repository, "--policies", folder]
        assert fault(run(policy, *seal, "--for", public[0])).code is Code.INPUT
        run(policy, "admit", repository, "--key", key.with_suffix(".pub"), "--policies", folder)
        assert run(policy, *seal, "--for", public[0]).exit_code == 0
        told = run(policy, *seal, "--for", public[0], "--for", public[1])
        assert told.exit_code == 0
        (rule,) = PolicyFolder(folder).check()[1].rules
        assert [each.thumbprint for each in rule.output] == told.output.partition("sealed for ")[2].strip().split(", ")
        assert fault(run(policy, *seal, "--for", made[0])).code is Code.INPUT, "a policy holds no private key"

    def test_a_key_for_output_is_its_owners_alone_and_never_replaced(self, tmp_path) -> None:
        path = tmp_path / "output.jwk"
        shown = run(output_key, path)
        assert path.stat().st_mode & 0o777 == 0o600
        assert json.loads(path.read_text())["d"] not in shown.output
        assert "d" not in json.loads(path.with_name("output.jwk.pub").read_text())
        assert fault(run(output_key, path)).code is Code.INPUT

    def test_check_refuses_what_an_enclave_would(self, tmp_path) -> None:
        (tmp_path / "image-policy.json").write_text('{"default": []}')
        assert fault(run(policy, "check", "--policies", tmp_path)).code is Code.SIGNATURE_POLICY


class TestPublish:
    @pytest.fixture
    def arguments(self, docker_registry: DockerRegistry, key: Path, tmp_path: Path):
        """What a person would type; the broker runs meanwhile."""
        (tmp_path / "registry.pem").write_text(docker_registry.ca_pem)
        layout = oci.write_layout(oci.image([oci.tar({"a": b"a"})]), tmp_path / "layout")
        with Broker(tmp_path / "kbs", SimulatedPki.create(tmp_path / "pki")) as broker:
            yield [
                *(layout, "--to", f"{docker_registry.address}/cli/app:v1", "--kbs", broker.url),
                *("--kbs-ca", tmp_path / "kbs/ca.pem", "--admin-key", tmp_path / "kbs/admin.key"),
                *("--key", key, "--key-password-file", tmp_path / "password", "--policies", tmp_path / "policies"),
                *("--registry-ca", tmp_path / "registry.pem", "--boot-measurement", MEASUREMENT),
            ]

    def test_it_prints_the_reference_by_digest_and_nothing_secret(self, arguments, tmp_path) -> None:
        result = run(publish, *arguments)
        assert result.exit_code == 0, result.output
        assert "/cli/app@sha256:" in result.stdout
        assert "published; key kbs:///default/image-key/cli_app-" in result.stderr
        assert "hunter2" not in result.output
        launch = json.loads((tmp_path / "policies/launch-policy.json").read_text())
        assert launch["boot_measurements"] == [MEASUREMENT]

    def test_a_second_time_it_says_so_and_prints_the_same(self, arguments) -> None:
        first, second = run(publish, *arguments), run(publish, *arguments)
        assert second.exit_code == 0
        assert second.stdout.splitlines()[-1] == first.stdout.splitlines()[-1]
        assert "was published before" in second.stderr

    def test_a_wrong_password_is_refused(self, arguments, tmp_path) -> None:
        (tmp_path / "password").write_text("wrong")
        assert fault(run(publish, *arguments)).code is Code.INPUT

    def test_an_admin_key_that_is_not_the_brokers_is_refused(self, arguments, tmp_path) -> None:
        other = Broker(tmp_path / "other", SimulatedPki.create(tmp_path / "pki2"))
        arguments[arguments.index("--admin-key") + 1] = other.home / "admin.key"
        found = fault(run(publish, *arguments))
        assert found.code is Code.INPUT
        assert "refuses" in found.diagnosis.message

    def test_secrets_are_no_options(self) -> None:
        names = {option for parameter in publish.params for option in parameter.opts}
        assert not {name for name in names if name in {"--password", "--token", "--key-password"}}
