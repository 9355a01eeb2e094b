"""The enclave's client against a real broker, honest, away or lying."""

from __future__ import annotations

import hashlib
import threading
import time

import pytest
import urllib3

from deploy.kbs.certificates import Authority, Credential
from orchestrator.faults import Code, Permanent, Temporary
from tests.simulators.broker import MEASUREMENT, Broker, Enclave
from tests.simulators.connect_proxy import ConnectProxy
from tests.simulators.lying_kbs import Lie, LyingKbs
from workers.enclave.kbs import KbsClient, ResourceUri
from workers.host.libos.sim.pki import SimulatedPki

SECRET = b"the key of a layer"
URI = ResourceUri.parse("kbs:///default/image-key/redis")
ABSENT = ResourceUri.parse("kbs:///default/image-key/absent")
INIT_DATA = 'version = "0.1.0"\nalgorithm = "sha256"\n[data]\nx = "y"\n'


@pytest.fixture
def client(broker, tee):
    client = broker.client(tee)
    yield client
    client.close()


def quick(client, seconds=0.3):
    """The same client with less patience."""
    client._channel._pool.connection_pool_kw["timeout"] = urllib3.Timeout(connect=seconds, read=seconds)
    return client


def fault_of(kind, call, *arguments):
    with pytest.raises(kind) as fault:
        call(*arguments)
    assert type(fault.value) is kind
    return fault.value


def test_an_enclave_attests_and_knows_what_was_found_about_it(client):
    result = client.attest()
    assert result.claims.status == "affirming"
    assert result.claims.measurement == MEASUREMENT.hex()
    assert result.claims.tcb_status == "UpToDate"
    assert result.claims.simulated is True
    assert result.claims.debug is False
    assert (result.claims.vector.executables, result.claims.vector.hardware) == (3, 2)
    assert 200 < result.claims.expires_at - time.time() <= 300
    assert result.token_sha256 == hashlib.sha256(result.token.encode()).hexdigest()


def test_a_token_shows_nowhere(client):
    result = client.attest()
    assert result.token not in repr(result)
    assert result.token not in str(result)


def test_a_resource_is_fetched_attesting_first_when_need_be(client):
    assert client.get_resource(URI) == SECRET
    assert client.get_resource(URI) == SECRET


def test_every_attestation_is_a_fresh_one(client):
    assert client.attest().token != client.attest().token


def test_init_data_is_presented_and_bound(broker, pki):
    digest = hashlib.sha256(INIT_DATA.encode()).digest()
    launched = Enclave(pki, config_id=digest.ljust(64, b"\0"))
    client = broker.client(launched, init_data=INIT_DATA)
    assert client.attest().claims.config_id.startswith(digest.hex())
    client.close()
    other = broker.client(launched, init_data=INIT_DATA + "#")
    assert fault_of(Permanent, other.attest).code == Code.AGENT_INIT_DATA
    other.close()


def test_an_unlisted_enclave_is_told_its_own_measurement(broker, pki):
    client = broker.client(Enclave(pki, mrenclave=b"\x07" * 32))
    fault = fault_of(Permanent, client.attest)
    assert fault.code == Code.ATTEST_NOT_LISTED
    assert fault.diagnosis.got == "07" * 32
    assert "listed" in fault.diagnosis.expected
    client.close()


def test_a_debuggable_enclave_is_told_so(broker, pki):
    client = broker.client(Enclave(pki, debug=True))
    fault = fault_of(Permanent, client.attest)
    assert fault.code == Code.ATTEST_DEBUG
    assert "debug" in fault.diagnostics()
    client.close()


def test_an_enclave_under_an_unknown_root_is_told_so(broker, tmp_path, pki):
    client = broker.client(Enclave(SimulatedPki.create(tmp_path / "stranger")))
    fault = fault_of(Permanent, client.attest)
    assert fault.code == Code.ATTEST_QUOTE
    assert "not trusted" in fault.diagnostics()
    client.close()


def test_hardware_that_the_policy_does_not_accept_is_told_apart(tmp_path, pki):
    with Broker(tmp_path / "owner", pki) as broker:
        broker.admin().set_reference_value("sgx_mr_enclave", [MEASUREMENT.hex()])
        client = broker.client(Enclave(pki))
        fault = fault_of(Permanent, client.attest)
        assert fault.code == Code.ATTEST_TCB
        assert "SIMULATED" in fault.diagnosis.got
        client.close()


def test_an_unlisted_configuration_is_told_apart(tmp_path, pki, tee):
    with Broker(tmp_path / "owner", pki) as broker:
        broker.list_enclave(tee.mrenclave)
        broker.admin().set_reference_value("sgx_config_id", ["ab" * 64])
        client = broker.client(tee)
        fault = fault_of(Permanent, client.attest)
        assert (fault.code, fault.diagnosis.got) == (Code.AGENT_INIT_DATA, "00" * 64)
        client.close()


def test_an_absent_resource_is_unknown(client):
    fault = fault_of(Permanent, client.get_resource, ABSENT)
    assert fault.code == Code.KEY_UNKNOWN
    assert str(ABSENT) in fault.diagnostics()


@pytest.mark.parametrize(
    ("lie", "kind", "code"),
    [
        (Lie.NONCE, Permanent, Code.ATTEST_NONCE),
        (Lie.BAD_NONCE, Permanent, Code.ATTEST_NONCE),
        (Lie.VERSION, Permanent, Code.ATTEST_PROTOCOL),
        (Lie.FORGED_TOKEN, Permanent, Code.ATTEST_TOKEN),
        (Lie.TLS_KEY_TOKEN, Permanent, Code.ATTEST_TOKEN),
        (Lie.NO_COOKIE, Permanent, Code.ATTEST_PROTOCOL),
        (Lie.GARBAGE, Permanent, Code.ATTEST_PROTOCOL),
        (Lie.OVERLOADED, Temporary, Code.ATTEST_KBS_AWAY),
        (Lie.DROP, Temporary, Code.ATTEST_KBS_AWAY),
        (Lie.TRUNCATE, Temporary, Code.ATTEST_KBS_AWAY),
        (Lie.HANG, Temporary, Code.ATTEST_KBS_AWAY),
    ],
)
def test_each_lie_at_the_handshake_is_named(broker, liar, tee, lie, kind, code):
    liar.lie = lie
    client = quick(broker.client(tee, url=liar.url))
    assert fault_of(kind, client.attest).code == code
    client.close()


def test_an_old_token_does_not_stand_for_a_new_handshake(broker, liar, tee):
    client = broker.client(tee, url=liar.url)
    client.attest()
    liar.lie = Lie.OLD_TOKEN
    assert fault_of(Permanent, client.attest).code == Code.ATTEST_NONCE
    client.close()
    other = broker.client(tee, url=liar.url)
    assert fault_of(Permanent, other.attest).code == Code.ATTEST_TOKEN
    other.close()


@pytest.mark.parametrize(
    ("lie", "kind", "code"),
    [
        (Lie.DENY, Permanent, Code.KEY_DENIED),
        (Lie.ALTERED_RESOURCE, Permanent, Code.KEY_MALFORMED),
        (Lie.GARBAGE, Permanent, Code.KEY_MALFORMED),
        (Lie.OVERLOADED, Temporary, Code.KEY_KBS_AWAY),
        (Lie.DROP, Temporary, Code.KEY_KBS_AWAY),
        (Lie.TRUNCATE, Temporary, Code.KEY_KBS_AWAY),
        (Lie.HANG, Temporary, Code.KEY_KBS_AWAY),
    ],
)
def test_each_lie_about_a_resource_is_named_and_asked_for_once(broker, liar, tee, lie, kind, code):
    client = quick(broker.client(tee, url=liar.url))
    client.attest()
    liar.lie = lie
    liar.requests.clear()
    diagnosis = fault_of(kind, client.get_resource, URI).diagnosis
    assert diagnosis.code == code
    assert diagnosis.expected
    assert diagnosis.got
    assert liar.requests == [f"GET {URI.path}"]
    client.close()


def test_no_fault_tells_a_secret(broker, liar, tee):
    client = broker.client(tee, url=liar.url)
    token = client.attest().token
    for lie in (Lie.DENY, Lie.ALTERED_RESOURCE, Lie.GARBAGE):
        liar.lie = lie
        told = fault_of(Permanent, client.get_resource, URI).diagnostics()
        assert token not in told
        assert SECRET.decode() not in told
    client.close()


def test_a_broker_that_is_away_is_away_for_now(tmp_path, pki, tee):
    with Broker(tmp_path / "owner", pki) as broker:
        broker.list_enclave(tee.mrenclave)
        broker.admin().put_resource(URI, SECRET)
        client = quick(broker.client(tee), 2)
        client.attest()
        broker.stop()
        assert fault_of(Temporary, client.get_resource, URI).code == Code.KEY_KBS_AWAY
        assert fault_of(Temporary, client.attest).code == Code.ATTEST_KBS_AWAY
        broker.start()
        assert client.get_resource(URI) == SECRET
        client.close()


def test_a_token_survives_a_restart_of_the_broker(tmp_path, pki, tee):
    with Broker(tmp_path / "owner", pki) as broker:
        broker.list_enclave(tee.mrenclave)
        broker.admin().put_resource(URI, SECRET)
        client = broker.client(tee)
        token = client.attest().token
        broker.stop()
        broker.start()
        assert client.get_resource(URI) == SECRET
        assert client._attested.token == token
        client.close()


def test_a_token_that_the_broker_no_longer_takes_is_renewed_once(tmp_path, pki, tee):
    with Broker(tmp_path / "owner", pki) as broker:
        broker.list_enclave(tee.mrenclave)
        broker.admin().put_resource(URI, SECRET)
        client = broker.client(tee)
        before = client.attest().token
        broker.stop()
        # The owner renews the token signer: tokens of the old one are worth nothing.
        authority = Credential(broker.ca_pem.encode(), (broker.home / "ca.key").read_bytes())
        signer = Authority(authority).token_signer()
        broker.config.token_key.write_bytes(signer.key)
        broker.config.token_certificate.write_bytes(signer.certificate)
        broker.start()
        assert client.get_resource(URI) == SECRET
        assert client._attested.token != before
        client.close()


def test_many_threads_share_one_attestation(broker, liar, tee):
    client = broker.client(tee, url=liar.url)
    found = []
    threads = [threading.Thread(target=lambda: found.append(client.get_resource(URI))) for _ in range(8)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert found == [SECRET] * 8
    assert sum(request.endswith("/auth") for request in liar.requests) == 1
    client.close()


def test_another_authoritys_broker_is_not_the_owners(broker, tee):
    client = KbsClient(broker.url, Authority().credential.certificate.decode(), tee, None, None)
    fault = fault_of(Temporary, client.attest)
    assert fault.code == Code.ATTEST_KBS_AWAY
    assert "certificate" in fault.diagnosis.got.lower()
    client.close()


def test_a_broker_under_another_name_is_not_the_owners(broker, tee, tmp_path):
    authority = Authority()
    server = authority.tls_server(["kbs.example"])
    (tmp_path / "cert").write_bytes(server.certificate)
    (tmp_path / "key").write_bytes(server.key)
    with LyingKbs(broker.url, broker.ca_pem, tmp_path / "cert", tmp_path / "key", lie=Lie.NONE) as front:
        client = KbsClient(front.url, authority.credential.certificate.decode(), tee, None, None)
        assert "certificate" in fault_of(Temporary, client.attest).diagnosis.got.lower()
        client.close()


@pytest.mark.parametrize(
    "url", ["http://127.0.0.1:1", "https://", "kbs", "", "https://u:p@h", "https://h?q", "ftp://h"]
)
def test_a_connection_without_tls_cannot_be_asked_for(broker, tee, url):
    assert fault_of(Permanent, KbsClient, url, broker.ca_pem, tee, None, None).code == Code.INPUT


def test_an_authority_that_is_no_certificate_or_two_is_refused(broker, tee):
    for pem in (broker.ca_pem * 2, "", "x", "-----BEGIN CERTIFICATE-----\nAAAA\n-----END CERTIFICATE-----\n"):
        assert fault_of(Permanent, KbsClient, broker.url, pem, tee, None, None).code == Code.INPUT


def test_it_goes_through_the_hosts_proxy_which_sees_a_name_only(broker, tee):
    address = broker.url.removeprefix("https://")
    with ConnectProxy(address) as proxy:
        client = KbsClient(broker.url, broker.ca_pem, tee, proxy.url, None)
        assert client.get_resource(URI) == SECRET
        assert set(proxy.asked) == {f"CONNECT {address}"}
        client.close()


def test_a_proxy_that_refuses_leaves_the_broker_away(broker, tee):
    with ConnectProxy() as proxy:
        client = KbsClient(broker.url, broker.ca_pem, tee, proxy.url, None)
        fault = fault_of(Temporary, client.attest)
        assert fault.code == Code.ATTEST_KBS_AWAY
        assert "403" in fault.diagnosis.got
        client.close()


def test_a_trailing_slash_of_the_address_is_no_part_of_the_path(broker, tee):
    client = broker.client(tee, url=broker.url + "/")
    assert client.get_resource(URI) == SECRET
    client.close()
