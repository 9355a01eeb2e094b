"""Boot init's conversation with the agent; see `workers.enclave.messages`.

Zone: enclave. May import: `workers.enclave.{launch_policy,messages,rootfs,tee}`, `schemas`, `orchestrator.faults`.
"""

from __future__ import annotations

import socket
import threading
import time
from collections.abc import Sequence
from contextlib import suppress
from dataclasses import dataclass
from pathlib import Path
from typing import Final

from orchestrator.faults import Code, Fault, Permanent, Temporary
from schemas import strict_json
from schemas.places import AGENT_PORT, CONTAINER_FILE
from workers.enclave import messages
from workers.enclave.boot.output import OutputSeal
from workers.enclave.launch_policy.approved import ApprovedProcess
from workers.enclave.rootfs.crypto import KEY, StoreKey
from workers.enclave.tee.blocking import BlockingChannel
from workers.enclave.tee.interface import Tee
from workers.enclave.tee.judge import Judge

AGENT: Final = ("127.0.0.1", AGENT_PORT)
PATIENCE: Final = 50.0


@dataclass(frozen=True, slots=True)
class Configuration:
    """What the agent handed over for `container`.

    `secrets` holds what the key broker gave, by its URI; `volumes` the 32-byte keys of the mounts with ciphertext, by
    their destinations; `output` seals what the workload writes, None where the owner's policy lets the host read it.
    """

    container: str
    process: ApprovedProcess
    root_hash: bytes
    key: StoreKey
    upper_bytes: int
    secrets: dict[str, bytes]
    volumes: dict[str, bytes]
    output: OutputSeal | None


class Conversation:
    """One attested conversation. Raises Fault from every method."""

    def __init__(self, channel: BlockingChannel) -> None:
        self._channel = channel
        self._turn = threading.Lock()

    @classmethod
    def open(cls, tee: Tee, judge: Judge, patience: float = PATIENCE) -> Conversation:
        """Connect to the pod's agent, waiting for it to listen, and attest each other.

        `patience`: seconds until it listens, and for every word of it after that.
        """
        connection = _connect(patience)
        try:
            return cls(BlockingChannel.attest_to(connection, tee, judge))
        except BaseException:
            connection.close()
            raise

    def configuration(self, identity: Path = Path(CONTAINER_FILE)) -> Configuration:
        """Say which container we are for and take what the agent gives. The key's only copy is in the result."""
        container, attempt = _named(identity)
        self._channel.send(messages.pack("hello", container=container, attempt=attempt))
        message = messages.unpack(self._channel.receive(), "config")
        with messages.understood("config"):
            secrets, volumes, output = (strict_json.nested(message, name) for name in ("secrets", "volumes", "output"))
            return Configuration(
                container=container,
                process=ApprovedProcess.decode(strict_json.text(message, "process").encode()),
                root_hash=bytes.fromhex(strict_json.text(message, "root_hash")),
                key=StoreKey(bytearray(strict_json.base64_bytes(strict_json.text(message, "key"), "key"))),
                upper_bytes=strict_json.integer(message, "upper_bytes"),
                secrets={uri: strict_json.base64_bytes(strict_json.text(secrets, uri), uri) for uri in secrets},
                volumes={
                    where: strict_json.base64_bytes(strict_json.text(volumes, where), where, size=KEY)
                    for where in volumes
                },
                output=OutputSeal.decode(output) if output else None,
            )

    def accept(self, host_data: Sequence[str]) -> None:
        """Say that the configuration is here and what was taken of the host's data, and wait for the word to boot."""
        self._channel.send(messages.pack("accepted", host_data=list(host_data)))
        messages.unpack(self._channel.receive(), "boot")

    def booted(self, nanoseconds: int, process: int) -> None:
        """Say that the workload runs."""
        self._channel.send(messages.pack("booted", nanoseconds=nanoseconds, process=process))

    def failed(self, fault: Fault) -> None:
        """Say why it does not; a channel that is gone cannot be told."""
        with suppress(Fault):
            self._channel.send(messages.pack("failed", **messages.told(fault)))

    def ask_exec(self, id_: str, args: tuple[str, ...], *, terminal: bool) -> None:
        """Have the agent judge a command, and tell it; returns when it may run. For several threads.

        Raises Permanent(EXEC_DENIED), Permanent(AGENT_LOST) when there is no agent any more: nobody else may judge.
        """
        with self._turn:
            try:
                self._channel.send(messages.pack("exec", exec=id_, args=list(args), terminal=terminal))
                raw = self._channel.receive()
            except Fault as fault:
                # An answer that came too late must not be taken for the next one's.
                self._channel.close()
                raise _nobody_judges(fault) from fault
        messages.unpack(raw, "admitted")

    def close(self) -> None:
        """End it."""
        self._channel.close()


def _connect(patience: float) -> socket.socket:
    ends = time.monotonic() + patience
    while True:
        try:
            return socket.create_connection(AGENT, timeout=patience)
        except OSError as error:
            if time.monotonic() > ends:
                raise Temporary(
                    Code.CONFIG_LOCAL_ATTESTATION,
                    "the pod's agent does not listen",
                    expected=f"a connection to {AGENT[0]}:{AGENT[1]}",
                    got=type(error).__name__,
                    advice="see whether the agent's container runs, and its log",
                ) from error
        time.sleep(0.05)


def _nobody_judges(fault: Fault) -> Permanent:
    return Permanent(
        Code.AGENT_LOST,
        "nobody can judge this command by the owner's launch policy",
        expected="the pod's agent enclave",
        got=f"no answer of it ({fault.code})",
        advice="what runs goes on; create the pod again to run commands beside it",
    )


def _named(identity: Path) -> tuple[str, int]:
    try:
        document = strict_json.parse_object(identity.read_bytes())
        return strict_json.text(document, "container"), strict_json.integer(document, "attempt")
    except (OSError, strict_json.Malformed) as error:
        raise Permanent(
            Code.CONFIG_LOCAL_ATTESTATION,
            "the host did not say which container this is",
            expected=f"{identity} with container and attempt",
            got=str(error),
            advice="boot bundle and host worker are of different versions",
        ) from error
