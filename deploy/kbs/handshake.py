"""The RCAR handshake, server side: request, challenge, attestation, response.

Source: Trustee `kbs/src/attestation/backend.rs` (`__auth`, `__attest`). As there, a refused attestation does not use up
its challenge, and a session that has its token gives the same one again without looking at what came.
"""

from __future__ import annotations

import hashlib
import time
from typing import TYPE_CHECKING, Final

import structlog

from deploy.kbs import jwe
from deploy.kbs.appraisal import annotated_evidence, appraise
from deploy.kbs.init_data import InitData
from deploy.kbs.policies import PolicyBroken
from deploy.kbs.quote import MAX_QUOTE_BYTES
from deploy.kbs.refused import EvidenceRefused, Reason, attest_failed, auth_failed
from schemas.kbs import PROTOCOL_VERSION, TeePublicKey, report_data, runtime_data, tee_public_key
from schemas.strict_json import JsonObject, Malformed, base64_bytes, nested, only, parse_object, text

if TYPE_CHECKING:
    from collections.abc import Callable

    from deploy.kbs.policies import Policies
    from deploy.kbs.sessions import Session, Sessions
    from deploy.kbs.tokens import TokenSigner
    from deploy.kbs.verifier import SgxVerifier

_TEE: Final = "sgx"
_log = structlog.get_logger("kbs.handshake")


class Handshake:
    """Turns evidence into tokens."""

    def __init__(
        self,
        sessions: Sessions,
        verifier: SgxVerifier,
        policies: Policies,
        signer: TokenSigner,
        clock: Callable[[], float] = time.time,
    ) -> None:
        self._sessions = sessions
        self._verifier = verifier
        self._policies = policies
        self._signer = signer
        self._clock = clock

    def challenge(self, body: bytes) -> Session:
        """A new session for a request that speaks exactly our version about SGX; `Refused` otherwise."""
        try:
            request = parse_object(body)
            version, tee = text(request, "version"), text(request, "tee")
        except Malformed as malformed:
            raise auth_failed(f"deserialize Request: {malformed}") from None
        if version != PROTOCOL_VERSION:
            got = version[:32].encode("ascii", "backslashreplace").decode("ascii")
            raise auth_failed(
                f"KBS Client Protocol Version Mismatch: expect ={PROTOCOL_VERSION} while the request is {got}"
            )
        if tee != _TEE:
            raise auth_failed(f"[{Reason.TEE}] only evidence of {_TEE} is verified here")
        return self._sessions.open()

    def attest(self, body: bytes, session_id: str | None) -> Session:
        """The session with its token; `Refused` when the evidence does not convince. The reason is logged and told."""
        try:
            session = self._session(session_id)
            return session if session.token else self._judge(body, session)
        except EvidenceRefused as refused:
            _log.warning("evidence refused", reason=refused.reason, detail=str(refused))
            raise attest_failed(refused) from None

    def _session(self, session_id: str | None) -> Session:
        session = self._sessions.find(session_id) if session_id else None
        if session is None:
            raise EvidenceRefused(Reason.SESSION, "session not found or expired")
        return session

    def _judge(self, body: bytes, session: Session) -> Session:
        try:
            key, quote, init_data_body = _read(body, session.nonce)
        except Malformed as malformed:
            raise EvidenceRefused(Reason.REQUEST, f"deserialize Attestation: {malformed}") from None
        init_data = InitData.parse(init_data_body) if init_data_body is not None else None
        runtime = runtime_data(session.nonce, key)
        digest = init_data.digest if init_data else None
        sgx = self._verifier.verify(quote, report_data(runtime), digest, int(self._clock()))
        try:
            judged = appraise(self._policies, annotated_evidence(sgx, runtime, init_data))
        except PolicyBroken as broken:
            raise EvidenceRefused(Reason.POLICY, str(broken)) from None
        token = self._signer.issue(judged)
        _log.info(
            "attested",
            status=judged["ear.status"],
            mr_enclave=nested(sgx, "body")["mr_enclave"],
            tcb_status=sgx["tcb_status"],
            trust_anchor=sgx["trust_anchor"],
            simulated=sgx["simulated"],
            token_sha256=hashlib.sha256(token.encode()).hexdigest(),
        )
        return self._sessions.attested(session, token)


def _read(body: bytes, nonce: str) -> tuple[TeePublicKey, bytes, str | None]:
    """The TEE's key, its quote and its init-data. `EvidenceRefused(NONCE)` for an answer to another challenge."""
    attestation = parse_object(body)
    runtime, evidence = nested(attestation, "runtime-data"), nested(attestation, "tee-evidence")
    if text(runtime, "nonce") != nonce:
        raise EvidenceRefused(Reason.NONCE, "the nonce in the handshake session is different from the client's")
    if text(evidence, "additional_evidence"):
        raise EvidenceRefused(Reason.TEE, "evidence of additional devices is not verified here")
    key = tee_public_key(nested(runtime, "tee-pubkey"))
    jwe.check(key)
    primary = nested(evidence, "primary_evidence")
    only(primary, "quote")
    encoded = text(primary, "quote")
    if len(encoded) > MAX_QUOTE_BYTES * 2:
        raise Malformed("quote: too long")
    return key, base64_bytes(encoded, "quote"), _init_data(attestation)


def _init_data(attestation: JsonObject) -> str | None:
    if attestation.get("init-data") is None:
        return None
    init_data = nested(attestation, "init-data")
    if text(init_data, "format") != "toml":
        raise EvidenceRefused(Reason.INIT_DATA, "Unsupported initdata format: toml is expected")
    return text(init_data, "body")
