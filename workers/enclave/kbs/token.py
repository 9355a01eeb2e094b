"""The attestation token: a JWT signed with ES256 (EAR, draft-ietf-rats-ear), checked before a word of it is believed.

1. It is a compact JWS of bounded size whose header has exactly the agreed algorithm and carries its key.
2. The key is that of the certificate beside it (`x5c`).
3. That certificate chains to the owner's authority, is in date, and is not one for TLS servers: the broker's TLS key
   is nearer to the network than its token key, and may not stand in for it.
4. The signature is good.
5. The token is in date.
6. It was made for this handshake: our key, our nonce, our report data.

Source: Trustee `kbs/src/crypto/jwt.rs`, `attestation-service/src/ear_token/broker.rs`. Any failure is a
`Permanent(ATTEST_TOKEN)`, a wrong nonce `Permanent(ATTEST_NONCE)`.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Final

from cryptography import x509
from cryptography.exceptions import UnsupportedAlgorithm
from cryptography.hazmat.primitives.asymmetric import ec
from cryptography.x509.verification import VerificationError
from joserfc import jws
from joserfc.errors import JoseError
from joserfc.jwk import ECKey

from orchestrator.faults import Code, Permanent
from schemas.kbs import TeePublicKey
from schemas.strict_json import (
    JsonObject,
    Malformed,
    base64_bytes,
    base64url_bytes,
    integer,
    nested,
    parse_object,
    strings,
    text,
)
from workers.enclave.kbs.appraisal import Claims, TrustVector
from workers.enclave.kbs.signer import check_signer

_ALGORITHM: Final = "ES256"
_MAX_TOKEN: Final = 256 * 1024
_CLOCK_SKEW_SECONDS: Final = 60
_EVIDENCE: Final = "ear.veraison.annotated-evidence"
_VECTOR: Final = "ear.trustworthiness-vector"
_DEBUG_FLAG: Final = 0x02


@dataclass(frozen=True, slots=True)
class Handshake:
    """What a token must have been made for. `report_data` is the 64 bytes that were quoted."""

    nonce: str
    key: TeePublicKey
    report_data: bytes


def verify_token(token: str, ca: x509.Certificate, handshake: Handshake, now: int) -> Claims:
    """The claims of `token`, after all the checks above. `now` is unix seconds."""
    try:
        payload = parse_object(_signed_payload(token, ca, now))
        _in_date(payload, now)
        return _claims(payload, handshake)
    except (JoseError, VerificationError, UnsupportedAlgorithm, x509.InvalidVersion, ValueError) as error:
        raise Permanent(
            Code.ATTEST_TOKEN,
            "the attestation token is not the owner's",
            expected="a token signed under the owner's authority for this handshake",
            got=f"{type(error).__name__}: {error}"[:512],
            advice="does the broker's token signer chain to the authority in the init-data? are the clocks right?",
        ) from error


def _signed_payload(token: str, ca: x509.Certificate, now: int) -> bytes:
    if len(token) > _MAX_TOKEN or not token.isascii():
        raise Malformed(f"token: at most {_MAX_TOKEN} ASCII characters are expected")
    header = parse_object(base64url_bytes(token.partition(".")[0], "header"))
    jwk = nested(header, "jwk")
    if (text(header, "alg"), text(jwk, "kty"), text(jwk, "crv")) != (_ALGORITHM, "EC", "P-256"):
        raise Malformed(f"header: {_ALGORITHM} with a P-256 key is expected")
    chain = [x509.load_der_x509_certificate(base64_bytes(c, "x5c")) for c in strings(jwk, "x5c")]
    if not chain:
        raise Malformed("x5c: a certificate is expected")
    public = chain[0].public_key()
    if not isinstance(public, ec.EllipticCurvePublicKey) or _coordinates(public) != (text(jwk, "x"), text(jwk, "y")):
        raise Malformed("x5c: its certificate is for another key than the token's")
    check_signer(ca, chain, now)
    registry = jws.JWSRegistry(algorithms=[_ALGORITHM])
    registry.max_header_length = registry.max_payload_length = _MAX_TOKEN
    return jws.deserialize_compact(token, ECKey(public, public), registry=registry).payload


def _coordinates(public: ec.EllipticCurvePublicKey) -> tuple[str, str]:
    jwk = ECKey(public, public).as_dict(private=False)
    return str(jwk["x"]), str(jwk["y"])


def _in_date(payload: JsonObject, now: int) -> None:
    if integer(payload, "exp") <= now - _CLOCK_SKEW_SECONDS:
        raise Malformed("exp: the token has expired")
    if integer(payload, "iat") > now + _CLOCK_SKEW_SECONDS:
        raise Malformed("iat: the token is from the future")


def _claims(payload: JsonObject, handshake: Handshake) -> Claims:
    submodule = nested(nested(payload, "submods"), "cpu0")
    evidence = nested(submodule, _EVIDENCE)
    _made_for(evidence, handshake)
    sgx = nested(evidence, "sgx")
    body = nested(sgx, "body")
    flags = _hex(text(body, "attributes.flags"), 8)
    vector = nested(submodule, _VECTOR)
    return Claims(
        status=text(submodule, "ear.status"),
        tcb_status=text(sgx, "tcb_status"),
        measurement=_hex(text(body, "mr_enclave"), 32).hex(),
        # Trustee has no such claim: it knows Intel's root only.
        simulated=sgx.get("simulated", False) is not False,
        debug=bool(flags[0] & _DEBUG_FLAG),
        config_id=_hex(text(body, "config_id"), 64).hex(),
        vector=TrustVector(
            **{name.replace("-", "_"): _claim(vector, name) for name in vector},
        ),
        expires_at=integer(payload, "exp"),
    )


def _made_for(evidence: JsonObject, handshake: Handshake) -> None:
    runtime = nested(evidence, "runtime_data_claims")
    if nested(runtime, "tee-pubkey") != handshake.key.jwk():
        raise Malformed("tee-pubkey: the token is for another key")
    if text(runtime, "nonce") != handshake.nonce:
        raise Permanent(
            Code.ATTEST_NONCE,
            "the attestation token answers another challenge",
            expected=handshake.nonce,
            got=text(runtime, "nonce")[:64],
        )
    if _hex(text(evidence, "report_data"), 64) != handshake.report_data:
        raise Malformed("report_data: the token is for another quote")


def _claim(vector: JsonObject, name: str) -> int:
    value = integer(vector, name)
    if name.replace("-", "_") not in TrustVector.__dataclass_fields__ or not -128 <= value <= 127:
        raise Malformed(f"{_VECTOR}: an unknown claim or a number out of range")
    return value


def _hex(digits: str, size: int) -> bytes:
    raw = bytes.fromhex(digits)
    if len(raw) != size or raw.hex() != digits:
        raise Malformed(f"{size} bytes of lower-case hex are expected")
    return raw
