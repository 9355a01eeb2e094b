"""A release's signed reference values into a broker: its agents are then those that may get anything.

Zone: owner. May import: `deploy.publish.references`, `orchestrator.faults`, `schemas`.

The owner's step, before the broker: nothing that does not verify under their key ever reaches it, and any broker that
keeps Trustee's reference values will do. What was accepted last lies beside the measurements, in the same call:

    sgx_mr_enclave        the agents' measurements
    enclave_cc_payload    [when the document was signed, the payload's digest]

Boot init is no enclave of the broker's: agents judge it, by the launch policy's `boot_measurements`.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Final, Protocol

from deploy.publish.references import References, verify
from orchestrator.faults import Code, Permanent
from schemas.strict_json import JsonValue

if TYPE_CHECKING:
    from collections.abc import Mapping

    from workers.enclave.image.signature import PublicKey

ENCLAVES: Final = "sgx_mr_enclave"
ACCEPTED: Final = "enclave_cc_payload"


class Broker(Protocol):
    """What is asked of a key broker: `deploy.kbs.admin_client.AdminClient`."""

    def find_reference_value(self, name: str, /) -> JsonValue:
        """What is registered under the name, None where nothing is."""
        ...

    def set_reference_values(self, values: Mapping[str, JsonValue], /) -> None:
        """Register all of them or none."""
        ...


def accept(document: bytes, key: PublicKey, broker: Broker, *, keep: bool = False) -> References:
    """Let the broker affirm the agents of this payload, and no others; with `keep`, those it affirms now as well.

    Accepting the same document again changes nothing but what `keep` kept.

    Raises:
        Permanent: REFERENCES_KEY, REFERENCES_ALTERED, REFERENCES_FORMAT; REFERENCES_OLDER, where a later document was
            accepted, or another one of the same second; INPUT, what the broker refuses.
        Temporary: KEY_KBS_AWAY.
    """
    references = verify(document, key)
    before = _accepted(broker.find_reference_value(ACCEPTED))
    if before is not None and (references.issued, references.payload) != before and references.issued <= before[0]:
        raise Permanent(
            Code.REFERENCES_OLDER,
            "the broker has accepted later reference values",
            expected=f"a document signed after {before[0]}, when that of payload {before[1]} was",
            got=f"one of payload {references.payload}, signed at {references.issued}",
            advice="an older payload that is wanted again is signed again: enclave-cc payload sign",
        )
    kept = _strings(broker.find_reference_value(ENCLAVES)) if keep else ()
    affirmed: list[JsonValue] = [*sorted({*kept, *references.of("agent")})]
    broker.set_reference_values({ENCLAVES: affirmed, ACCEPTED: [references.issued, references.payload]})
    return references


def _accepted(value: JsonValue) -> tuple[str, str] | None:
    if value is None:
        return None
    found = _strings(value)
    if len(found) != 2:
        raise _unreadable(ACCEPTED)
    return found[0], found[1]


def _strings(value: JsonValue) -> tuple[str, ...]:
    if value is None:
        return ()
    if not isinstance(value, list) or not all(isinstance(one, str) for one in value):
        raise _unreadable(ENCLAVES)
    return tuple(str(one) for one in value)


def _unreadable(name: str) -> Permanent:
    return Permanent(
        Code.INPUT,
        f"the broker's reference value {name} cannot be understood",
        expected="an array of strings, as `enclave-cc kbs accept` registers it",
        got="something else",
        advice="register it by hand: enclave-cc kbs reference-value",
    )
