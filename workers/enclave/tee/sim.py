"""The simulated CPU's instructions, over the socket that the host binds into the container."""

from __future__ import annotations

import hmac
import socket
from pathlib import Path
from typing import TYPE_CHECKING, Final, TypeVar

from cryptography.hazmat.primitives.ciphers.algorithms import AES
from cryptography.hazmat.primitives.cmac import CMAC

from orchestrator.faults import Code, Permanent
from schemas.sgx import (
    Attributes,
    KeyName,
    KeyPolicy,
    KeyRequest,
    MalformedStructure,
    Report,
    TargetInfo,
    padded_report_data,
    target_info_of,
)
from schemas.simulated_cpu import (
    LENGTH_BYTES,
    MAX_REPLY_BYTES,
    SOCKET_IN_ENCLAVE,
    Operation,
    Refused,
    frame,
    frame_length,
    parse_reply,
)

if TYPE_CHECKING:
    from collections.abc import Callable

Structure = TypeVar("Structure", Report, TargetInfo)

_PATIENCE: Final = 10.0
"""Seconds for each step of a request; the CPU answers in milliseconds."""
_NOBODY: Final = TargetInfo(bytes(32), Attributes(0, 0))
# All attribute flags: an enclave that differs in any gets another key.
_EVERY_ATTRIBUTE: Final = Attributes(2**64 - 1, 2**64 - 1)


class SimulatedTee:
    """Implements `interface.Tee`. Only the first process of the enclave's container gets answers."""

    kind: Final = "sim"

    def __init__(self, cpu: Path = Path(SOCKET_IN_ENCLAVE)) -> None:
        self._cpu = cpu

    def my_target_info(self) -> TargetInfo:
        """See `Tee.my_target_info`: read off a report that nobody can check."""
        return target_info_of(self.report(_NOBODY, b"").body)

    def report(self, target: TargetInfo, report_data: bytes) -> Report:
        """See `Tee.report`."""
        reply = self._ask(Operation.EREPORT, target.encode() + padded_report_data(report_data))
        return _parse(Report.parse, reply)

    def verify_report(self, report: Report) -> None:
        """See `Tee.verify_report`: EGETKEY of this enclave's report key, then the MAC, as hardware has it."""
        key = self._ask(Operation.EGETKEY, KeyRequest(KeyName.REPORT, key_id=report.key_id).encode())
        mac = CMAC(AES(key))
        mac.update(report.body.encode())
        if not hmac.compare_digest(mac.finalize(), report.mac):
            raise Permanent(
                Code.CONFIG_LOCAL_ATTESTATION,
                "a report was not made for this enclave on this machine",
                expected="a MAC under this enclave's report key",
                got=f"a report that claims MRENCLAVE {report.body.mrenclave.hex()}",
                advice="agent and boot init of a pod run on one machine, under one simulated CPU",
            )

    def quote(self, report_data: bytes) -> bytes:
        """See `Tee.quote`: a report for the quoting enclave, which signs what it can check."""
        quoting_enclave = _parse(TargetInfo.parse, self._ask(Operation.QE_TARGET_INFO, b""))
        return self._ask(Operation.QUOTE, self.report(quoting_enclave, report_data).encode())

    def seal_key(self, policy: KeyPolicy) -> bytes:
        """See `Tee.seal_key`. MRENCLAVE, alone or with CONFIGID: simulated enclaves have no signer."""
        request = KeyRequest(KeyName.SEAL, policy, attribute_mask=_EVERY_ATTRIBUTE)
        return self._ask(Operation.EGETKEY, request.encode())

    def _ask(self, operation: Operation, payload: bytes) -> bytes:
        try:
            with socket.socket(socket.AF_UNIX, socket.SOCK_STREAM) as connection:
                connection.settimeout(_PATIENCE)
                connection.connect(str(self._cpu))
                connection.sendall(frame(bytes([operation]) + payload))
                length = frame_length(_read(connection, LENGTH_BYTES), MAX_REPLY_BYTES)
                return parse_reply(_read(connection, length))
        except Refused as refused:
            raise Permanent(
                Code.ATTEST_QUOTE,
                "the simulated CPU refuses this process",
                expected="the first process of an enclave, exactly as its bundle says",
                got=str(refused),
                advice="the container must be created from the bundle's mount, with its entry as its process",
            ) from refused
        except (OSError, EOFError) as error:
            raise Permanent(
                Code.ATTEST_QUOTE,
                "there is no simulated CPU",
                expected=str(self._cpu),
                got=f"{type(error).__name__}: {error}",
                advice="its daemon stopped, or was restarted after this enclave began: start the pod again",
            ) from error


def _parse(parse: Callable[[bytes], Structure], reply: bytes) -> Structure:
    try:
        return parse(reply)
    except MalformedStructure as malformed:
        raise Permanent(
            Code.ATTEST_QUOTE, "the simulated CPU answers nonsense", expected=malformed.expected, got=malformed.got
        ) from malformed


def _read(connection: socket.socket, length: int) -> bytes:
    content = bytearray()
    while len(content) < length:
        chunk = connection.recv(length - len(content))
        if not chunk:
            raise EOFError("the connection ended in the middle of a reply")
        content += chunk
    return bytes(content)
