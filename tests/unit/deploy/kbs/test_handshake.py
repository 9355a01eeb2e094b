"""RCAR, server side: what is accepted, what is refused, and that the reason is told exactly."""

from __future__ import annotations

import base64
import hashlib
import json
from dataclasses import replace

import pytest

from deploy.kbs.server import broker
from schemas.kbs import report_data, runtime_data
from tests.simulators.broker import MEASUREMENT, Broker, Enclave
from tests.simulators.kbs_caller import Caller, claims_of, detail, variant
from workers.host.libos.sim.pki import SimulatedPki

INIT_DATA = 'version = "0.1.0"\nalgorithm = "sha256"\n[data]\n"aa.toml" = "x = 1"\nplain = "text"\n'
EVIDENCE = "ear.veraison.annotated-evidence"


def auth(caller, **changes):
    request = {"version": "0.4.0", "tee": "sgx", "extra-params": {}} | changes
    return caller.send("POST", "auth", json.dumps(request).encode())


def refused_for(caller, reason, body, session):
    answer = caller.send("POST", "attest", json.dumps(body).encode(), session=session)
    assert answer.status == 401
    assert variant(answer) == "AttestationError"
    assert f"RCAR handshake Attest failed: [{reason}] " in detail(answer)
    return detail(answer)


def test_a_challenge_is_32_random_bytes_and_a_session_cookie_without_attributes(caller):
    first, second = auth(caller), auth(caller)
    assert first.content_type == "application/json"
    challenge = json.loads(first.body)
    assert list(challenge) == ["nonce", "extra-params"]
    assert challenge["extra-params"] == ""
    assert len(base64.b64decode(challenge["nonce"], validate=True)) == 32
    assert first.body != second.body
    name, _, attributes = first.cookie.partition("; ")
    assert name.startswith("kbs-session-id=")
    assert len(name.partition("=")[2]) == 32
    assert attributes.startswith("Expires=")
    assert attributes.endswith(" GMT")
    assert ";" not in attributes


@pytest.mark.parametrize(
    "version", ["0.1.1", "0.3.9", "0.4", "0.4.1", "0.4.0-rc1", "0.4.0+build", "1.0.0", "v0.4.0", " 0.4.0"]
)
def test_exactly_one_version_of_the_protocol_is_served(caller, version):
    answer = auth(caller, version=version)
    assert (answer.status, variant(answer)) == (401, "AttestationError")
    assert "KBS Client Protocol Version Mismatch" in detail(answer)


@pytest.mark.parametrize("tee", ["sample", "tdx", "snp", "", "SGX"])
def test_only_sgx_is_verified(caller, tee):
    assert "[tee]" in detail(auth(caller, tee=tee))


def test_a_listed_enclave_is_affirmed(caller, pki):
    caller.list_enclave()
    answer, _ = caller.attest(Enclave(pki))
    cpu = claims_of(json.loads(answer.body)["token"])["submods"]["cpu0"]
    assert cpu["ear.status"] == "affirming"
    assert cpu["ear.trustworthiness-vector"]["executables"] == 3
    assert cpu["ear.trustworthiness-vector"]["configuration"] == 2
    assert cpu["ear.trustworthiness-vector"]["hardware"] == 2
    assert cpu["ear.appraisal-policy-id"] == "default"


def test_the_claims_are_named_and_written_as_trustee_does(caller, pki):
    answer, _ = caller.attest(Enclave(pki, config_id=b"c" * 64))
    claims = claims_of(json.loads(answer.body)["token"])
    assert claims["eat_profile"] == "tag:github.com,2024:confidential-containers/Trustee"
    assert claims["iss"] == "CoCo-Attestation-Service"
    assert claims["exp"] - claims["iat"] == 300
    evidence = claims["submods"]["cpu0"][EVIDENCE]
    assert set(evidence) == {"sgx", "report_data", "runtime_data_claims", "init_data", "init_data_claims"}
    assert set(evidence["runtime_data_claims"]) == {"nonce", "tee-pubkey", "additional-evidence"}
    assert evidence["init_data"] == (b"c" * 64).hex()
    assert evidence["init_data_claims"] is None
    sgx = evidence["sgx"]
    assert sgx["header"]["version"] == "0300"
    assert sgx["header"]["vendor_id"] == "939a7233f79c4ca9940a0db3957f0607"
    assert sgx["body"]["mr_enclave"] == MEASUREMENT.hex()
    assert sgx["body"]["attributes.flags"] == "0500000000000000"
    assert sgx["body"]["config_id"] == (b"c" * 64).hex()
    assert sgx["body"]["report_data"] == evidence["report_data"]
    assert {name: len(value) for name, value in sgx["body"].items()}["reserved4"] == 84
    assert sgx["tcb_status"] == "UpToDate"
    assert sgx["advisory_ids"] == []
    assert sgx["collateral_expiration_status"] == "0"
    assert sgx["sgx_type"] == "Scalable"
    assert sgx["is_dynamic_platform"] is True
    assert len(sgx["platform_instance_id"]) == 32
    assert len(sgx["root_key_id"]) == 96
    assert sgx["simulated"] is True
    assert sgx["trust_anchor"] == "test"


def test_a_session_that_has_its_token_gives_the_same_one_again(caller, pki):
    answer, session = caller.attest(Enclave(pki))
    again = caller.send("POST", "attest", b"whatever", session=session)
    assert again.body == answer.body


def test_a_refused_attestation_does_not_use_up_its_challenge(caller, pki):
    nonce, session = caller.challenge()
    refused_for(caller, "debug", caller.evidence(Enclave(pki, debug=True), nonce), session)
    good = json.dumps(caller.evidence(Enclave(pki), nonce)).encode()
    assert caller.send("POST", "attest", good, session=session).status == 200


def test_no_session_or_a_strange_one_is_refused(caller, pki):
    nonce, _ = caller.challenge()
    for session in (None, "", "0" * 32):
        refused_for(caller, "session", caller.evidence(Enclave(pki), nonce), session)


def test_an_expired_session_is_forgotten(config, pki):
    now = [1_000.0]
    caller = Caller(broker(config), (config.state.parent / "admin.key").read_bytes())
    caller.api.handshake._sessions._clock = lambda: now[0]
    nonce, session = caller.challenge()
    now[0] += config.session_minutes * 60
    refused_for(caller, "session", caller.evidence(Enclave(pki), nonce), session)


def test_evidence_for_another_challenge_is_refused(caller, pki):
    other, _ = caller.challenge()
    _, session = caller.challenge()
    refused_for(caller, "nonce", caller.evidence(Enclave(pki), other), session)


def test_a_quote_made_for_another_challenge_is_refused(caller, pki):
    other, _ = caller.challenge()
    nonce, session = caller.challenge()
    body = caller.evidence(Enclave(pki), other)
    body["runtime-data"]["nonce"] = nonce
    refused_for(caller, "report-data", body, session)


def test_another_key_than_the_quoted_one_is_refused(caller, pki, config):
    nonce, session = caller.challenge()
    body = caller.evidence(Enclave(pki), nonce)
    body["runtime-data"]["tee-pubkey"] = Caller(caller.api, b"").key.public.jwk()
    refused_for(caller, "report-data", body, session)


def test_members_that_the_closed_key_does_not_know_are_dropped_before_hashing(caller, pki):
    nonce, session = caller.challenge()
    body = caller.evidence(Enclave(pki), nonce)
    body["runtime-data"]["tee-pubkey"] |= {"kid": "x", "use": "enc"}
    answer = caller.send("POST", "attest", json.dumps(body).encode(), session=session)
    claims = claims_of(json.loads(answer.body)["token"])["submods"]["cpu0"][EVIDENCE]["runtime_data_claims"]
    assert claims["tee-pubkey"] == caller.key.public.jwk()


def test_a_client_that_hashed_such_members_is_refused(caller, pki):
    nonce, session = caller.challenge()
    body = caller.evidence(Enclave(pki), nonce)
    key = caller.key.public.jwk() | {"kid": "x"}
    hashed = report_data(runtime_data(nonce, caller.key.public) | {"tee-pubkey": key})
    quote = Enclave(pki).quote(hashed.ljust(64, b"\0"))
    body["runtime-data"]["tee-pubkey"] = key
    body["tee-evidence"]["primary_evidence"]["quote"] = base64.b64encode(quote).decode()
    refused_for(caller, "report-data", body, session)


def test_a_debuggable_enclave_is_refused_by_name_whatever_the_policy_says(caller, pki):
    caller.list_enclave()
    nonce, session = caller.challenge()
    told = refused_for(caller, "debug", caller.evidence(Enclave(pki, debug=True), nonce), session)
    assert "DEBUG" in told


@pytest.mark.parametrize("at", [0, 20, 50, 120, 200, 400, 440, 520, 600, 950, 1020])
def test_one_flipped_bit_anywhere_in_a_quote_is_refused(caller, pki, at):
    nonce, session = caller.challenge()
    body = caller.evidence(Enclave(pki), nonce)
    quote = bytearray(base64.b64decode(body["tee-evidence"]["primary_evidence"]["quote"]))
    quote[at] ^= 0x08
    body["tee-evidence"]["primary_evidence"]["quote"] = base64.b64encode(quote).decode()
    refused_for(caller, "quote", body, session)


@pytest.mark.parametrize("cut", [0, 1, 47, 431, 436, 1000, 2000, -1])
def test_a_cut_quote_is_refused(caller, pki, cut):
    nonce, session = caller.challenge()
    body = caller.evidence(Enclave(pki), nonce)
    quote = base64.b64decode(body["tee-evidence"]["primary_evidence"]["quote"])[:cut]
    body["tee-evidence"]["primary_evidence"]["quote"] = base64.b64encode(quote).decode()
    refused_for(caller, "quote", body, session)


def test_bytes_after_a_quote_are_refused(caller, pki):
    nonce, session = caller.challenge()
    body = caller.evidence(Enclave(pki), nonce)
    quote = base64.b64decode(body["tee-evidence"]["primary_evidence"]["quote"]) + b"\0"
    body["tee-evidence"]["primary_evidence"]["quote"] = base64.b64encode(quote).decode()
    refused_for(caller, "quote", body, session)


def test_a_platform_under_a_root_that_is_not_configured_is_refused_with_the_roots_name(caller, tmp_path):
    stranger = SimulatedPki.create(tmp_path / "stranger")
    nonce, session = caller.challenge()
    told = refused_for(caller, "quote", caller.evidence(Enclave(stranger), nonce), session)
    assert "is not trusted here; trusted are: test" in told


def test_a_revoked_platform_is_refused(tmp_path):
    pki = SimulatedPki.create(tmp_path / "revoked", tcb_status="Revoked")
    config = Broker(tmp_path / "owner", pki).config
    caller = Caller(broker(config), (config.state.parent / "admin.key").read_bytes())
    nonce, session = caller.challenge()
    assert "Revoked" in refused_for(caller, "quote", caller.evidence(Enclave(pki), nonce), session)


def test_a_platform_out_of_date_is_a_claim_that_the_default_policy_does_not_affirm(tmp_path):
    pki = SimulatedPki.create(tmp_path / "old", tcb_status="OutOfDate", advisories=("INTEL-SA-99999",))
    config = Broker(tmp_path / "owner", pki).config
    caller = Caller(broker(config), (config.state.parent / "admin.key").read_bytes())
    caller.list_enclave()
    answer, _ = caller.attest(Enclave(pki))
    cpu = claims_of(json.loads(answer.body)["token"])["submods"]["cpu0"]
    assert cpu["ear.status"] == "contraindicated"
    assert cpu[EVIDENCE]["sgx"]["tcb_status"] == "OutOfDate"
    assert cpu[EVIDENCE]["sgx"]["advisory_ids"] == ["INTEL-SA-99999"]


def test_init_data_must_be_what_the_enclave_was_launched_with(caller, pki):
    digest = hashlib.sha256(INIT_DATA.encode()).digest()
    launched = Enclave(pki, config_id=digest.ljust(64, b"\0"))
    answer, _ = caller.attest(launched, INIT_DATA)
    claims = claims_of(json.loads(answer.body)["token"])["submods"]["cpu0"][EVIDENCE]
    assert claims["init_data_claims"] == {"aa.toml": {"x": 1}, "plain": "text"}
    nonce, session = caller.challenge()
    refused_for(caller, "init-data", caller.evidence(launched, nonce, INIT_DATA + "# more"), session)
    nonce, session = caller.challenge()
    refused_for(caller, "init-data", caller.evidence(Enclave(pki), nonce, INIT_DATA), session)


def test_init_data_of_another_format_is_refused(caller, pki):
    nonce, session = caller.challenge()
    body = caller.evidence(Enclave(pki), nonce) | {"init-data": {"format": "json", "body": "{}"}}
    refused_for(caller, "init-data", body, session)


def test_evidence_of_more_devices_is_refused(caller, pki):
    nonce, session = caller.challenge()
    body = caller.evidence(Enclave(pki), nonce)
    body["tee-evidence"]["additional_evidence"] = '{"nvidia": {}}'
    refused_for(caller, "tee", body, session)


def test_a_key_that_is_no_point_on_its_curve_is_refused_at_the_handshake(caller, pki):
    nonce, session = caller.challenge()
    body = caller.evidence(Enclave(pki), nonce)
    body["runtime-data"]["tee-pubkey"]["x"] = base64.urlsafe_b64encode(b"\x01" * 32).rstrip(b"=").decode()
    refused_for(caller, "request", body, session)


def test_a_policy_that_judges_nothing_judges_nobody_good(caller, pki):
    rego = base64.urlsafe_b64encode(b"package policy\n").rstrip(b"=").decode()
    message = {"type": "rego", "policy_id": "default_cpu", "policy": rego}
    assert caller.owner("POST", "attestation-policy", json.dumps(message).encode()).status == 200
    nonce, session = caller.challenge()
    refused_for(caller, "policy", caller.evidence(Enclave(pki), nonce), session)


def test_without_collateral_the_platform_is_not_judged(config, pki):
    root = replace(config.simulated_roots[0], collateral=config.state / "none.json")
    caller = Caller(broker(replace(config, simulated_roots=(root,))), b"")
    nonce, session = caller.challenge()
    assert "no collateral" in refused_for(caller, "quote", caller.evidence(Enclave(pki), nonce), session)
