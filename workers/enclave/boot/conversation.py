"""Boot init's conversation with the agent; see `workers.enclave.messages`.

Zone: enclave. May import: `workers.enclave.{launch_policy,messages,rootfs,tee}`, `schemas`, `orchestrator.faults`.
"""

from __future__ import annotations

import socket
import time
from contextlib import suppress
from dataclasses import dataclass
from pathlib import Path
from typing import Final

from orchestrator.faults import Code, Fault, Permanent, Temporary
from schemas import strict_json
from schemas.places import AGENT_PORT, CONTAINER_FILE
from workers.enclave import messages
from workers.enclave.launch_policy.approved import ApprovedProcess
from workers.enclave.rootfs.crypto import StoreKey
from workers.enclave.tee.blocking import BlockingChannel
from workers.enclave.tee.interface import Tee
from workers.enclave.tee.judge import Judge

AGENT: Final = ("127.0.0.1", AGENT_PORT)
PATIENCE: Final = 50.0


@dataclass(frozen=True, slots=True)
class Configuration:
    """What the agent handed over. `secrets` holds what the key broker gave, by its URI."""

    process: ApprovedProcess
    root_hash: bytes
    key: StoreKey
    upper_bytes: int
    secrets: dict[str, bytes]


class Conversation:
    """One attested conversation. Raises Fault from every method."""

    def __init__(self, channel: BlockingChannel) -> None:
        self._channel = channel

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
            secrets = strict_json.nested(message, "secrets")
            return Configuration(
                process=ApprovedProcess.decode(strict_json.text(message, "process").encode()),
                root_hash=bytes.fromhex(strict_json.text(message, "root_hash")),
                key=StoreKey(bytearray(strict_json.base64_bytes(strict_json.text(message, "key"), "key"))),
                upper_bytes=strict_json.integer(message, "upper_bytes"),
                secrets={uri: strict_json.base64_bytes(strict_json.text(secrets, uri), uri) for uri in secrets},
            )

    def accept(self) -> None:
        """Say that the configuration is here, and wait for the word to boot."""
        self._channel.send(messages.pack("accepted"))
        messages.unpack(self._channel.receive(), "boot")

    def booted(self, nanoseconds: int, process: int) -> None:
        """Say that the workload runs."""
        self._channel.send(messages.pack("booted", nanoseconds=nanoseconds, process=process))

    def failed(self, fault: Fault) -> None:
        """Say why it does not; a channel that is gone cannot be told."""
        with suppress(Fault):
            self._channel.send(messages.pack("failed", **messages.told(fault)))

    def close(self) -> None:
        """End it; the workload needs nothing more from the agent."""
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
