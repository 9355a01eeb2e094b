"""What the broker says when it refuses, and which fault that is.

Trustee answers nearly every error with status 401 (kbs/src/error.rs), so the status tells nothing: the last part of the
body's `type` does. Why evidence was refused stands in our broker's `detail`, as `[reason]` before the sentence; Trustee
keeps it in its log, and then the fault says so.
"""

from __future__ import annotations

import re
from dataclasses import dataclass
from typing import Final

from orchestrator.faults import Code, Fault, Permanent, Temporary
from schemas.kbs import ERROR_TYPE_PREFIX, PROTOCOL_VERSION
from schemas.strict_json import Malformed, parse_object, text
from workers.enclave.kbs.channel import Reply, Unreachable

_MAX_DETAIL: Final = 512
_REASON: Final = re.compile(r"\[([a-z-]{1,32})\] ")
_VERSION_MISMATCH: Final = "KBS Client Protocol Version Mismatch"
# The variants with which a token is refused: a fresh handshake may help.
_TOKEN_VARIANTS: Final = frozenset({"TokenNotFound", "TokenVerifierError"})

# Reason: the code, what the broker expects, what to try.
_EVIDENCE: Final = {
    "nonce": (
        Code.ATTEST_NONCE,
        "the nonce of the broker's own challenge",
        "something between here and the broker altered the nonce; is the proxy honest?",
    ),
    "debug": (
        Code.ATTEST_DEBUG,
        "an enclave whose attribute DEBUG is clear",
        "build the enclave without debug; no policy can allow it at this broker",
    ),
    "quote": (
        Code.ATTEST_QUOTE,
        "a quote of a platform whose root the broker trusts",
        "does the broker know this platform's root, and is its collateral in date?",
    ),
    "report-data": (
        Code.ATTEST_QUOTE,
        "a quote that binds this handshake's runtime data",
        "the quote binds other runtime data; something altered the handshake",
    ),
    "init-data": (
        Code.AGENT_INIT_DATA,
        "init-data whose digest is the enclave's CONFIGID",
        "the enclave was not launched with the init-data that it presents",
    ),
    "policy": (
        Code.ATTEST_QUOTE,
        "an attestation policy that judges this evidence",
        "the owner's attestation policy gives no judgement; mend it and set it again",
    ),
    "request": (
        Code.ATTEST_QUOTE,
        "evidence in the protocol's shape",
        "client and broker disagree on the protocol's shapes; are they of one release?",
    ),
    "tee": (Code.ATTEST_QUOTE, "a TEE that the broker verifies", "this broker verifies SGX quotes only"),
}
_UNSAID: Final = (
    Code.ATTEST_QUOTE,
    "evidence that the broker accepts",
    "the broker's own log has the reason; Trustee does not send it",
)


@dataclass(frozen=True, slots=True)
class Refusal:
    """An error body: the variant's name, the broker's words (printable, bounded) and its `[reason]`, if any."""

    variant: str
    detail: str
    reason: str = ""

    @classmethod
    def read(cls, reply: Reply) -> Refusal:
        """From a reply that is not 200. `Unreachable` when a broker could not answer, `Malformed` when it is none."""
        if reply.status == 429 or reply.status >= 500:
            raise Unreachable(f"it answers with status {reply.status}")
        try:
            members = parse_object(reply.body)
            kind, detail = text(members, "type"), text(members, "detail")
        except Malformed:
            raise Malformed(f"status {reply.status} without an error body") from None
        if not kind.startswith(ERROR_TYPE_PREFIX):
            raise Malformed(f"status {reply.status} with an unknown error type")
        reason = _REASON.search(detail)
        printable = "".join(c if c.isprintable() else " " for c in detail[:_MAX_DETAIL])
        return cls(ascii(kind.removeprefix(ERROR_TYPE_PREFIX)[:64])[1:-1], printable, reason.group(1) if reason else "")

    @property
    def of_the_token(self) -> bool:
        """Whether a fresh handshake may change the answer."""
        return self.variant in _TOKEN_VARIANTS

    def at_attestation(self) -> Fault:
        """The fault for a refused handshake."""
        if _VERSION_MISMATCH in self.detail:
            return Permanent(
                Code.ATTEST_PROTOCOL,
                "the key broker speaks another version of the protocol",
                expected=PROTOCOL_VERSION,
                got=self.detail,
                advice="Trustee speaks 0.4.0 from release 0.14 on; there is no negotiation",
            )
        if self.reason == "session":
            return Temporary(
                Code.ATTEST_KBS_AWAY,
                "the key broker no longer knows the session",
                expected="the session of its own challenge",
                got=self.detail,
                advice="retry",
            )
        code, expected, advice = _EVIDENCE.get(self.reason, _UNSAID)
        return Permanent(
            code, "the key broker refused the evidence", expected=expected, got=self._told(), advice=advice
        )

    def at_resource(self, uri: object) -> Fault:
        """The fault for a refused resource. Absent and denied are told apart by the variant only."""
        match self.variant:
            case "PolicyDeny":
                return Permanent(
                    Code.KEY_DENIED,
                    f"the owner's policy denies {uri}",
                    expected="a policy that allows it to this measurement",
                    got=self._told(),
                    advice="compare the broker's resource policy with this enclave's claims",
                )
            case "PluginInternalError":
                return Permanent(
                    Code.KEY_UNKNOWN,
                    f"the key broker has no {uri}",
                    expected="a registered resource",
                    got=self._told(),
                    advice="register it: enclave-cc kbs put-resource",
                )
            case _:
                return Permanent(Code.KEY_DENIED, f"the key broker refuses {uri}", expected="a JWE", got=self._told())

    def _told(self) -> str:
        return f"{self.variant}: {self.detail}"
