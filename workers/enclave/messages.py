"""What agent and boot init say to each other inside their attested channel.

Zone: enclave. May import: `orchestrator.faults`, the standard library.

JSON objects with a member `type`; both ends are measured and of one release, so anything unexpected is a defect or an
attack and ends the conversation.

    boot init -> agent   hello {container, attempt}
    agent -> boot init   config {process, root_hash, key, upper_bytes, secrets}   or   refused {code, message}
    boot init -> agent   accepted {}
    agent -> boot init   boot {}
    boot init -> agent   booted {nanoseconds, process}   or   failed {code, message, expected, got, advice}
"""

from __future__ import annotations

import json
from typing import Any

from orchestrator.faults import Code, Permanent


def pack(type_: str, **members: Any) -> bytes:
    """One message's bytes."""
    return json.dumps({"type": type_, **members}).encode()


def unpack(raw: bytes, *expected: str) -> dict[str, Any]:
    """The message, if of an `expected` type. Raises Permanent(CONFIG_LOCAL_ATTESTATION), or the fault it tells."""
    try:
        message = json.loads(raw)
        type_ = message["type"]
    except (ValueError, KeyError, TypeError) as error:
        raise _out_of_turn(expected, "bytes that are no message") from error
    if type_ in expected:
        return dict(message)
    if type_ in ("failed", "refused"):
        raise _told(message)
    raise _out_of_turn(expected, repr(type_)[:100])


def _told(message: dict[str, Any]) -> Permanent:
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
