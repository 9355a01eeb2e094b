"""The bytes of an SGX DCAP quote, version 3, as Trustee's claims: raw fields in lower-case hex, little endian as found.

Source: Trustee `deps/verifier/src/sgx/claims.rs` and `intel_dcap/quote.rs`; Intel, "SGX ECDSA Quote Library Reference",
appendix A.4. Reserved fields are claims too: what they hold is for a policy to judge.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Final

from cryptography import x509

from deploy.kbs.refused import EvidenceRefused, Reason
from schemas.sgx import Attributes
from schemas.strict_json import JsonObject

_HEADER: Final = (
    ("version", 2),
    ("att_key_type", 2),
    ("att_key_data_0", 4),
    ("qe_svn", 2),
    ("pce_svn", 2),
    ("vendor_id", 16),
    ("user_data", 20),
)
_BODY: Final = (
    ("cpu_svn", 16),
    ("misc_select", 4),
    ("reserved1", 12),
    ("isv_ext_prod_id", 16),
    ("attributes.flags", 8),
    ("attributes.xfrm", 8),
    ("mr_enclave", 32),
    ("reserved2", 32),
    ("mr_signer", 32),
    ("reserved3", 32),
    ("config_id", 64),
    ("isv_prod_id", 2),
    ("isv_svn", 2),
    ("config_svn", 2),
    ("reserved4", 42),
    ("isv_family_id", 16),
    ("report_data", 64),
)
_HEADER_BYTES: Final = 48
_SIGNED_BYTES: Final = 432
_LENGTH_BYTES: Final = 4
_AUTHENTICATION_AT: Final = 1012
_PEM_CHAIN: Final = 5
_VERSION_3_ECDSA_P256_SGX: Final = bytes.fromhex("0300 0200 00000000")
MAX_QUOTE_BYTES: Final = 16 * 1024


@dataclass(frozen=True, slots=True)
class Quote:
    """A quote that has the right shape. Nothing in it is verified yet."""

    raw: bytes
    header: dict[str, bytes]
    body: dict[str, bytes]
    chain: tuple[x509.Certificate, ...]

    @classmethod
    def parse(cls, raw: bytes) -> Quote:
        """From the bytes of exactly one quote; `EvidenceRefused(QUOTE)` otherwise."""
        if not _SIGNED_BYTES + _LENGTH_BYTES < len(raw) <= MAX_QUOTE_BYTES:
            raise EvidenceRefused(Reason.QUOTE, f"{len(raw)} bytes are no SGX quote")
        if raw[:8] != _VERSION_3_ECDSA_P256_SGX:
            raise EvidenceRefused(Reason.QUOTE, "an SGX quote of version 3 with an ECDSA P-256 key is expected")
        signature_bytes = int.from_bytes(raw[_SIGNED_BYTES : _SIGNED_BYTES + _LENGTH_BYTES], "little")
        if signature_bytes != len(raw) - _SIGNED_BYTES - _LENGTH_BYTES:
            raise EvidenceRefused(Reason.QUOTE, "the quote's length is not what it says")
        return cls(
            raw, _fields(_HEADER, raw[:_HEADER_BYTES]), _fields(_BODY, raw[_HEADER_BYTES:_SIGNED_BYTES]), _chain(raw)
        )

    @property
    def debug(self) -> bool:
        """Whether the enclave can be debugged."""
        return Attributes.parse(self.body["attributes.flags"] + self.body["attributes.xfrm"]).debug

    def claims(self) -> JsonObject:
        """`header` and `body` as Trustee names them."""
        return {
            "header": {name: value.hex() for name, value in self.header.items()},
            "body": {name: value.hex() for name, value in self.body.items()},
        }


def _fields(layout: tuple[tuple[str, int], ...], raw: bytes) -> dict[str, bytes]:
    found, at = {}, 0
    for name, size in layout:
        found[name] = raw[at : at + size]
        at += size
    return found


def _chain(raw: bytes) -> tuple[x509.Certificate, ...]:
    """The PCK chain: leaf, intermediate, root, and no more."""
    certification_at = (
        _AUTHENTICATION_AT + 2 + int.from_bytes(raw[_AUTHENTICATION_AT : _AUTHENTICATION_AT + 2], "little")
    )
    kind = int.from_bytes(raw[certification_at : certification_at + 2], "little")
    if kind != _PEM_CHAIN:
        raise EvidenceRefused(Reason.QUOTE, f"certification data of type 5 is expected, type {kind} came")
    try:
        chain = x509.load_pem_x509_certificates(raw[certification_at + 6 :].rstrip(b"\0"))
    except (ValueError, x509.InvalidVersion):
        raise EvidenceRefused(Reason.QUOTE, "the PCK chain is not PEM") from None
    if len(chain) != 3:
        raise EvidenceRefused(Reason.QUOTE, f"a PCK chain of 3 certificates is expected, {len(chain)} came")
    return tuple(chain)
