"""The whole protocol, spoken by a client written from the specification alone: standard library, and jwcrypto.

Nothing of ours is used but the simulated hardware. It stands for guest-components' client and for Trustee's verifier.
"""

from __future__ import annotations

import base64
import hashlib
import http.cookiejar
import json
import ssl
import time
import urllib.error
import urllib.request

import pytest
from cryptography import x509
from jwcrypto import jwe, jwk, jws

from tests.simulators.broker import Broker, Enclave
from workers.enclave.kbs import ResourceUri
from workers.host.libos.sim.pki import SimulatedPki

INIT_DATA = 'version = "0.1.0"\nalgorithm = "sha384"\n[data]\n"aa.toml" = "[token_configs]"\n'


class StrangeClient:
    """A cookie jar that follows RFC 6265, sorted JSON instead of RFC 8785 (the same for these inputs)."""

    def __init__(self, broker):
        self.url = broker.url
        context = ssl.create_default_context(cadata=broker.ca_pem)
        self.jar = http.cookiejar.CookieJar()
        self.opener = urllib.request.build_opener(
            urllib.request.HTTPSHandler(context=context), urllib.request.HTTPCookieProcessor(self.jar)
        )
        self.key = jwk.JWK.generate(kty="EC", crv="P-256")

    def ask(self, path, body=None, headers=None):
        data = json.dumps(body).encode() if body is not None else None
        request = urllib.request.Request(
            f"{self.url}/kbs/v0/{path}", data, {"Content-Type": "application/json"} | (headers or {})
        )
        with self.opener.open(request, timeout=20) as response:
            return json.loads(response.read())

    def attest(self, tee, init_data=None):
        extra = {"supported-hash-algorithms": ["sha256", "sha384", "sha512"]}
        nonce = self.ask("auth", {"version": "0.4.0", "tee": "sgx", "extra-params": extra})["nonce"]
        public = json.loads(self.key.export_public())
        key = {"kty": "EC", "crv": "P-256", "alg": "ECDH-ES+A256KW", "x": public["x"], "y": public["y"]}
        runtime = {"additional-evidence": "", "nonce": nonce, "tee-pubkey": key}
        digest = hashlib.sha384(json.dumps(runtime, sort_keys=True, separators=(",", ":")).encode()).digest()
        evidence = {"quote": base64.b64encode(tee.quote(digest + bytes(16))).decode()}
        attestation = {
            "runtime-data": {"nonce": nonce, "tee-pubkey": key},
            "tee-evidence": {"primary_evidence": evidence, "additional_evidence": ""},
        }
        if init_data is not None:
            attestation["init-data"] = {"format": "toml", "body": init_data}
        return self.ask("attest", attestation)["token"]


@pytest.fixture(scope="module")
def pki(tmp_path_factory):
    return SimulatedPki.create(tmp_path_factory.mktemp("pki") / "sim")


@pytest.fixture(scope="module")
def tee(pki):
    return Enclave(pki, config_id=hashlib.sha384(INIT_DATA.encode()).digest().ljust(64, b"\0"))


@pytest.fixture(scope="module")
def broker(tmp_path_factory, pki, tee):
    with Broker(tmp_path_factory.mktemp("broker") / "owner", pki) as running:
        running.list_enclave(tee.mrenclave)
        admin = running.admin()
        admin.put_resource(ResourceUri("default", "key", "1"), b"secret")
        admin.close()
        yield running


def test_a_client_of_another_make_attests_and_reads_a_resource_by_its_cookie(broker, tee):
    client = StrangeClient(broker)
    client.attest(tee, INIT_DATA)
    (cookie,) = client.jar
    assert (cookie.name, cookie.path) == ("kbs-session-id", "/kbs/v0")
    reply = client.ask("resource/default/key/1")
    sealed = jwe.JWE()
    sealed.deserialize(json.dumps(reply), client.key)
    assert sealed.payload == b"secret"


def test_a_client_of_another_make_reads_a_resource_by_its_token(broker, tee):
    client = StrangeClient(broker)
    token = client.attest(tee, INIT_DATA)
    client.jar.clear()
    reply = client.ask("resource/default/key/1", headers={"Authorization": f"Bearer {token}"})
    sealed = jwe.JWE()
    sealed.deserialize(json.dumps(reply), client.key)
    assert sealed.payload == b"secret"


def test_the_token_passes_trustees_checks_in_another_library(broker, tee):
    """kbs/src/crypto/jwt.rs: the header's jwk, its x5c leaf with the same key, a chain to the trusted certificate."""
    token = jws.JWS()
    token.deserialize(StrangeClient(broker).attest(tee, INIT_DATA))
    header = token.jose_header
    assert set(header) == {"typ", "alg", "jwk"}
    assert set(header["jwk"]) == {"kty", "crv", "alg", "x", "y", "x5c"}
    token.verify(jwk.JWK(**{name: header["jwk"][name] for name in ("kty", "crv", "x", "y")}), alg="ES256")
    leaf = x509.load_der_x509_certificate(base64.b64decode(header["jwk"]["x5c"][0]))
    leaf_key = json.loads(jwk.JWK.from_pyca(leaf.public_key()).export_public())
    assert (leaf_key["x"], leaf_key["y"]) == (header["jwk"]["x"], header["jwk"]["y"])
    leaf.verify_directly_issued_by(x509.load_pem_x509_certificate(broker.ca_pem.encode()))
    claims = json.loads(token.payload)
    assert claims["exp"] > time.time()
    evidence = claims["submods"]["cpu0"]["ear.veraison.annotated-evidence"]
    assert evidence["init_data"] == tee.config_id.hex()
    assert evidence["init_data_claims"] == {"aa.toml": {"token_configs": {}}}


def test_an_old_client_is_told_why_it_is_refused(broker):
    with pytest.raises(urllib.error.HTTPError) as refused:
        StrangeClient(broker).ask("auth", {"version": "0.1.1", "tee": "sgx", "extra-params": ""})
    assert refused.value.code == 401
    assert "KBS Client Protocol Version Mismatch" in json.loads(refused.value.read())["detail"]


def test_our_own_client_reads_init_data_of_any_algorithm(broker, tee):
    client = broker.client(tee, init_data=INIT_DATA)
    assert client.attest().claims.config_id == tee.config_id.hex()
    client.close()
