"""The seam to whatever makes this process an enclave.

Every call is short (well under 100 ms) and blocks; from a coroutine use `asyncio.to_thread` where that matters.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Protocol

if TYPE_CHECKING:
    from schemas.sgx import KeyPolicy, Report, TargetInfo


class Tee(Protocol):
    """The instructions of this enclave's CPU. `Permanent(ATTEST_QUOTE)` whenever the CPU says no or is away.

    There is nothing to try again: a CPU that was reset does not know this enclave any more.
    """

    @property
    def kind(self) -> str:
        """What makes the enclave: "sim"."""

    def my_target_info(self) -> TargetInfo:
        """Give this to whoever shall make a report for this enclave."""

    def report(self, target: TargetInfo, report_data: bytes) -> Report:
        """A report about this enclave that only `target`, on the same machine, can check.

        `report_data` is at most 64 bytes, zero padded; `MalformedStructure` when it is longer.
        """

    def verify_report(self, report: Report) -> None:
        """Return when `report` was made for this enclave by an enclave on the same machine.

        Raises `Permanent(CONFIG_LOCAL_ATTESTATION)` otherwise. Says nothing of *which* enclave made it: look at
        `report.body` afterwards, never before.
        """

    def quote(self, report_data: bytes) -> bytes:
        """A DCAP quote, version 3, about this enclave, for anyone. `report_data` as for `report`."""

    def seal_key(self, policy: KeyPolicy) -> bytes:
        """16 bytes that the same CPU gives again to an enclave that is equal in what `policy` names, and to no other.

        A debuggable enclave never shares a key with one that is not. Keep it in a `secrets.Secret`.
        """
