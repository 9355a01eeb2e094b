"""EREPORT and EGETKEY in software: what one enclave can prove to another, and keep to itself, on one machine.

Source: Intel SDM volume 3D, EREPORT and EGETKEY. Reports are MACed with a key that only the target enclave can derive;
sealing keys hang on the enclave's identity. Instead of fuses there is a root secret (see `root_secret`), from which
one key for each purpose comes by HKDF-SHA256; the key derivation of a request is AES-128-CMAC over its dependencies,
as in hardware. No I/O; nothing here knows how an enclave was identified.

Two departures, both stricter than hardware. Simulated enclaves are not signed, so MRSIGNER is zero for all of them and
a key bound to MRSIGNER, which any of them could derive, does not exist. A sealing key is bound to MRENCLAVE, with or
without CONFIGID; the other policies are refused.
"""

from __future__ import annotations

import hmac
import secrets
import struct
from dataclasses import dataclass
from typing import Final

from cryptography.hazmat.primitives import hashes
from cryptography.hazmat.primitives.ciphers.algorithms import AES
from cryptography.hazmat.primitives.cmac import CMAC
from cryptography.hazmat.primitives.kdf.hkdf import HKDF

from schemas.sgx import (
    CONFIG_ID_BYTES,
    Attributes,
    Flags,
    KeyName,
    KeyPolicy,
    KeyRequest,
    Report,
    ReportBody,
    TargetInfo,
)
from schemas.simulated_cpu import Refusal, Refused

XFRM: Final = 0x3  # x87 and SSE: the least that an enclave may have
UNSIGNED: Final = bytes(32)
SOUND: Final = Attributes(Flags.INIT | Flags.MODE64BIT | Flags.KSS, XFRM)
"""A simulated enclave's attributes: 64-bit, with a CONFIGID, not debuggable."""
_DOMAIN: Final = b"enclave-cc/simulated-cpu/v1"
# A sealing key always tells an initialised enclave from none and a debuggable one from a sound one.
_ALWAYS_BOUND: Final = Flags.INIT | Flags.DEBUG


@dataclass(frozen=True, slots=True)
class Secs:
    """SGX Enclave Control Structure: the identity of one enclave, fixed by EINIT."""

    mrenclave: bytes
    config_id: bytes = bytes(CONFIG_ID_BYTES)
    attributes: Attributes = SOUND
    mrsigner: bytes = UNSIGNED
    isv_prod_id: int = 0
    isv_svn: int = 0

    def target_info(self) -> TargetInfo:
        """Under which this enclave can check a report."""
        return TargetInfo(self.mrenclave, self.attributes, config_id=self.config_id)


def attributes_of(*, debug: bool) -> Attributes:
    """ATTRIBUTES of a simulated enclave, debuggable only when asked for."""
    return Attributes(SOUND.flags | Flags.DEBUG, XFRM) if debug else SOUND


class Cpu:
    """The instructions. A new object is a reset: older reports still check, for their key id travels with them."""

    __slots__ = ("_cpu_svn", "_key_id", "_owner_epoch", "_report_base", "_seal_base")

    def __init__(self, root_secret: bytes, cpu_svn: bytes) -> None:
        """`root_secret` 32 bytes, `cpu_svn` 16."""
        self._cpu_svn = cpu_svn
        self._report_base = derive(root_secret, b"report")
        self._seal_base = derive(root_secret, b"seal")
        self._owner_epoch = derive(root_secret, b"owner-epoch")
        self._key_id = secrets.token_bytes(32)

    def ereport(self, secs: Secs, target: TargetInfo, report_data: bytes) -> Report:
        """A report about the enclave `secs` with 64 bytes of its own, which only `target` can check."""
        body = ReportBody(
            mrenclave=secs.mrenclave,
            mrsigner=secs.mrsigner,
            attributes=secs.attributes,
            report_data=report_data,
            config_id=secs.config_id,
            isv_prod_id=secs.isv_prod_id,
            isv_svn=secs.isv_svn,
            cpu_svn=self._cpu_svn,
        )
        return Report(body, self._key_id, _cmac(self._report_key(target, self._key_id), body.encode()))

    def egetkey(self, secs: Secs, request: KeyRequest) -> bytes:
        """A 16-byte key of the enclave `secs`; `Refused(KEY_REFUSED)` when it has no such key."""
        if request.name is KeyName.REPORT:
            return self._report_key(secs.target_info(), request.key_id)
        if request.policy not in {KeyPolicy.MRENCLAVE, KeyPolicy.MRENCLAVE | KeyPolicy.CONFIGID}:
            raise Refused(
                Refusal.KEY_REFUSED, "a sealing key is bound to MRENCLAVE, with or without CONFIGID, and nothing else"
            )
        if request.isv_svn > secs.isv_svn or request.config_svn > 0:
            raise Refused(Refusal.KEY_REFUSED, "a security version above the enclave's own")
        if any(wanted > own for wanted, own in zip(request.cpu_svn, self._cpu_svn, strict=True)):
            raise Refused(Refusal.KEY_REFUSED, "a CPUSVN above this CPU's")
        mask = Attributes(request.attribute_mask.flags | _ALWAYS_BOUND, request.attribute_mask.xfrm)
        return self._key(
            self._seal_base,
            struct.pack("<HHHH", KeyName.SEAL, request.policy, request.isv_svn, secs.isv_prod_id),
            request.cpu_svn,
            mask.encode(),
            Attributes(secs.attributes.flags & mask.flags, secs.attributes.xfrm & mask.xfrm).encode(),
            secs.mrenclave,
            secs.config_id if KeyPolicy.CONFIGID in request.policy else bytes(CONFIG_ID_BYTES),
            struct.pack("<I", request.misc_mask),
            request.key_id,
        )

    def report_is_for(self, secs: Secs, report: Report) -> bool:
        """Whether `report` was made on this CPU for the enclave `secs`: what that enclave does with its report key."""
        key = self._report_key(secs.target_info(), report.key_id)
        return hmac.compare_digest(_cmac(key, report.body.encode()), report.mac)

    def _report_key(self, target: TargetInfo, key_id: bytes) -> bytes:
        dependencies = (
            struct.pack("<HHI", KeyName.REPORT, target.config_svn, target.misc_select),
            self._cpu_svn,
            target.attributes.encode(),
            target.mrenclave,
            target.config_id,
            key_id,
        )
        return self._key(self._report_base, *dependencies)

    def _key(self, base: bytes, *dependencies: bytes) -> bytes:
        """All dependencies have fixed lengths, so their concatenation is unambiguous."""
        return _cmac(base, b"".join((*dependencies, self._owner_epoch)))


def derive(root_secret: bytes, purpose: bytes) -> bytes:
    """The 16-byte key of one purpose."""
    return HKDF(hashes.SHA256(), 16, _DOMAIN, purpose).derive(root_secret)


def _cmac(key: bytes, message: bytes) -> bytes:
    mac = CMAC(AES(key))
    mac.update(message)
    return mac.finalize()
