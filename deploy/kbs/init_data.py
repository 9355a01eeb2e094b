"""Init-data as Trustee reads it: TOML whose digest the hardware binds, and whose members become claims.

Source: Trustee `attestation-service/src/lib.rs` (parse_init_data, extract_policy_data) and `kbs/docs/initdata.md`.
"""

from __future__ import annotations

import hashlib
import json
import tomllib
from dataclasses import dataclass
from typing import TYPE_CHECKING, Final

from deploy.kbs.refused import EvidenceRefused, Reason
from schemas.strict_json import JsonObject, JsonValue, Malformed, parse_object

if TYPE_CHECKING:
    from collections.abc import Callable

_DIGESTS: Final[dict[str, Callable[[bytes], hashlib._Hash]]] = {
    "sha256": hashlib.sha256,
    "sha384": hashlib.sha384,
    "sha512": hashlib.sha512,
}
_READ_AS_TOML: Final = ("aa.toml", "cdh.toml")
_POLICY: Final = "policy.rego"
_POLICY_DATA: Final = "policy_data := {"


@dataclass(frozen=True, slots=True)
class InitData:
    """`digest` is over the whole text; `claims` is what a policy sees of it."""

    digest: bytes
    claims: JsonObject

    @classmethod
    def parse(cls, body: str) -> InitData:
        """From the text that the attester presented; `EvidenceRefused(INIT_DATA)` when it is not init-data."""
        try:
            document = tomllib.loads(body)
        except (ValueError, RecursionError):
            raise _refused("not TOML") from None
        version, algorithm, data = document.get("version"), document.get("algorithm"), document.get("data")
        if not isinstance(version, str) or not isinstance(algorithm, str) or algorithm not in _DIGESTS:
            raise _refused("version and algorithm (sha256, sha384 or sha512) are expected")
        if not isinstance(data, dict) or not all(isinstance(value, str) for value in data.values()):
            raise _refused("a table data of strings is expected")
        claims: JsonObject = dict(data)
        for name in _READ_AS_TOML:
            if name in data:
                claims[name] = _toml_claim(data[name])
        if _POLICY in data and (policy_data := _policy_data(data[_POLICY])) is not None:
            del claims[_POLICY]
            claims["agent_policy_claims"] = policy_data
        return cls(_DIGESTS[algorithm](body.encode()).digest(), claims)


def _toml_claim(text: str) -> JsonValue:
    """The table that `text` holds; the text itself when it is no TOML or holds what JSON cannot, such as a date."""
    try:
        table: JsonValue = tomllib.loads(text)
        json.dumps(table, allow_nan=False)
    except (ValueError, TypeError, RecursionError):
        return text
    return table


def _policy_data(rego: str) -> JsonValue:
    """The last object literal of an agent policy, by Trustee's rule: it begins so and ends with the file."""
    _before, found, rest = rego.partition(_POLICY_DATA)
    try:
        return parse_object("{" + rest) if found else None
    except Malformed:
        return None


def _refused(why: str) -> EvidenceRefused:
    return EvidenceRefused(Reason.INIT_DATA, f"the init-data is malformed: {why}")
