"""The SGX structures that both sides of an attestation read: exact byte shapes, parsed strictly.

Zone: any. May import: the standard library.

Source: Intel SDM volume 3D, sections "REPORT", "TARGETINFO" and "KEYREQUEST" of the chapter on enclave structures;
the quote's header is in `workers/enclave/tee/quote.py`. All integers are little endian. A parser takes exactly the
documented length and refuses reserved bytes that are not zero, so `Structure.parse(x).encode() == x` for whatever
it accepts. Whatever does not fit is a `MalformedStructure`, a ValueError that the zone's edge turns into its own fault.
None of these objects holds a key.
"""

from __future__ import annotations

import struct
from dataclasses import dataclass, replace
from enum import IntEnum, IntFlag
from typing import Final

MEASUREMENT_BYTES: Final = 32
REPORT_DATA_BYTES: Final = 64
CONFIG_ID_BYTES: Final = 64
TARGET_INFO_BYTES: Final = 512
REPORT_BODY_BYTES: Final = 384
REPORT_BYTES: Final = 432
KEY_REQUEST_BYTES: Final = 512


class MalformedStructure(ValueError):
    """Bytes that are not the structure they should be. `expected` and `got` hold lengths and single bytes only."""

    def __init__(self, message: str, *, expected: str, got: str) -> None:
        super().__init__(f"{message}: expected {expected}, got {got}")
        self.expected = expected
        self.got = got


class Flags(IntFlag):
    """ATTRIBUTES.FLAGS (SDM "ATTRIBUTES Structure"): the bits this project looks at."""

    INIT = 0x01
    DEBUG = 0x02
    MODE64BIT = 0x04
    PROVISION_KEY = 0x10
    EINITTOKEN_KEY = 0x20
    KSS = 0x80


class KeyName(IntEnum):
    """KEYREQUEST.KEYNAME: the two keys an ordinary enclave may ask for."""

    REPORT = 3
    SEAL = 4


class KeyPolicy(IntFlag):
    """KEYREQUEST.KEYPOLICY: what a sealing key is bound to. At least one of the first two is needed to seal."""

    MRENCLAVE = 0x0001
    MRSIGNER = 0x0002
    NOISVPRODID = 0x0004
    CONFIGID = 0x0008
    ISVFAMILYID = 0x0010
    ISVEXTPRODID = 0x0020


_ALL_POLICIES: Final = 0x003F
_NO_POLICY: Final = KeyPolicy(0)


@dataclass(frozen=True, slots=True)
class Attributes:
    """ATTRIBUTES, 16 bytes: flags (64 bits) and XFRM (64 bits). Unknown flag bits are kept."""

    flags: int
    xfrm: int

    def encode(self) -> bytes:
        """16 bytes."""
        return struct.pack("<QQ", self.flags, self.xfrm)

    @classmethod
    def parse(cls, raw: bytes) -> Attributes:
        """From exactly 16 bytes; `MalformedStructure` otherwise."""
        _length("ATTRIBUTES", raw, 16)
        return cls(*struct.unpack("<QQ", raw))

    @property
    def debug(self) -> bool:
        """Whether a debugger may read the enclave's memory: such an enclave keeps no secret."""
        return bool(self.flags & Flags.DEBUG)


@dataclass(frozen=True, slots=True)
class TargetInfo:
    """TARGETINFO, 512 bytes: which enclave a report is made for. Only that enclave can check the report's MAC."""

    mrenclave: bytes
    attributes: Attributes
    misc_select: int = 0
    config_svn: int = 0
    config_id: bytes = bytes(CONFIG_ID_BYTES)

    def __post_init__(self) -> None:
        _length("TARGETINFO.MRENCLAVE", self.mrenclave, MEASUREMENT_BYTES)
        _length("TARGETINFO.CONFIGID", self.config_id, CONFIG_ID_BYTES)

    def encode(self) -> bytes:
        """512 bytes."""
        head = self.mrenclave + self.attributes.encode() + struct.pack("<HHI8x", 0, self.config_svn, self.misc_select)
        return (head + self.config_id).ljust(TARGET_INFO_BYTES, b"\0")

    @classmethod
    def parse(cls, raw: bytes) -> TargetInfo:
        """From exactly 512 bytes; `MalformedStructure` for another length or a reserved byte that is not zero."""
        _length("TARGETINFO", raw, TARGET_INFO_BYTES)
        config_svn, misc_select = struct.unpack_from("<HI", raw, 50)
        info = cls(raw[:32], Attributes.parse(raw[32:48]), misc_select, config_svn, raw[64:128])
        _canonical("TARGETINFO", info.encode(), raw)
        return info


@dataclass(frozen=True, slots=True)
class ReportBody:
    """The first 384 bytes of a REPORT, and bytes 48 to 432 of a quote: what is claimed about an enclave.

    `mrenclave`, `mrsigner` 32 bytes; `config_id`, `report_data` 64; `cpu_svn`, `isv_ext_prod_id`, `isv_family_id` 16.
    By itself a body proves nothing: the MAC of a `Report` or the signatures of a quote do.
    """

    mrenclave: bytes
    mrsigner: bytes
    attributes: Attributes
    report_data: bytes
    config_id: bytes = bytes(CONFIG_ID_BYTES)
    isv_prod_id: int = 0
    isv_svn: int = 0
    config_svn: int = 0
    misc_select: int = 0
    cpu_svn: bytes = bytes(16)
    isv_ext_prod_id: bytes = bytes(16)
    isv_family_id: bytes = bytes(16)

    def __post_init__(self) -> None:
        _length("REPORT.MRENCLAVE", self.mrenclave, MEASUREMENT_BYTES)
        _length("REPORT.MRSIGNER", self.mrsigner, MEASUREMENT_BYTES)
        _length("REPORT.REPORTDATA", self.report_data, REPORT_DATA_BYTES)
        _length("REPORT.CONFIGID", self.config_id, CONFIG_ID_BYTES)
        _length("REPORT.CPUSVN", self.cpu_svn, 16)
        _length("REPORT.ISVEXTPRODID", self.isv_ext_prod_id, 16)
        _length("REPORT.ISVFAMILYID", self.isv_family_id, 16)

    def encode(self) -> bytes:
        """384 bytes."""
        return b"".join(
            (
                self.cpu_svn,
                struct.pack("<I12x", self.misc_select),
                self.isv_ext_prod_id,
                self.attributes.encode(),
                self.mrenclave,
                bytes(32),
                self.mrsigner,
                bytes(32),
                self.config_id,
                struct.pack("<HHH42x", self.isv_prod_id, self.isv_svn, self.config_svn),
                self.isv_family_id,
                self.report_data,
            )
        )

    @classmethod
    def parse(cls, raw: bytes) -> ReportBody:
        """From exactly 384 bytes; `MalformedStructure` for another length or a reserved byte that is not zero."""
        _length("REPORT body", raw, REPORT_BODY_BYTES)
        isv_prod_id, isv_svn, config_svn = struct.unpack_from("<HHH", raw, 256)
        body = cls(
            mrenclave=raw[64:96],
            mrsigner=raw[128:160],
            attributes=Attributes.parse(raw[48:64]),
            report_data=raw[320:384],
            config_id=raw[192:256],
            isv_prod_id=isv_prod_id,
            isv_svn=isv_svn,
            config_svn=config_svn,
            misc_select=struct.unpack_from("<I", raw, 16)[0],
            cpu_svn=raw[:16],
            isv_ext_prod_id=raw[32:48],
            isv_family_id=raw[304:320],
        )
        _canonical("REPORT body", body.encode(), raw)
        return body


@dataclass(frozen=True, slots=True)
class Report:
    """REPORT, 432 bytes: a body, the id of the key that MACs it, and AES-128-CMAC(report key, body)."""

    body: ReportBody
    key_id: bytes
    mac: bytes

    def __post_init__(self) -> None:
        _length("REPORT.KEYID", self.key_id, 32)
        _length("REPORT.MAC", self.mac, 16)

    def encode(self) -> bytes:
        """432 bytes."""
        return self.body.encode() + self.key_id + self.mac

    @classmethod
    def parse(cls, raw: bytes) -> Report:
        """From exactly 432 bytes; `MalformedStructure` otherwise. The MAC is *not* checked here."""
        _length("REPORT", raw, REPORT_BYTES)
        return cls(ReportBody.parse(raw[:384]), raw[384:416], raw[416:])


@dataclass(frozen=True, slots=True)
class KeyRequest:
    """KEYREQUEST, 512 bytes: the argument of EGETKEY. `attribute_mask` says which attributes a sealing key binds."""

    name: KeyName
    policy: KeyPolicy = _NO_POLICY
    isv_svn: int = 0
    cpu_svn: bytes = bytes(16)
    attribute_mask: Attributes = Attributes(0, 0)
    key_id: bytes = bytes(32)
    misc_mask: int = 0
    config_svn: int = 0

    def __post_init__(self) -> None:
        _length("KEYREQUEST.CPUSVN", self.cpu_svn, 16)
        _length("KEYREQUEST.KEYID", self.key_id, 32)

    def encode(self) -> bytes:
        """512 bytes."""
        return b"".join(
            (
                struct.pack("<HHHxx", self.name, self.policy, self.isv_svn),
                self.cpu_svn,
                self.attribute_mask.encode(),
                self.key_id,
                struct.pack("<IH", self.misc_mask, self.config_svn),
            )
        ).ljust(KEY_REQUEST_BYTES, b"\0")

    @classmethod
    def parse(cls, raw: bytes) -> KeyRequest:
        """From exactly 512 bytes; `MalformedStructure` for an unknown key name or policy bit, or a reserved byte."""
        _length("KEYREQUEST", raw, KEY_REQUEST_BYTES)
        name, policy, isv_svn = struct.unpack_from("<HHH", raw, 0)
        misc_mask, config_svn = struct.unpack_from("<IH", raw, 72)
        if name not in {KeyName.REPORT, KeyName.SEAL} or policy & ~_ALL_POLICIES:
            raise MalformedStructure(
                "the key request asks for an unknown key",
                expected=f"key name 3 (REPORT) or 4 (SEAL), policy within {_ALL_POLICIES:#x}",
                got=f"key name {name}, policy {policy:#x}",
            )
        request = cls(
            KeyName(name),
            KeyPolicy(policy),
            isv_svn,
            raw[8:24],
            Attributes.parse(raw[24:40]),
            raw[40:72],
            misc_mask,
            config_svn,
        )
        _canonical("KEYREQUEST", request.encode(), raw)
        return request


def target_info_of(body: ReportBody) -> TargetInfo:
    """The TARGETINFO under which the enclave that `body` describes can check a report made for it."""
    return TargetInfo(body.mrenclave, body.attributes, body.misc_select, body.config_svn, body.config_id)


def with_report_data(body: ReportBody, report_data: bytes) -> ReportBody:
    """The same claim with other report data, zero padded to 64 bytes."""
    return replace(body, report_data=padded_report_data(report_data))


def padded_report_data(value: bytes) -> bytes:
    """`value` zero padded to 64 bytes; `MalformedStructure` when it is longer."""
    if len(value) > REPORT_DATA_BYTES:
        raise MalformedStructure("report data is too long", expected="at most 64 bytes", got=f"{len(value)} bytes")
    return value.ljust(REPORT_DATA_BYTES, b"\0")


def _length(what: str, raw: bytes, wanted: int) -> None:
    if len(raw) != wanted:
        raise MalformedStructure(f"{what} has the wrong length", expected=f"{wanted} bytes", got=f"{len(raw)} bytes")


def _canonical(what: str, encoded: bytes, raw: bytes) -> None:
    if encoded != raw:
        at = next(index for index, (mine, theirs) in enumerate(zip(encoded, raw, strict=True)) if mine != theirs)
        raise MalformedStructure(
            f"{what} has a reserved byte that is not zero",
            expected=f"byte {at} = 0",
            got=f"byte {at} = {raw[at]:#04x}",
        )
