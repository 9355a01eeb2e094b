"""The simulated CPU without its daemon, for tests of what enclaves do with reports: real keys, no process."""

from __future__ import annotations

import secrets

from orchestrator.faults import Code, Permanent
from schemas.sgx import KeyName, KeyPolicy, KeyRequest, Report, TargetInfo, padded_report_data
from workers.host.libos.sim.cpu import Cpu, Secs, attributes_of
from workers.host.libos.sim.pki import CPU_SVN


class DirectTee:
    """Implements `workers.enclave.tee.interface.Tee`, without quotes, for an enclave that a test makes up."""

    kind = "sim"

    def __init__(self, cpu: Cpu, measurement: bytes, *, debug: bool = False, config_id: bytes = bytes(64)) -> None:
        self.cpu = cpu
        self.secs = Secs(measurement, config_id, attributes_of(debug=debug))

    def my_target_info(self) -> TargetInfo:
        return self.secs.target_info()

    def report(self, target: TargetInfo, report_data: bytes) -> Report:
        return self.cpu.ereport(self.secs, target, padded_report_data(report_data))

    def verify_report(self, report: Report) -> None:
        if not self.cpu.report_is_for(self.secs, report):
            raise Permanent(Code.CONFIG_LOCAL_ATTESTATION, "a report was not made for this enclave")

    def quote(self, report_data: bytes) -> bytes:
        raise Permanent(Code.ATTEST_QUOTE, "there is no quoting enclave", got=f"{len(report_data)} bytes")

    def seal_key(self, policy: KeyPolicy) -> bytes:
        return self.cpu.egetkey(self.secs, KeyRequest(KeyName.SEAL, policy))


def machine() -> Cpu:
    """A machine of its own: nothing made on another one checks here."""
    return Cpu(secrets.token_bytes(32), CPU_SVN)
