"""What can go wrong, told so that a person can act on it.

Zone: any. May import: the standard library.

Every failure that reaches a history, a command line or a caller is a `Fault`: a stable code, one sentence,
what was expected, what was got and what to try. Two kinds only, because one question matters to the caller:

- `Permanent`: the same input will fail again; the launch stops here.
- `Temporary`: the world may change (a server is away); the step is tried again as `lifecycle` allows.

A secret never enters a fault: `expected` and `got` hold digests, names, addresses and sizes, never key bytes,
plaintext or tokens. The codes are public interface: one is never reused for another meaning.
"""

from __future__ import annotations

from dataclasses import dataclass
from enum import StrEnum


class Code(StrEnum):
    """Every stable code, in the order a launch can meet them. The value is what a person sees."""

    SANDBOX_NOT_CREATED = "E-SANDBOX-001"
    SANDBOX_HOST_NETWORK = "E-SANDBOX-002"
    AGENT_NOT_STARTED = "E-AGENT-001"
    AGENT_LOST = "E-AGENT-002"
    AGENT_MEASUREMENT = "E-AGENT-003"
    AGENT_INIT_DATA = "E-AGENT-004"
    ATTEST_KBS_AWAY = "E-ATTEST-001"
    ATTEST_NOT_LISTED = "E-ATTEST-002"
    ATTEST_DEBUG = "E-ATTEST-003"
    ATTEST_NONCE = "E-ATTEST-004"
    ATTEST_TOKEN = "E-ATTEST-005"  # noqa: S105 - a code, not a password
    ATTEST_PROTOCOL = "E-ATTEST-006"
    ATTEST_QUOTE = "E-ATTEST-007"
    ATTEST_TCB = "E-ATTEST-008"
    KEY_UNKNOWN = "E-KEY-001"
    KEY_DENIED = "E-KEY-002"
    KEY_KBS_AWAY = "E-KEY-003"
    KEY_MALFORMED = "E-KEY-004"
    KEY_WRONG = "E-KEY-005"
    IMAGE_REGISTRY_AWAY = "E-IMAGE-001"
    IMAGE_NOT_FOUND = "E-IMAGE-002"
    IMAGE_TRUNCATED = "E-IMAGE-003"
    IMAGE_ALTERED = "E-IMAGE-004"
    IMAGE_MALFORMED = "E-IMAGE-005"
    IMAGE_NOT_ENCRYPTED = "E-IMAGE-006"
    IMAGE_REFERENCE = "E-IMAGE-007"
    SIGNATURE_MISSING = "E-SIGN-001"
    SIGNATURE_WRONG = "E-SIGN-002"
    SIGNATURE_POLICY = "E-SIGN-003"
    SEAL_FAILED = "E-SEAL-001"
    SEAL_NO_SPACE = "E-SEAL-002"
    CONFIG_PROCESS_DENIED = "E-CONFIG-001"
    CONFIG_LOCAL_ATTESTATION = "E-CONFIG-002"
    CONFIG_APP_MEASUREMENT = "E-CONFIG-003"
    CONFIG_POLICY = "E-CONFIG-004"
    CONFIG_USED = "E-CONFIG-005"
    CONFIG_HOST_DATA = "E-CONFIG-006"
    BOOT_STORE = "E-BOOT-001"
    BOOT_PROCESS = "E-BOOT-002"
    BOOT_LOST = "E-BOOT-003"
    BOOT_VOLUME = "E-BOOT-004"
    EXEC_DENIED = "E-EXEC-001"
    EXEC_FAILED = "E-EXEC-002"
    OUTPUT_KEY = "E-OUTPUT-001"
    OUTPUT_FORGED = "E-OUTPUT-002"
    OUTPUT_GAP = "E-OUTPUT-003"
    OUTPUT_REPEATED = "E-OUTPUT-004"
    OUTPUT_CUT = "E-OUTPUT-005"
    FACT_FORGED = "E-FACT-001"
    DEADLINE = "E-DEADLINE-001"
    INTERNAL = "E-INTERNAL-001"
    STOPPED = "E-STOP-001"
    BUS_AWAY = "E-BUS-001"
    BUS_FULL = "E-BUS-002"
    BUS_HISTORY = "E-BUS-003"
    RUNTIME = "E-RUNTIME-001"
    INPUT = "E-INPUT-001"
    NOT_FOUND = "E-INPUT-002"
    NOT_ALLOWED = "E-INPUT-003"
    NOT_HERE = "E-INPUT-004"
    REPLAY_EXPORT = "E-REPLAY-001"
    REPLAY_RESUME = "E-REPLAY-002"
    REPLAY_FORK = "E-REPLAY-003"
    AUDIT_FORMAT = "E-AUDIT-001"
    AUDIT_SIGNATURE = "E-AUDIT-002"
    AUDIT_QUORUM = "E-AUDIT-003"
    AUDIT_INCLUSION = "E-AUDIT-004"
    AUDIT_FORK = "E-AUDIT-005"
    AUDIT_ROLLBACK = "E-AUDIT-006"
    AUDIT_TILE = "E-AUDIT-007"
    AUDIT_ENTRY = "E-AUDIT-008"
    AUDIT_GAP = "E-AUDIT-009"
    AUDIT_STREAM = "E-AUDIT-010"
    AUDIT_LEASE = "E-AUDIT-011"
    AUDIT_WITNESS = "E-AUDIT-012"
    NODE_CONTAINERD = "E-NODE-001"
    NODE_SERVICE = "E-NODE-002"
    NODE_PAYLOAD = "E-NODE-003"
    NODE_BUSY = "E-NODE-004"
    NODE_OTHER = "E-NODE-005"
    PAYLOAD_VERSION = "E-PAYLOAD-001"
    PAYLOAD_CONTENT = "E-PAYLOAD-002"
    PAYLOAD_UNLISTED = "E-PAYLOAD-003"
    PAYLOAD_UNPINNED = "E-PAYLOAD-004"
    REFERENCES_KEY = "E-REFERENCES-001"
    REFERENCES_ALTERED = "E-REFERENCES-002"
    REFERENCES_FORMAT = "E-REFERENCES-003"
    REFERENCES_OLDER = "E-REFERENCES-004"


@dataclass(frozen=True, slots=True)
class Diagnosis:
    """A fault as a value: what a history stores and a person reads. Strings are UTF-8, at most 4,096 bytes each."""

    code: Code
    message: str
    expected: str = ""
    got: str = ""
    advice: str = ""
    temporary: bool = False

    def text(self) -> str:
        """Several lines for a person: what happened, what was expected, what was got, what to try."""
        lines = [f"{self.code}: {self.message}"]
        lines += [
            f"  {label}: {value}"
            for label, value in (("expected", self.expected), ("got", self.got), ("try", self.advice))
            if value
        ]
        return "\n".join(lines)


class Fault(Exception):
    """The root of every expected failure. Raise `Permanent` or `Temporary`, never this.

    `str(fault)` is one line; `diagnostics()` is the whole story for a person.
    """

    temporary = False

    def __init__(self, code: Code, message: str, *, expected: str = "", got: str = "", advice: str = "") -> None:
        super().__init__(f"{code}: {message}")
        self.diagnosis = Diagnosis(code, message, expected, got, advice, temporary=self.temporary)

    @property
    def code(self) -> Code:
        """The stable code."""
        return self.diagnosis.code

    def diagnostics(self) -> str:
        """The whole story for a person; see `Diagnosis.text`."""
        return self.diagnosis.text()


class Permanent(Fault):
    """The same input will fail again. Nothing retries it."""


class Temporary(Fault):
    """The world may change; the step may be tried again within its deadline."""

    temporary = True


def places(error: BaseException) -> list[str]:
    """Where an exception that nobody foresaw came through, `file:line function` from the outermost call inwards.

    No message and no variable: they may quote what was being handled, which in an enclave may be a key.
    """
    found, trace = [], error.__traceback__
    while trace is not None:
        code = trace.tb_frame.f_code
        found.append(f"{code.co_filename}:{trace.tb_lineno} {code.co_name}")
        trace = trace.tb_next
    return found
