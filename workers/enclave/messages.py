"""What agent and boot init say to each other inside their attested channel.

Zone: enclave. May import: `orchestrator.faults`, `schemas`, the standard library.

JSON objects with a member `type`; both ends are measured and of one release, so anything unexpected is a defect or an
attack and ends the conversation.

    boot init -> agent   hello {container, attempt}
    agent -> boot init   config {process, root_hash, key, upper_bytes, secrets, volumes, output}
    boot init -> agent   accepted {host_data}
    agent -> boot init   boot {}
    boot init -> agent   booted {nanoseconds, process}

and then, for each command that the host wants to run beside the workload:

    boot init -> agent   exec {exec, args, terminal}
    agent -> boot init   admitted {exec}

Instead of any of them: `refused` by the agent, `failed` by boot init, both {code, message, expected, got, advice}.
`understood` guards the reading of members, as `unpack` does the reading of a message.
"""

from __future__ import annotations

import json
from collections.abc import Iterator
from contextlib import contextmanager
from typing import Any

from orchestrator.faults import Code, Fault, Permanent
from schemas import strict_json
from schemas.strict_json import JsonObject


def pack(type_: str, **members: Any) -> bytes:
    """One message's bytes."""
    return json.dumps({"type": type_, **members}).encode()


def unpack(raw: bytes, *expected: str) -> JsonObject:
    """The message, if of an `expected` type. Raises Permanent(CONFIG_LOCAL_ATTESTATION), or the fault it tells."""
    with understood(*expected):
        message = strict_json.parse_object(raw)
        type_ = strict_json.text(message, "type")
    if type_ in expected:
        return message
    if type_ in ("failed", "refused"):
        raise _told(message)
    raise _out_of_turn(expected, repr(type_)[:100])


@contextmanager
def understood(*expected: str) -> Iterator[None]:
    """A member that is missing, or of another form, raises Permanent(CONFIG_LOCAL_ATTESTATION); it is never quoted."""
    try:
        yield
    except (ValueError, KeyError, TypeError):
        raise _out_of_turn(expected, "a message of another form") from None


def told(fault: Fault) -> dict[str, str]:
    """The members of `failed` and `refused`."""
    diagnosis = fault.diagnosis
    return {
        "code": diagnosis.code.value,
        "message": diagnosis.message,
        "expected": diagnosis.expected,
        "got": diagnosis.got,
        "advice": diagnosis.advice,
    }


def _told(message: JsonObject) -> Permanent:
    code = str(message.get("code"))
    known = code in Code.__members__.values()
    return Permanent(
        Code(code) if known else Code.INTERNAL,
        str(message.get("message", "the other end failed")),
        expected=str(message.get("expected", "")),
        got=str(message.get("got", "")),
        advice=str(message.get("advice", "")),
    )


def _out_of_turn(expected: tuple[str, ...], got: str) -> Permanent:
    return Permanent(
        Code.CONFIG_LOCAL_ATTESTATION,
        "agent and boot init do not understand each other",
        expected=" or ".join(expected),
        got=got,
        advice="use agent and boot bundles of one release",
    )
