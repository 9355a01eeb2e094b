"""The fields of a DCAP quote that an enclave looks at before it sends its own. Nothing is verified here.

Source: Intel, "SGX ECDSA Quote Library Reference", appendix A.4: 48-byte header, 384-byte report body, signature data.
"""

from __future__ import annotations

import struct
from dataclasses import dataclass
from typing import Final

from orchestrator.faults import Code, Permanent
from schemas.sgx import MalformedStructure, ReportBody

_VERSION: Final = 3
_ECDSA_P256: Final = 2
_HEADER_BYTES: Final = 48
_SIGNED_BYTES: Final = 432
MAX_QUOTE_BYTES: Final = 8192


@dataclass(frozen=True, slots=True)
class Quote:
    """`body`: mrenclave, attributes, config_id, report_data, isv_svn and the rest. `signature_data`: as it came."""

    qe_svn: int
    pce_svn: int
    body: ReportBody
    signature_data: bytes


def parse_quote(raw: bytes) -> Quote:
    """An SGX quote of version 3 with an ECDSA P-256 key; `Permanent(ATTEST_QUOTE)` for anything else.

    Trailing bytes are refused. A parsed quote is still only a claim: hand it to a DCAP verifier.
    """
    if not _SIGNED_BYTES + 4 < len(raw) <= MAX_QUOTE_BYTES:
        raise _malformed(f"{_SIGNED_BYTES + 5} to {MAX_QUOTE_BYTES} bytes", f"{len(raw)} bytes")
    version, key_type, tee_type, qe_svn, pce_svn = struct.unpack_from("<HHIHH", raw, 0)
    if (version, key_type, tee_type) != (_VERSION, _ECDSA_P256, 0):
        raise _malformed("version 3, ECDSA P-256, SGX", f"version {version}, key type {key_type}, TEE {tee_type:#x}")
    (length,) = struct.unpack_from("<I", raw, _SIGNED_BYTES)
    signature_data = raw[_SIGNED_BYTES + 4 :]
    if length != len(signature_data):
        raise _malformed(f"{length} bytes of signature data", f"{len(signature_data)}")
    try:
        body = ReportBody.parse(raw[_HEADER_BYTES:_SIGNED_BYTES])
    except MalformedStructure as malformed:
        raise _malformed(malformed.expected, malformed.got) from malformed
    return Quote(qe_svn, pce_svn, body, signature_data)


def _malformed(expected: str, got: str) -> Permanent:
    return Permanent(Code.ATTEST_QUOTE, "this is no SGX quote", expected=expected, got=got)
