"""Boot init's conversation with the agent; see `workers.enclave.messages`.

Zone: enclave. May import: `workers.enclave.{launch_policy,messages,rootfs,tee}`, `schemas`, `orchestrator.faults`.
"""

from __future__ import annotations

import base64
import json
import socket
import time
from dataclasses import dataclass
from pathlib import Path
from typing import Final

from orchestrator.faults import Code, Fault, Permanent, Temporary
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
    def open(cls, tee: Tee, judge: Judge) -> Conversation:
        """Connect to the pod's agent, waiting for it to listen, and attest each other."""
        ends = time.monotonic() + PATIENCE
        while True:
            try:
                connection = socket.create_connection(AGENT, timeout=PATIENCE)
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
            else:
                return cls(BlockingChannel.attest_to(connection, tee, judge))

    def configuration(self, identity: Path = Path(CONTAINER_FILE)) -> Configuration:
        """Say which container we are for and take what the agent gives. The key's only copy is in the result."""
        named = json.loads(identity.read_text())
        self._channel.send(messages.pack("hello", container=named["container"], attempt=named["attempt"]))
        message = messages.unpack(self._channel.receive(), "config")
        key = StoreKey(bytearray(base64.b64decode(message["key"])))
        return Configuration(
            process=ApprovedProcess.decode(message["process"].encode()),
            root_hash=bytes.fromhex(message["root_hash"]),
            key=key,
            upper_bytes=int(message["upper_bytes"]),
            secrets={uri: base64.b64decode(value) for uri, value in message["secrets"].items()},
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
        told = fault.diagnosis
        try:
            self._channel.send(
                messages.pack(
                    "failed",
                    code=told.code.value,
                    message=told.message,
                    expected=told.expected,
                    got=told.got,
                    advice=told.advice,
                )
            )
        except (Permanent, Temporary):
            return

    def close(self) -> None:
        """End it; the workload needs nothing more from the agent."""
        self._channel.close()
