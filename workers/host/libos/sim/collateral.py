"""What Intel's provisioning service would publish about a platform: TCB info and QE identity, as signed JSON text.

Source: Intel, "SGX and TDX Provisioning Certification Service" API version 4. The text is signed byte for byte, so
it is made once and kept as text. The members' order is the service's.
"""

from __future__ import annotations

import hashlib
import json
from dataclasses import dataclass
from datetime import UTC, datetime
from typing import TYPE_CHECKING, Final, Literal

from schemas.sgx import Attributes, Flags

if TYPE_CHECKING:
    from workers.host.libos.sim.pck_extension import PlatformTcb

TcbStatus = Literal["UpToDate", "SWHardeningNeeded", "ConfigurationNeeded", "OutOfDate", "Revoked"]

QE_SIGNER: Final = hashlib.sha256(b"enclave-cc/simulated-quoting-enclave-signer/v1").digest()
QE_MEASUREMENT: Final = hashlib.sha256(b"enclave-cc/simulated-quoting-enclave/v1").digest()
QE_ATTRIBUTES: Final = Attributes(Flags.INIT | Flags.PROVISION_KEY, 0)
QE_PRODUCT_ID: Final = 1
QE_SVN: Final = 8
_EVALUATION_NUMBER: Final = 17


@dataclass(frozen=True, slots=True)
class Validity:
    """From when until when a statement holds; both in UTC, whole seconds."""

    begin: datetime
    end: datetime


def tcb_info(platform: PlatformTcb, validity: Validity, status: TcbStatus, advisories: tuple[str, ...]) -> str:
    """TCB info, version 3, with one level: the platform's own."""
    tcb = {"sgxtcbcomponents": [{"svn": svn} for svn in platform.cpu_svn], "pcesvn": platform.pce_svn}
    return _text(
        {
            "id": "SGX",
            "version": 3,
            "issueDate": _instant(validity.begin),
            "nextUpdate": _instant(validity.end),
            "fmspc": platform.fmspc.hex().upper(),
            "pceId": platform.pce_id.hex().upper(),
            "tcbType": 0,
            "tcbEvaluationDataNumber": _EVALUATION_NUMBER,
            "tcbLevels": [_level(tcb, validity, status, advisories)],
        }
    )


def qe_identity(validity: Validity) -> str:
    """The identity of the simulated quoting enclave, version 2: what `quote.sign_quote` puts in its QE report."""
    return _text(
        {
            "id": "QE",
            "version": 2,
            "issueDate": _instant(validity.begin),
            "nextUpdate": _instant(validity.end),
            "tcbEvaluationDataNumber": _EVALUATION_NUMBER,
            "miscselect": "00000000",
            "miscselectMask": "FFFFFFFF",
            "attributes": QE_ATTRIBUTES.encode().hex().upper(),
            "attributesMask": "FBFFFFFFFFFFFFFF0000000000000000",
            "mrsigner": QE_SIGNER.hex().upper(),
            "isvprodid": QE_PRODUCT_ID,
            "tcbLevels": [_level({"isvsvn": QE_SVN}, validity, "UpToDate", ())],
        }
    )


def _level(tcb: object, validity: Validity, status: TcbStatus, advisories: tuple[str, ...]) -> dict[str, object]:
    level: dict[str, object] = {"tcb": tcb, "tcbDate": _instant(validity.begin), "tcbStatus": status}
    return level | ({"advisoryIDs": list(advisories)} if advisories else {})


def _instant(moment: datetime) -> str:
    return moment.astimezone(UTC).strftime("%Y-%m-%dT%H:%M:%SZ")


def _text(document: dict[str, object]) -> str:
    return json.dumps(document, separators=(",", ":"))
