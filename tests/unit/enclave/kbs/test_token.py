"""A token is believed for exactly the reasons listed in the module, and each missing one is enough to refuse it."""

from __future__ import annotations

import base64
import json
import time
from datetime import UTC, datetime, timedelta

import pytest
from cryptography import x509
from cryptography.hazmat.primitives import hashes
from cryptography.hazmat.primitives.asymmetric import ec
from cryptography.hazmat.primitives.serialization import Encoding
from cryptography.x509.oid import ExtendedKeyUsageOID, NameOID
from joserfc import jws
from joserfc.jwk import ECKey

from deploy.kbs.certificates import Authority, Credential, private_pem
from orchestrator.faults import Code, Permanent
from schemas.kbs import report_data, runtime_data
from workers.enclave.kbs.tee_key import TeeKey
from workers.enclave.kbs.token import Handshake, verify_token

NOW = int(time.time())
NONCE = base64.b64encode(bytes(32)).decode()
KEY = TeeKey().public
QUOTED = report_data(runtime_data(NONCE, KEY)).ljust(64, b"\0")
HANDSHAKE = Handshake(NONCE, KEY, QUOTED)
AUTHORITY = Authority()
SIGNER = AUTHORITY.token_signer()
CA = x509.load_pem_x509_certificate(AUTHORITY.credential.certificate)


def payload():
    body = {"mr_enclave": "ab" * 32, "attributes.flags": "0500000000000000", "config_id": "00" * 64}
    evidence = {
        "sgx": {"body": body, "tcb_status": "UpToDate", "simulated": False},
        "report_data": QUOTED.hex(),
        "runtime_data_claims": runtime_data(NONCE, KEY),
    }
    cpu = {
        "ear.status": "affirming",
        "ear.trustworthiness-vector": {"executables": 3, "hardware": 2, "configuration": 2},
        "ear.veraison.annotated-evidence": evidence,
    }
    return {"iat": NOW, "exp": NOW + 300, "submods": {"cpu0": cpu}}


def header(signer=SIGNER, *, certificates=None, **jwk):
    key = ECKey.import_key(signer.key)
    public = key.as_dict(private=False)
    chain = certificates or x509.load_pem_x509_certificates(signer.certificate)
    x5c = [base64.b64encode(certificate.public_bytes(Encoding.DER)).decode() for certificate in chain]
    members = {"kty": "EC", "crv": "P-256", "alg": "ES256", "x": public["x"], "y": public["y"], "x5c": x5c}
    return {"typ": "JWT", "alg": "ES256", "jwk": members | jwk}


def token(claims=None, head=None, signer=SIGNER):
    registry = jws.JWSRegistry(algorithms=["ES256", "ES384", "HS256", "none"], strict_check_header=False)
    text = json.dumps(payload() if claims is None else claims)
    return jws.serialize_compact(head or header(signer), text, ECKey.import_key(signer.key), registry=registry)


def refused(text, code=Code.ATTEST_TOKEN, *, ca=CA, now=NOW):
    with pytest.raises(Permanent) as fault:
        verify_token(text, ca, HANDSHAKE, now)
    assert fault.value.code == code
    return fault.value.diagnosis.got


def test_a_good_token_is_believed():
    claims = verify_token(token(), CA, HANDSHAKE, NOW)
    assert (claims.status, claims.tcb_status, claims.simulated) == ("affirming", "UpToDate", False)
    assert claims.measurement == "ab" * 32
    assert claims.expires_at == NOW + 300
    assert str(claims.vector) == "configuration 2, executables 3, hardware 2"


def test_a_token_of_trustee_that_knows_no_simulation_is_believed():
    claims = payload()
    del claims["submods"]["cpu0"]["ear.veraison.annotated-evidence"]["sgx"]["simulated"]
    assert verify_token(token(claims), CA, HANDSHAKE, NOW).simulated is False


@pytest.mark.parametrize("value", [True, None, "false", 0, 1])
def test_whatever_is_not_false_is_simulated(value):
    claims = payload()
    claims["submods"]["cpu0"]["ear.veraison.annotated-evidence"]["sgx"]["simulated"] = value
    assert verify_token(token(claims), CA, HANDSHAKE, NOW).simulated is True


@pytest.mark.parametrize("text", ["", ".", "..", "a.b.c", "é.b.c", "x" * 300_000, "e30.e30.e30"])
def test_what_is_no_token_is_refused(text):
    refused(text)


def test_another_authoritys_token_is_refused():
    stranger = Authority()
    refused(token(signer=stranger.token_signer()))
    refused(token(), ca=x509.load_pem_x509_certificate(stranger.credential.certificate))


def test_a_token_under_the_certificate_of_another_key_is_refused():
    other = AUTHORITY.token_signer()
    chain = x509.load_pem_x509_certificates(SIGNER.certificate)
    assert "another key" in refused(token(head=header(other, certificates=chain), signer=other))


def test_a_token_signed_by_another_key_than_it_names_is_refused():
    assert "BadSignature" in refused(token(head=header(SIGNER), signer=AUTHORITY.token_signer()))


def test_a_tls_servers_key_signs_no_token():
    assert "TLS server" in refused(token(signer=AUTHORITY.tls_server(["127.0.0.1"])))


def test_a_leaf_certifies_nobody():
    leaf = x509.load_pem_x509_certificate(SIGNER.certificate)
    key = ec.generate_private_key(ec.SECP256R1())
    forged = certificate(key, ECKey.import_key(SIGNER.key).private_key, issuer=leaf.subject)
    signer = Credential(forged.public_bytes(Encoding.PEM), private_pem(key))
    refused(token(head=header(signer, certificates=[forged, leaf]), signer=signer))


def certificate(key, issuer_key, *, issuer=CA.subject, begin=-1, end=1, extended=None):
    name = x509.Name([x509.NameAttribute(NameOID.COMMON_NAME, "signer")])
    now = datetime.fromtimestamp(NOW, UTC)
    builder = (
        x509.CertificateBuilder()
        .subject_name(name)
        .issuer_name(issuer)
        .public_key(key.public_key())
        .serial_number(1)
        .not_valid_before(now + timedelta(days=begin))
        .not_valid_after(now + timedelta(days=end))
    )
    if extended:
        builder = builder.add_extension(x509.ExtendedKeyUsage([extended]), critical=False)
    return builder.sign(issuer_key, hashes.SHA256())


@pytest.mark.parametrize(
    ("changes", "believed"),
    [
        ({}, True),
        ({"extended": ExtendedKeyUsageOID.CODE_SIGNING}, True),
        ({"extended": ExtendedKeyUsageOID.SERVER_AUTH}, False),
        ({"begin": 0.5}, False),
        ({"begin": -2, "end": -1}, False),
    ],
)
def test_the_signers_certificate_is_in_date_and_need_not_be_of_our_making(changes, believed):
    key = ec.generate_private_key(ec.SECP256R1())
    authority_key = ECKey.import_key(AUTHORITY.credential.key).private_key
    pem = certificate(key, authority_key, **changes).public_bytes(Encoding.PEM)
    signer = Credential(pem, private_pem(key))
    if believed:
        verify_token(token(signer=signer), CA, HANDSHAKE, NOW)
    else:
        refused(token(signer=signer))


@pytest.mark.parametrize(
    "change",
    [{"x5c": []}, {"x5c": None}, {"x5c": "x"}, {"x5c": ["AAAA"]}, {"x5c": [1]}, {"crv": "P-384"}, {"kty": "RSA"}],
)
def test_a_key_without_its_certificate_is_refused(change):
    refused(token(head=header(**change)))


@pytest.mark.parametrize("algorithm", ["none", "HS256", "ES384", "", None])
def test_another_algorithm_is_refused(algorithm):
    head, body, signature = token().split(".")
    members = json.loads(base64.urlsafe_b64decode(head + "=="))
    members["alg"] = algorithm
    altered = base64.urlsafe_b64encode(json.dumps(members).encode()).rstrip(b"=").decode()
    refused(f"{altered}.{body}.{signature}")


@pytest.mark.parametrize("part", [0, 1, 2])
def test_one_altered_character_is_refused(part):
    parts = token().split(".")
    middle = len(parts[part]) // 2
    swapped = "A" if parts[part][middle] != "A" else "B"
    parts[part] = parts[part][:middle] + swapped + parts[part][middle + 1 :]
    refused(".".join(parts))


@pytest.mark.parametrize(
    ("iat", "exp"),
    [(NOW - 600, NOW - 60), (NOW + 61, NOW + 300), (NOW, None), (None, NOW + 9)],
    ids=["expired", "from the future", "for ever", "from nowhen"],
)
def test_a_token_out_of_date_is_refused(iat, exp):
    refused(token(payload() | {"iat": iat, "exp": exp}))


def test_a_clock_may_differ_by_a_minute():
    verify_token(token(payload() | {"iat": NOW + 60, "exp": NOW - 59}), CA, HANDSHAKE, NOW)


def test_a_token_for_another_challenge_is_refused_as_that():
    claims = payload()
    other = base64.b64encode(b"\x01" * 32).decode()
    claims["submods"]["cpu0"]["ear.veraison.annotated-evidence"]["runtime_data_claims"]["nonce"] = other
    assert refused(token(claims), Code.ATTEST_NONCE) == other


def test_a_token_for_another_key_or_quote_is_refused():
    claims = payload()
    evidence = claims["submods"]["cpu0"]["ear.veraison.annotated-evidence"]
    evidence["runtime_data_claims"]["tee-pubkey"] = TeeKey().public.jwk()
    assert "another key" in refused(token(claims))
    claims = payload()
    claims["submods"]["cpu0"]["ear.veraison.annotated-evidence"]["report_data"] = "00" * 64
    assert "another quote" in refused(token(claims))


@pytest.mark.parametrize(
    ("where", "value"),
    [
        (("submods",), {}),
        (("submods", "cpu0"), None),
        (("submods", "cpu0", "ear.status"), 2),
        (("submods", "cpu0", "ear.trustworthiness-vector"), []),
        (("submods", "cpu0", "ear.trustworthiness-vector", "executables"), "3"),
        (("submods", "cpu0", "ear.trustworthiness-vector", "executables"), 128),
        (("submods", "cpu0", "ear.trustworthiness-vector", "reputation"), 2),
        (("submods", "cpu0", "ear.veraison.annotated-evidence", "sgx"), None),
        (("submods", "cpu0", "ear.veraison.annotated-evidence", "sgx", "tcb_status"), None),
        (("submods", "cpu0", "ear.veraison.annotated-evidence", "sgx", "body", "mr_enclave"), "AB" * 32),
        (("submods", "cpu0", "ear.veraison.annotated-evidence", "sgx", "body", "mr_enclave"), "ab" * 31),
        (("submods", "cpu0", "ear.veraison.annotated-evidence", "sgx", "body", "attributes.flags"), ""),
        (("submods", "cpu0", "ear.veraison.annotated-evidence", "report_data"), "zz"),
    ],
)
def test_claims_of_another_shape_are_refused(where, value):
    claims = payload()
    inner = claims
    for name in where[:-1]:
        inner = inner[name]
    inner[where[-1]] = value
    refused(token(claims))


@pytest.mark.filterwarnings("ignore::cryptography.utils.CryptographyDeprecationWarning")
def test_any_flipped_bit_of_the_signers_certificate_is_refused():
    whole = x509.load_pem_x509_certificate(SIGNER.certificate).public_bytes(Encoding.DER)
    for bit in range(0, len(whole) * 8, 5):
        altered = bytearray(whole)
        altered[bit // 8] ^= 1 << bit % 8
        refused(token(head=header(x5c=[base64.b64encode(altered).decode()])))


def test_a_refused_token_is_not_quoted():
    good = token(payload() | {"exp": 1})
    with pytest.raises(Permanent) as fault:
        verify_token(good, CA, HANDSHAKE, NOW)
    assert good.split(".")[2] not in fault.value.diagnostics()
