"""A DCAP quote, version 3, signed by the simulated hierarchy.

Source: Intel, "SGX ECDSA Quote Library Reference", appendix A.4. Layout: 48-byte header, 384-byte report body,
4-byte length, then the ISV signature, the attestation public key, the QE report and its PCK signature, the QE's
authentication data and the PCK chain.
"""

from __future__ import annotations

import hashlib
import struct
from typing import Final

from schemas.sgx import ReportBody
from workers.host.libos.sim.collateral import QE_ATTRIBUTES, QE_MEASUREMENT, QE_PRODUCT_ID, QE_SIGNER, QE_SVN
from workers.host.libos.sim.pki import CPU_SVN, PCE_SVN, SimulatedPki

_VERSION: Final = 3
_ECDSA_P256: Final = 2
_INTEL_QE_VENDOR: Final = bytes.fromhex("939a7233f79c4ca9940a0db3957f0607")
_AUTHENTICATION_DATA: Final = bytes(range(32))
_PEM_CHAIN: Final = 5


def sign_quote(pki: SimulatedPki, report_body: bytes) -> bytes:
    """A quote over `report_body` (384 bytes; `MalformedStructure` otherwise).

    The caller is the quoting enclave: it must have checked that a real report carried this body.
    """
    ReportBody.parse(report_body)
    header = struct.pack("<HHIHH", _VERSION, _ECDSA_P256, 0, QE_SVN, PCE_SVN) + _INTEL_QE_VENDOR
    chain = pki.pck_chain()
    # The header's user data links the quote to its platform: Intel puts the quoting enclave's id there.
    platform = hashlib.sha256(chain).digest()[:16].ljust(20, b"\0")
    signed = header + platform + report_body
    public_key = pki.attestation_public_key()
    binding = hashlib.sha256(public_key + _AUTHENTICATION_DATA).digest()
    qe_report = ReportBody(
        mrenclave=QE_MEASUREMENT,
        mrsigner=QE_SIGNER,
        attributes=QE_ATTRIBUTES,
        report_data=binding.ljust(64, b"\0"),
        isv_prod_id=QE_PRODUCT_ID,
        isv_svn=QE_SVN,
        cpu_svn=CPU_SVN,
    ).encode()
    signature_data = b"".join(
        (
            pki.sign_with_attestation_key(signed),
            public_key,
            qe_report,
            pki.sign_with_pck(qe_report),
            struct.pack("<H", len(_AUTHENTICATION_DATA)) + _AUTHENTICATION_DATA,
            struct.pack("<HI", _PEM_CHAIN, len(chain)) + chain,
        )
    )
    return signed + struct.pack("<I", len(signature_data)) + signature_data
