"""Names on the bus. Pure.

Zone: any. May import: the standard library, `orchestrator.faults`.

    EV   ev.<shard>.<pod>                        a pod's history; shard = CRC-32 of the pod id modulo 8
    CMD  cmd.host.<node>.<transition>.<pod>      work for a node
         cmd.pod.<pod>.<transition>              work for a pod's agent enclave
    DLQ  server advisories about commands that ran out of deliveries
    req.host.<node>.<verb>                       requests to a node that need no memory (a signal)
"""

from __future__ import annotations

import re
import zlib
from typing import Final

from orchestrator.faults import Code, Permanent

EVENTS: Final = "EV"
COMMANDS: Final = "CMD"
DEAD_LETTERS: Final = "DLQ"
HISTORIES: Final = "ev.*.*"
SHARDS: Final = 8
_TOKEN: Final = re.compile(r"[A-Za-z0-9_-]{1,128}")


def token(what: str, value: str) -> str:
    """`value`, if it may stand as one token of a subject. Raises Permanent(INPUT): a dot or `*` would widen it."""
    if not _TOKEN.fullmatch(value):
        raise Permanent(
            Code.INPUT,
            f"the {what} cannot be part of a bus subject",
            expected="1 to 128 of A-Z a-z 0-9 _ -",
            got=repr(value[:140]),
            advice=f"rename the {what}",
        )
    return value


def shard(pod: str) -> int:
    """Which eighth of the histories the pod belongs to."""
    return zlib.crc32(pod.encode()) % SHARDS


def history(pod: str) -> str:
    """The subject that is the pod's history."""
    return f"ev.{shard(pod)}.{token('pod id', pod)}"


def pod_of(subject: str) -> str | None:
    """The pod whose history `subject` is. None for a subject that is nobody's: a wrong shard, an impossible id.

    Whose history a message belongs to is said by where it lies, never by what is written in it.
    """
    pod = subject.rpartition(".")[2]
    return pod if _TOKEN.fullmatch(pod) and history(pod) == subject else None


def host_command(node: str, transition: str, pod: str) -> str:
    """Where a node's worker finds a step of the host zone."""
    return f"cmd.host.{token('node name', node)}.{transition}.{token('pod id', pod)}"


def host_commands(node: str) -> str:
    """All steps of a node."""
    return f"cmd.host.{token('node name', node)}.>"


def pod_command(pod: str, transition: str) -> str:
    """Where a pod's agent finds a step of the enclave zone."""
    return f"cmd.pod.{token('pod id', pod)}.{transition}"


def pod_commands(pod: str) -> str:
    """All steps of a pod's agent."""
    return f"cmd.pod.{token('pod id', pod)}.>"


def host_consumer(node: str) -> str:
    """The durable consumer of a node's worker."""
    return f"host-{token('node name', node)}"


def pod_consumer(pod: str) -> str:
    """The durable consumer of a pod's agent."""
    return f"pod-{token('pod id', pod)}"


def host_request(node: str, verb: str) -> str:
    """Where a node answers requests of that verb."""
    return f"req.host.{token('node name', node)}.{verb}"
