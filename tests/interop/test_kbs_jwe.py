"""Resources as Trustee seals them, read by two JOSE libraries that are not ours."""

from __future__ import annotations

import base64
import json

import pytest
from cryptography.hazmat.primitives.asymmetric import ec, rsa
from joserfc import jwe as joserfc_jwe
from joserfc.jwk import ECKey, RSAKey
from jwcrypto import jwe as jwcrypto_jwe
from jwcrypto import jwk as jwcrypto_jwk

from deploy.kbs.certificates import private_pem
from deploy.kbs.jwe import seal
from schemas.kbs import EcPublicKey, RsaPublicKey, tee_public_key

PLAIN = bytes(range(256)) * 5


def ec_pair(curve):
    private = ECKey.import_key(private_pem(ec.generate_private_key(curve)))
    return private, tee_public_key({**private.as_dict(private=False), "alg": EcPublicKey.ALGORITHM})


def rsa_pair(bits):
    private = RSAKey.import_key(private_pem(rsa.generate_private_key(65537, bits)))
    return private, tee_public_key({**private.as_dict(private=False), "alg": RsaPublicKey.ALGORITHM})


PAIRS = {
    "P-256": lambda: ec_pair(ec.SECP256R1()),
    "P-521": lambda: ec_pair(ec.SECP521R1()),
    "RSA-2048": lambda: rsa_pair(2048),
}


@pytest.mark.parametrize("kind", PAIRS)
def test_joserfc_reads_it(kind):
    private, public = PAIRS[kind]()
    sealed = json.loads(seal(public, PLAIN))
    algorithms = [public.ALGORITHM, "A256GCM"]
    assert joserfc_jwe.decrypt_json(sealed, private, algorithms=algorithms).plaintext == PLAIN


@pytest.mark.parametrize("kind", PAIRS)
def test_jwcrypto_reads_it(kind):
    private, public = PAIRS[kind]()
    token = jwcrypto_jwe.JWE()
    token.deserialize(seal(public, PLAIN).decode(), jwcrypto_jwk.JWK.from_pem(private.as_pem(private=True)))
    assert token.payload == PLAIN


def test_the_rust_client_finds_the_header_where_it_will_make_it_again():
    """It parses the header and writes it anew: alg, enc, then the rest sorted, compact (kbs-types, Response)."""
    _, public = ec_pair(ec.SECP256R1())
    sealed = seal(public, PLAIN)
    reply = json.loads(sealed)
    assert list(reply) == ["protected", "encrypted_key", "iv", "ciphertext", "tag"]
    assert sealed == json.dumps(reply, separators=(",", ":")).encode()
    text = base64.urlsafe_b64decode(reply["protected"] + "=" * (-len(reply["protected"]) % 4))
    header = json.loads(text)
    rest = {name: header[name] for name in sorted(header.keys() - {"alg", "enc"})}
    again = {"alg": header["alg"], "enc": header["enc"]} | {
        name: dict(sorted(value.items())) for name, value in rest.items()
    }
    assert text == json.dumps(again, separators=(",", ":")).encode()
    assert list(header) == ["alg", "enc", "epk"]


def test_every_seal_is_a_new_one():
    _, public = ec_pair(ec.SECP256R1())
    first, second = (json.loads(seal(public, PLAIN)) for _ in range(2))
    assert all(first[name] != second[name] for name in first)
