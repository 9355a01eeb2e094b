"""Every refusal the broker can answer with: Trustee's variants, Trustee's status codes.

Source: Trustee `kbs/src/error.rs`: status 404 for an unknown path or plugin, 401 for everything else; the body is
`{"type": ".../errors/<Variant>", "detail": "..."}` without a Content-Type. Trustee keeps the reason of an error in its
log; ours goes into `detail` after the same words, because whoever reads it is the one who must act on it. A detail
holds no key, no token and no plaintext.
"""

from __future__ import annotations

import json
from enum import StrEnum

from schemas.kbs import ERROR_TYPE_PREFIX


class Reason(StrEnum):
    """Why a handshake was refused; clients may rely on the word, which stands in brackets in the detail."""

    REQUEST = "request"
    TEE = "tee"
    SESSION = "session"
    NONCE = "nonce"
    QUOTE = "quote"
    DEBUG = "debug"
    REPORT_DATA = "report-data"
    INIT_DATA = "init-data"
    POLICY = "policy"


class EvidenceRefused(Exception):
    """Evidence that does not convince, and why. The edge turns it into a `Refused`."""

    def __init__(self, reason: Reason, sentence: str) -> None:
        super().__init__(f"[{reason}] {sentence}")
        self.reason = reason


class Refused(Exception):
    """An error reply. `variant` is a name of Trustee's `Error`, `detail` one line for a person."""

    def __init__(self, variant: str, detail: str, *, status: int = 401) -> None:
        super().__init__(f"{variant}: {detail}")
        self.variant = variant
        self.detail = detail
        self.status = status

    def body(self) -> bytes:
        """The reply's body."""
        return json.dumps({"type": ERROR_TYPE_PREFIX + self.variant, "detail": self.detail}).encode()


def auth_failed(why: str) -> Refused:
    """The first step of the handshake is refused."""
    return Refused("AttestationError", f"Attestation error: RCAR handshake Auth failed: {why}")


def attest_failed(refused: EvidenceRefused) -> Refused:
    """The second step of the handshake is refused."""
    return Refused("AttestationError", f"Attestation error: RCAR handshake Attest failed: {refused}")


def attestation_policy_failed(why: str) -> Refused:
    """The attestation policy that the owner sent cannot be used."""
    return Refused("AttestationError", f"Attestation error: Set Attestation Policy failed: {why}")


def token_not_found() -> Refused:
    """A resource was asked for without a token."""
    return Refused("TokenNotFound", "Attestation Token not found")


def token_refused(why: str) -> Refused:
    """A resource was asked for with a token that is not ours or has expired."""
    return Refused("TokenVerifierError", f"Token Verifier error: {why}")


def denied() -> Refused:
    """The resource policy does not allow it."""
    return Refused("PolicyDeny", "Access denied by policy")


def plugin_failed(why: str) -> Refused:
    """A resource does not exist or has an impossible name."""
    return Refused("PluginInternalError", f"Plugin internal error: {why}")


def no_plugin(name: str) -> Refused:
    """There is nothing of that name for that method."""
    return Refused("PluginNotFound", f"Plugin {ascii(name[:64])[1:-1]} not found", status=404)


def no_path(path: str) -> Refused:
    """The path or its query is none that could name anything."""
    return Refused("InvalidRequestPath", f"Request path {ascii(path[:256])[1:-1]} is invalid", status=404)


def bad_policy(why: str) -> Refused:
    """A policy cannot be read."""
    return Refused("ParsePolicyError", f"Failed to parse policy: {why}")


def policy_broke(why: str) -> Refused:
    """A policy that was accepted cannot be evaluated."""
    return Refused("PolicyEngineError", f"Policy engine error: {why}")


def reference_values_failed(why: str) -> Refused:
    """A reference value cannot be read or is not known."""
    return Refused("RvpsError", f"RVPS configuration failed: {why}")


def not_admin(endpoint: str, why: str) -> Refused:
    """An admin call without the owner's signature. Trustee names the resource endpoints' variant otherwise."""
    said = f"Admin access denied: {why}"
    if endpoint == "resource":
        return Refused("AdminAuthInitialization", f"failed to initialize [admin] configuration: {said}")
    return Refused("AdminAuthAccess", f"admin access denied for endpoint {endpoint}: {said}")
