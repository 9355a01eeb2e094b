"""Judging SGX evidence: is it a genuine quote, and is it bound to this handshake?

1. The quote has the shape of version 3 and its certificates end at a root that the owner trusts.
2. The enclave cannot be debugged. Looked at before the signatures, for an exact reason: a refusal needs no proof.
3. dcap-qvl, an independent verifier, accepts signatures, certificates, revocation lists, QE identity and TCB level
   under that root, with that root's collateral, now. A TCB status short of "Revoked" is a claim, for the policy.
4. REPORTDATA is the hash of the runtime data, padded with zeros.
5. Where init-data is presented, CONFIGID is its digest, padded with zeros.

Source: Trustee `deps/verifier/src/sgx/mod.rs` and `intel_dcap/claims.rs` (names and forms of the claims). Two claims
are ours: `simulated` and `trust_anchor`. The one import of dcap_qvl.
"""

from __future__ import annotations

from datetime import UTC, datetime
from typing import TYPE_CHECKING, Final

import dcap_qvl

from deploy.kbs.anchors import root_key_id
from deploy.kbs.quote import Quote
from deploy.kbs.refused import EvidenceRefused, Reason
from schemas.sgx import CONFIG_ID_BYTES, REPORT_DATA_BYTES
from schemas.strict_json import JsonObject, JsonValue, Malformed, integer, nested, parse_object, strings, text

if TYPE_CHECKING:
    from deploy.kbs.anchors import Anchor

_SGX_TYPES: Final = {0: "Standard", 1: "Scalable", 2: "Scalable with Integrity"}


class SgxVerifier:
    """Verifies quotes under the owner's anchors."""

    def __init__(self, anchors: tuple[Anchor, ...]) -> None:
        self._anchors = {anchor.root_key_id: anchor for anchor in anchors}

    def verify(self, raw: bytes, report_data: bytes, init_data_digest: bytes | None, now: int) -> JsonObject:
        """Trustee's `sgx` claims of a good quote; `EvidenceRefused` otherwise. `now` is unix seconds."""
        quote = Quote.parse(raw)
        anchor = self._anchor_of(quote)
        if quote.debug:
            raise EvidenceRefused(Reason.DEBUG, "the enclave's attribute DEBUG is set: a debugger reads its memory")
        platform = _verified(quote, anchor, now)
        if quote.body["report_data"] != report_data.ljust(REPORT_DATA_BYTES, b"\0"):
            raise EvidenceRefused(Reason.REPORT_DATA, "REPORT_DATA is different from that in SGX Quote")
        if init_data_digest is not None and quote.body["config_id"] != init_data_digest.ljust(CONFIG_ID_BYTES, b"\0"):
            raise EvidenceRefused(Reason.INIT_DATA, "CONFIGID is different from that in SGX Quote")
        return quote.claims() | platform | {"simulated": anchor.simulated, "trust_anchor": anchor.name}

    def _anchor_of(self, quote: Quote) -> Anchor:
        try:
            key_id = root_key_id(quote.chain[-1])
        except Malformed:
            raise EvidenceRefused(Reason.QUOTE, "the PCK chain does not end at a root of Intel's profile") from None
        anchor = self._anchors.get(key_id)
        if anchor is None:
            known = ", ".join(anchor.name for anchor in self._anchors.values())
            raise EvidenceRefused(Reason.QUOTE, f"root key {key_id} is not trusted here; trusted are: {known}")
        return anchor


def _verified(quote: Quote, anchor: Anchor, now: int) -> JsonObject:
    """What dcap-qvl found out about the platform, as claims."""
    try:
        collateral = anchor.collateral_for(dcap_qvl.parse_quote(quote.raw).fmspc())
    except OSError:
        raise EvidenceRefused(Reason.QUOTE, f"there is no collateral for this platform under {anchor.name}") from None
    except ValueError as error:
        raise EvidenceRefused(Reason.QUOTE, _sentence(error)) from None
    try:
        verifier = dcap_qvl.QuoteVerifier(anchor.root_der)
        parsed = dcap_qvl.QuoteCollateralV3.from_json(collateral)
        # Every status but "Revoked" passes: what is good enough is the policy's decision.
        everything = dcap_qvl.QuotePolicy.claims_only(now)
        found: str = verifier.verify_with_policy(quote.raw, parsed, now, everything).to_json()
    except ValueError as error:
        raise EvidenceRefused(Reason.QUOTE, f"{_sentence(error)} (under {anchor.name})") from None
    return _platform_claims(parse_object(found), now)


def _platform_claims(found: JsonObject, now: int) -> JsonObject:
    tcb, platform = nested(found, "tcb"), nested(found, "platform")
    pck = nested(platform, "pck")
    expires = integer(found, "earliest_expiration_date")
    sgx_type = integer(pck, "sgx_type")
    claims: JsonObject = {
        "tcb_status": text(tcb, "status"),
        "advisory_ids": list(strings(tcb, "advisory_ids")),
        "tcb_date": _instant(integer(platform, "tcb_date_tag")),
        "tcb_eval_num": integer(tcb, "eval_data_number"),
        "collateral_expiration_status": "0" if expires > now else "1",
        "earliest_issue_date": _instant(integer(found, "earliest_issue_date")),
        "latest_issue_date": _instant(integer(found, "latest_issue_date")),
        "earliest_expiration_date": _instant(expires),
        "pck_crl_num": integer(platform, "pck_crl_num"),
        "root_ca_crl_num": integer(platform, "root_ca_crl_num"),
        "root_key_id": _hex(platform["root_key_id"]),
        "platform_provider_id": _hex(pck["ppid"]),
        "sgx_type": _SGX_TYPES.get(sgx_type, f"Unknown ({sgx_type})"),
    }
    if sgx_type > 0:
        claims["is_dynamic_platform"] = pck["dynamic_platform"] == "True"
        claims["is_cached_keys"] = pck["cached_keys"] == "True"
        claims["is_smt_enabled"] = pck["smt_enabled"] == "True"
    if pck["platform_instance_id"] is not None:
        claims["platform_instance_id"] = _hex(pck["platform_instance_id"])
    return claims


def _instant(seconds: int) -> str:
    return datetime.fromtimestamp(seconds, UTC).strftime("%Y-%m-%dT%H:%M:%SZ")


def _hex(octets: JsonValue) -> str:
    """dcap-qvl writes bytes as arrays of numbers."""
    return bytes(octet for octet in octets if isinstance(octet, int)).hex() if isinstance(octets, list) else ""


def _sentence(error: ValueError) -> str:
    return " ".join(str(error).split())[:256]
