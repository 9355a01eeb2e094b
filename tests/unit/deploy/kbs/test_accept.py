"""A broker that was told nothing but a release's signed reference values."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path

import pytest
from click.testing import CliRunner

from deploy.cli import enclave_cc
from deploy.kbs.accept import ACCEPTED, ENCLAVES, accept
from deploy.kbs.admin_client import AdminClient
from deploy.publish.cosign_key import SigningKey
from deploy.publish.references import References, sign
from orchestrator.faults import Code, Permanent
from tests.simulators.broker import Broker, Enclave
from workers.enclave.kbs import ResourceUri

KEY = SigningKey.generate()
RELEASED, LATER, STRANGER = b"a" * 32, b"b" * 32, b"x" * 32
SECRET = ResourceUri("default", "image-key", "redis")


def document(measurement: bytes, issued: str, key: SigningKey = KEY, payload: str = "aa") -> bytes:
    measurements = {"sim": {"agent": measurement.hex(), "boot": "dd" * 32}}
    return sign(References(f"sha256:{payload * 32}", "0.1.0", issued, f"sha256:{'bb' * 32}", measurements), key)


FIRST = document(RELEASED, "2026-11-24T04:30:00Z")
SECOND = document(LATER, "2026-11-24T04:30:01Z", payload="cc")


@pytest.fixture
def broker(tmp_path, pki):
    with Broker(tmp_path / "served", pki) as running:
        admin = running.admin()
        admin.set_reference_value("allow_simulated", True)
        admin.put_resource(SECRET, b"the key of a layer")
        admin.close()
        yield running


@pytest.fixture
def admin(broker):
    client = broker.admin()
    yield client
    client.close()


def gets(broker: Broker, enclave: Enclave) -> bool:
    client = broker.client(enclave)
    try:
        return client.get_resource(SECRET) == b"the key of a layer"
    except Permanent as fault:
        if fault.code not in {Code.ATTEST_NOT_LISTED, Code.ATTEST_DEBUG}:
            raise
        return False
    finally:
        client.close()


def test_it_gives_a_key_to_the_agent_of_that_payload_and_to_no_other(broker, admin, pki):
    agent, stranger = Enclave(pki, mrenclave=RELEASED), Enclave(pki, mrenclave=STRANGER)
    assert (gets(broker, agent), gets(broker, stranger)) == (False, False)
    assert accept(FIRST, KEY.public(), admin).of("agent") == (RELEASED.hex(),)
    assert (gets(broker, agent), gets(broker, stranger)) == (True, False)
    assert not gets(broker, replace(agent, debug=True))


def test_the_next_payload_replaces_it_or_stands_beside_it_for_as_long_as_is_wanted(broker, admin, pki):
    before, after = Enclave(pki, mrenclave=RELEASED), Enclave(pki, mrenclave=LATER)
    accept(FIRST, KEY.public(), admin)
    accept(SECOND, KEY.public(), admin, keep=True)
    assert (gets(broker, before), gets(broker, after)) == (True, True)
    accept(SECOND, KEY.public(), admin)
    assert (gets(broker, before), gets(broker, after)) == (False, True)
    assert admin.find_reference_value(ACCEPTED) == ["2026-11-24T04:30:01Z", f"sha256:{'cc' * 32}"]


@pytest.mark.parametrize(
    ("offered", "code"),
    [
        (document(STRANGER, "2027-01-01T00:00:00Z", SigningKey.generate()), Code.REFERENCES_KEY),
        (SECOND.replace(b'"sig":"', b'"sig":"AAAA'), Code.REFERENCES_ALTERED),
        (b"{}", Code.REFERENCES_FORMAT),
        (document(STRANGER, "2026-11-24T04:29:59Z"), Code.REFERENCES_OLDER),
        (document(STRANGER, "2026-11-24T04:30:00Z", payload="ff"), Code.REFERENCES_OLDER),
    ],
    ids=["another key", "altered", "unknown format", "older", "another of the same second"],
)
def test_what_is_refused_changes_nothing(broker, admin, pki, offered: bytes, code: Code):
    accept(FIRST, KEY.public(), admin)
    for keep in (False, True):
        with pytest.raises(Permanent) as refused:
            accept(offered, KEY.public(), admin, keep=keep)
        assert refused.value.code is code
    assert admin.find_reference_value(ENCLAVES) == [RELEASED.hex()]
    assert gets(broker, Enclave(pki, mrenclave=RELEASED))
    assert not gets(broker, Enclave(pki, mrenclave=STRANGER))


def test_the_same_document_again_is_no_older_one(admin: AdminClient):
    accept(FIRST, KEY.public(), admin)
    accept(FIRST, KEY.public(), admin)
    assert admin.find_reference_value(ENCLAVES) == [RELEASED.hex()]


def test_a_broker_whose_note_of_the_last_document_is_damaged_takes_no_other(admin: AdminClient):
    admin.set_reference_value(ACCEPTED, "yesterday")
    with pytest.raises(Permanent) as refused:
        accept(FIRST, KEY.public(), admin)
    assert refused.value.code is Code.INPUT
    assert admin.find_reference_value(ENCLAVES) is None


def test_the_command_accepts_for_the_broker_and_for_the_launch_policy(broker, admin, tmp_path: Path):
    (tmp_path / "references.json").write_bytes(FIRST)
    (tmp_path / "cosign.pub").write_bytes(KEY.public_pem())
    words = ["kbs", "--home", str(broker.home), "--url", broker.url, "accept", str(tmp_path / "references.json")]
    words += ["--key", str(tmp_path / "cosign.pub"), "--policies", str(tmp_path / "policies")]
    told = CliRunner().invoke(enclave_cc, words)
    assert told.exit_code == 0, told.output
    assert f"agent   {RELEASED.hex()}: affirmed" in told.output
    assert "dd" * 32 in (tmp_path / "policies/launch-policy.json").read_text()
    assert admin.find_reference_value(ENCLAVES) == [RELEASED.hex()]
    (tmp_path / "references.json").write_bytes(FIRST[:-40])
    told = CliRunner().invoke(enclave_cc, words)
    assert (told.exit_code, told.output[:16]) == (1, Code.REFERENCES_FORMAT)
