"""The SGX extension of a PCK certificate, in DER.

Source: Intel, "SGX PCK Certificate and Certificate Revocation List Profile Specification", section 1.3.5, and its
object identifiers below 1.2.840.113741.1.13.1. The extension is a SEQUENCE of (OBJECT IDENTIFIER, value) pairs.
Its type is none that `cryptography.hazmat.asn1` can declare (the value's type hangs on the identifier, and one of
them is ENUMERATED), so that module encodes the primitives and this one adds the two missing tags.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Final

from cryptography.hazmat import asn1
from cryptography.x509 import ObjectIdentifier, UnrecognizedExtension

SGX_EXTENSION: Final = "1.2.840.113741.1.13.1"
_ENUMERATED: Final = 0x0A
_SEQUENCE: Final = 0x30
_SCALABLE_SGX: Final = 1


@dataclass(frozen=True, slots=True)
class PlatformTcb:
    """What a PCK certificate says of its platform: identifiers of 16, 6, 2 and 16 bytes, and its security versions.

    `cpu_svn` is 16 bytes, one component each; `pce_svn` is 0 to 65535.
    """

    ppid: bytes
    fmspc: bytes
    pce_id: bytes
    platform_instance_id: bytes
    cpu_svn: bytes
    pce_svn: int


def pck_extension(platform: PlatformTcb) -> UnrecognizedExtension:
    """The non-critical extension of a leaf issued by the Platform CA (members .6 and .7 are for that CA only)."""
    components = [_pair(f"2.{index}", asn1.encode_der(svn)) for index, svn in enumerate(platform.cpu_svn, start=1)]
    tcb = _tlv(
        _SEQUENCE,
        *components,
        _pair("2.17", asn1.encode_der(platform.pce_svn)),
        _pair("2.18", asn1.encode_der(platform.cpu_svn)),
    )
    configuration = _tlv(
        _SEQUENCE,
        _pair("7.1", asn1.encode_der(True)),  # dynamic platform
        _pair("7.2", asn1.encode_der(True)),  # cached keys
        _pair("7.3", asn1.encode_der(False)),  # SMT enabled
    )
    value = _tlv(
        _SEQUENCE,
        _pair("1", asn1.encode_der(platform.ppid)),
        _pair("2", tcb),
        _pair("3", asn1.encode_der(platform.pce_id)),
        _pair("4", asn1.encode_der(platform.fmspc)),
        _pair("5", _tlv(_ENUMERATED, bytes([_SCALABLE_SGX]))),
        _pair("6", asn1.encode_der(platform.platform_instance_id)),
        _pair("7", configuration),
    )
    return UnrecognizedExtension(ObjectIdentifier(SGX_EXTENSION), value)


def _pair(suffix: str, value: bytes) -> bytes:
    return _tlv(_SEQUENCE, asn1.encode_der(ObjectIdentifier(f"{SGX_EXTENSION}.{suffix}")), value)


def _tlv(tag: int, *contents: bytes) -> bytes:
    """One tag, the definite length in its shortest form (X.690 section 10.1), the contents."""
    content = b"".join(contents)
    if len(content) < 0x80:
        return bytes([tag, len(content)]) + content
    length = len(content).to_bytes((len(content).bit_length() + 7) // 8, "big")
    return bytes([tag, 0x80 | len(length)]) + length + content
