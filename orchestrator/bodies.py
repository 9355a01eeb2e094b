"""What a fact can say: one frozen value a kind. Their bytes are `orchestrator.events`' matter.

Zone: any. May import: `orchestrator.faults`, the standard library. No I/O.

Members stand in the order of the message's fields in `schemas/facts.proto`, by which they are read.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Final, TypeAlias

from orchestrator.faults import Diagnosis

MAX_HOLD_SECONDS: Final = 3600
"""Nobody waits longer for what containerd asked."""


@dataclass(frozen=True, slots=True)
class PodRequested:
    """containerd asked for a sandbox.

    What fails is kept for `hold_seconds`, so that one of the `operators` (Ed25519 keys) can resume it. Images that
    `prefetch` refers to are decrypted ahead of their containers.
    """

    node: str
    namespace: str
    name: str
    uid: str
    bundle: str
    init_data_sha256: str
    hold_seconds: int = 0
    operators: tuple[bytes, ...] = ()
    prefetch: tuple[str, ...] = ()


@dataclass(frozen=True, slots=True)
class SandboxCreated:
    """The pod's pause container runs."""

    runc_id: str
    pid: int
    netns: str


@dataclass(frozen=True, slots=True)
class AgentUp:
    """The agent enclave was measured and started."""

    runc_id: str
    pid: int
    libos: str
    bundle_sha256: str
    measurement: str


@dataclass(frozen=True, slots=True)
class Attested:
    """The key broker believed the agent; the quote binds the key that signs this launch's facts."""

    quote: bytes
    measurement: str
    tcb_status: str
    simulated: bool
    token_sha256: str
    event_public_key: bytes
    kbs: str


@dataclass(frozen=True, slots=True)
class ContainerRequested:
    """containerd asked for a container. Empty FIFO paths mean none."""

    image: str
    bundle: str
    stdin: str
    stdout: str
    stderr: str
    terminal: bool
    name: str
    process_sha256: str


@dataclass(frozen=True, slots=True)
class ImageDecrypted:
    """The image was pulled, its signature accepted and every layer's plaintext verified."""

    reference: str
    manifest_digest: str
    policy: str
    verdict: str
    key_ids: tuple[str, ...]
    bytes: int
    nanoseconds: int


@dataclass(frozen=True, slots=True)
class FsSealed:
    """The sealed store is complete; `root_hash` (hex SHA-256) pins every byte of it."""

    root_hash: str
    files: int
    bytes: int
    store: str


@dataclass(frozen=True, slots=True)
class StartRequested:
    """containerd asked for the container to start."""


@dataclass(frozen=True, slots=True)
class AppStarted:
    """The host's half of `deliver_config`: boot init runs in its measured bundle."""

    runc_id: str
    pid: int
    measurement: str


@dataclass(frozen=True, slots=True)
class ConfigDelivered:
    """Agent and app enclave attested each other; the process was within policy; configuration and key went over.

    `output_key_ids`: thumbprints of the keys that the workload's output is sealed for; none where the host can read it.
    `output_head_sha256`: of the sealed output's head, by which an output is known to be of this container.
    `host_data` names what of the host's was admitted and what it held: `DESTINATION@sha256:HEX`, a mount each.
    """

    config_sha256: str
    verdict: str
    measurement: str
    output_key_ids: tuple[str, ...] = ()
    output_head_sha256: str = ""
    host_data: tuple[str, ...] = ()


@dataclass(frozen=True, slots=True)
class AppBooted:
    """The workload's first instruction was about to run."""

    nanoseconds: int
    process: int


@dataclass(frozen=True, slots=True)
class StepFailed:
    """One attempt of a transition failed; `diagnosis` says how."""

    transition: str
    code: str
    message: str
    expected: str
    got: str
    advice: str
    temporary: bool

    @staticmethod
    def of(transition: str, diagnosis: Diagnosis) -> StepFailed:
        """The fact of a failed attempt, each text cut to 4,096 characters."""
        return StepFailed(
            transition=transition,
            code=diagnosis.code.value,
            message=printable(diagnosis.message),
            expected=printable(diagnosis.expected),
            got=printable(diagnosis.got),
            advice=printable(diagnosis.advice),
            temporary=diagnosis.temporary,
        )


@dataclass(frozen=True, slots=True)
class Exited:
    """A container's first process ended: `code` is its status, or 128 + signal.

    `out_of_memory`: the kernel had killed a process of it for its memory limit, not always the first.
    """

    code: int
    exited_at_ns: int
    out_of_memory: bool = False


@dataclass(frozen=True, slots=True)
class StopRequested:
    """Everything made for the pod (or the container) is to be removed."""

    reason: str


@dataclass(frozen=True, slots=True)
class TornDown:
    """Nothing of the pod (or the container) is left; `removed` names what was found."""

    removed: tuple[str, ...]


@dataclass(frozen=True, slots=True)
class AgentLost:
    """The agent enclave ended while its pod lived."""

    code: int


@dataclass(frozen=True, slots=True)
class ResumeRequested:
    """An operator orders that what failed goes on, from the transition `start`. Signed by the key `operator`."""

    start: str
    reason: str
    by: str
    operator: bytes


@dataclass(frozen=True, slots=True)
class ForkedFrom:
    """An operator orders a new launch, asked for what `pod` was asked for up to its fact `index`. Signed likewise."""

    pod: str
    index: int
    digest: bytes
    overrides: tuple[str, ...]
    reason: str
    by: str
    operator: bytes


@dataclass(frozen=True, slots=True)
class ExecAdmitted:
    """The launch policy's `rule` admitted a command beside the workload, for the `times`-th time.

    `args` are the words as far as the policy itself has them, "*" for each other: one may be somebody's password.
    """

    exec: str
    rule: str
    args: tuple[str, ...]
    terminal: bool
    times: int


@dataclass(frozen=True, slots=True)
class ExecRefused:
    """A command beside the workload was refused, for the `times`-th time in this container; none of its words."""

    exec: str
    code: str
    reason: str
    times: int


@dataclass(frozen=True, slots=True)
class Unknown:
    """A fact of a later version. The fold passes over it; the history keeps its bytes."""


Body: TypeAlias = (
    PodRequested
    | SandboxCreated
    | AgentUp
    | Attested
    | ContainerRequested
    | ImageDecrypted
    | FsSealed
    | StartRequested
    | AppStarted
    | ConfigDelivered
    | AppBooted
    | StepFailed
    | Exited
    | StopRequested
    | TornDown
    | AgentLost
    | ResumeRequested
    | ForkedFrom
    | ExecAdmitted
    | ExecRefused
    | Unknown
)


def printable(text: str) -> str:
    """What protobuf takes: a diagnosis may quote a file name of an image, which is any bytes."""
    return text[:4096].encode("utf-8", "backslashreplace").decode()
