"""The RCAR handshake (request, challenge, attestation, response) and the resources it opens.

Source: docs/formats/kbs.md, which follows Trustee `kbs/src/attestation/backend.rs` and guest-components
`attestation-agent/kbs_protocol`. One call is one attempt: what is `Temporary` is tried again by whoever called.
"""

from __future__ import annotations

import base64
import hashlib
import json
import threading
import time
from dataclasses import dataclass, field
from typing import Final, Protocol

from cryptography import x509

from orchestrator.faults import Code, Permanent, Temporary
from schemas.kbs import NONCE_BYTES, PREFIX, PROTOCOL_VERSION, SESSION_COOKIE, report_data, runtime_data
from schemas.strict_json import JsonObject, Malformed, base64_bytes, parse_object, text
from workers.enclave.kbs.appraisal import Claims, require_affirming
from workers.enclave.kbs.channel import Channel, Reply, Unreachable
from workers.enclave.kbs.refusal import Refusal
from workers.enclave.kbs.tee_key import TeeKey
from workers.enclave.kbs.token import Handshake, verify_token
from workers.enclave.kbs.uri import ResourceUri

_QUOTED_BYTES: Final = 64
_EXPIRY_MARGIN_SECONDS: Final = 10
_JSON: Final = {"Content-Type": "application/json"}


class Quoter(Protocol):
    """The hardware's part: evidence about this enclave that a stranger can check."""

    def quote(self, report_data: bytes) -> bytes:
        """A DCAP quote, version 3, over exactly these 64 bytes."""
        ...


@dataclass(frozen=True, slots=True)
class AttestationResult:
    """A token for this enclave and what it says. The token opens resources: it stays out of logs and facts.

    `token_sha256` (64 hex digits) is what may be told.
    """

    token: str = field(repr=False)
    token_sha256: str
    claims: Claims


class KbsClient:
    """One enclave's dealings with the owner's broker. Calls block and may come from any thread.

    `url`, `ca_pem` (one certificate, else `Permanent(INPUT)`) and `init_data` come from the init-data that the hardware
    vouches for, never from the host; `proxy_url` is the host's and is trusted with nothing.
    """

    def __init__(self, url: str, ca_pem: str, tee: Quoter, proxy_url: str | None, init_data: str | None) -> None:
        self._channel = Channel(url, ca_pem, proxy_url)
        self._ca = _authority(ca_pem)
        self._tee = tee
        self._init_data = init_data
        self._key = TeeKey()
        self._turn = threading.Lock()
        self._attested: AttestationResult | None = None

    def attest(self) -> AttestationResult:
        """A whole, fresh handshake. Faults: `ATTEST_*`, `AGENT_INIT_DATA`; only `ATTEST_KBS_AWAY` is `Temporary`.

        A token that does not affirm is a fault as well: it would open nothing worth having.
        """
        with self._turn:
            return self._attest()

    def get_resource(self, uri: ResourceUri) -> bytes:
        """The plaintext of `uri`, at most 2 MiB. Attests when need be, and once more when the broker forgot or expired.

        Faults: those of `attest`, `KEY_UNKNOWN`, `KEY_DENIED`, `KEY_MALFORMED`, and `Temporary(KEY_KBS_AWAY)`.
        """
        attested = self._current(refused=None)
        try:
            reply = self._fetch(uri, attested)
            if reply.status != 200 and Refusal.read(reply).of_the_token:
                reply = self._fetch(uri, self._current(refused=attested))
            if reply.status != 200:
                raise Refusal.read(reply).at_resource(uri)
            return self._key.decrypt(reply.body)
        except Malformed as malformed:
            raise Permanent(
                Code.KEY_MALFORMED,
                f"the key broker's reply for {uri} cannot be used",
                expected="a JWE for this enclave's key, whole and unaltered",
                got=str(malformed),
                advice="what answers for the broker is not honest, or is none",
            ) from malformed
        except Unreachable as away:
            raise Temporary(
                Code.KEY_KBS_AWAY,
                f"the key broker cannot be reached for {uri}",
                expected="a reply under the owner's certificate",
                got=str(away),
                advice="is it up, and does the host's proxy allow its address?",
            ) from away

    def close(self) -> None:
        """Close the connections; the key and the token go with the object."""
        self._channel.close()

    def _current(self, refused: AttestationResult | None) -> AttestationResult:
        """An attestation in date that is not `refused`. Of several threads that need a fresh one, one makes it."""
        with self._turn:
            known = self._attested
            if known is None or known is refused or known.claims.expires_at <= time.time() + _EXPIRY_MARGIN_SECONDS:
                return self._attest()
            return known

    def _attest(self) -> AttestationResult:
        self._attested = None
        try:
            result = self._handshake()
        except Malformed as malformed:
            raise Permanent(
                Code.ATTEST_PROTOCOL,
                "the key broker's reply is not of the protocol",
                expected=f"KBS protocol {PROTOCOL_VERSION}",
                got=str(malformed),
            ) from malformed
        except Unreachable as away:
            raise Temporary(
                Code.ATTEST_KBS_AWAY,
                "the key broker cannot be reached",
                expected="a reply under the owner's certificate",
                got=str(away),
                advice="is it up, and does the host's proxy allow its address?",
            ) from away
        require_affirming(result.claims)
        self._attested = result
        return result

    def _handshake(self) -> AttestationResult:
        nonce, session = self._challenge()
        runtime = runtime_data(nonce, self._key.public)
        quoted = report_data(runtime).ljust(_QUOTED_BYTES, b"\0")
        evidence = {"quote": base64.b64encode(self._tee.quote(quoted)).decode("ascii")}
        attestation: JsonObject = {
            "runtime-data": {"nonce": nonce, "tee-pubkey": self._key.public.jwk()},
            "tee-evidence": {"primary_evidence": {**evidence}, "additional_evidence": ""},
        }
        if self._init_data is not None:
            attestation["init-data"] = {"format": "toml", "body": self._init_data}
        reply = self._post("attest", attestation, session)
        token = text(parse_object(reply.body), "token")
        claims = verify_token(token, self._ca, Handshake(nonce, self._key.public, quoted), int(time.time()))
        return AttestationResult(token, hashlib.sha256(token.encode()).hexdigest(), claims)

    def _challenge(self) -> tuple[str, str]:
        """The nonce and the session it belongs to."""
        supported: JsonObject = {"supported-hash-algorithms": ["sha256", "sha384", "sha512"]}
        reply = self._post("auth", {"version": PROTOCOL_VERSION, "tee": "sgx", "extra-params": supported}, None)
        challenge = parse_object(reply.body)
        nonce = text(challenge, "nonce")
        try:
            base64_bytes(nonce, "nonce", size=NONCE_BYTES)
        except Malformed as malformed:
            raise Permanent(
                Code.ATTEST_NONCE, "the challenge holds no usable nonce", expected="32 bytes", got=str(malformed)
            ) from malformed
        # Only IBM's TEE is told to hash otherwise; for SGX the hash is SHA-384 and a reply that differs is a trap.
        extra = challenge.get("extra-params")
        if isinstance(extra, dict) and extra.get("selected-hash-algorithm", "sha384") != "sha384":
            raise Malformed("extra-params: SHA-384 is expected")
        if reply.session is None:
            raise Malformed(f"the challenge sets no cookie {SESSION_COOKIE}")
        return nonce, reply.session

    def _post(self, endpoint: str, body: JsonObject, session: str | None) -> Reply:
        cookie = {"Cookie": f"{SESSION_COOKIE}={session}"} if session else {}
        reply = self._channel.send("POST", f"{PREFIX}/{endpoint}", _JSON | cookie, json.dumps(body).encode())
        if reply.status != 200:
            raise Refusal.read(reply).at_attestation()
        return reply

    def _fetch(self, uri: ResourceUri, attested: AttestationResult) -> Reply:
        return self._channel.send("GET", uri.path, {"Authorization": f"Bearer {attested.token}"})


def _authority(ca_pem: str) -> x509.Certificate:
    """The one authority: with two, TLS and tokens could be of different owners."""
    certificates = x509.load_pem_x509_certificates(ca_pem.encode())
    if len(certificates) != 1:
        raise Permanent(
            Code.INPUT,
            "the owner has one authority",
            expected="one certificate",
            got=f"{len(certificates)} certificates",
        )
    return certificates[0]
