"""The owner's two policies, in Rego, evaluated as Trustee evaluates them and by the same engine.

Source: Trustee `deps/policy-engine/src/policy/rego.rs`. A rule that the policy does not define is "no"; so is a value
that is not of the rule's type. The one import of regorus.
"""

from __future__ import annotations

import json
from typing import TYPE_CHECKING, Final

import regorus

from deploy.kbs import durable
from deploy.kbs.state import PolicyId
from schemas.strict_json import JsonObject, JsonValue

if TYPE_CHECKING:
    from collections.abc import Callable
    from pathlib import Path

_ALLOW: Final = "data.policy.allow"
_TRUST_CLAIMS: Final = "data.policy.trust_claims"
_NO_SUCH_RULE: Final = "not a valid rule path"
_REFERENCE_QUERY: Final = "query_reference_value"


class PolicyBroken(Exception):
    """A policy that cannot be parsed or evaluated. `str()` is the engine's first lines, without its stack."""


class Policies:
    """The policies in the state directory, and what they say."""

    def __init__(self, directory: Path, query_reference_value: Callable[[str], JsonValue]) -> None:
        """`PolicyBroken` when a policy is missing or cannot be parsed: without one, nothing may be decided."""
        self._directory = directory
        self._query = query_reference_value
        for policy in PolicyId:
            self._load(policy, self._read(policy))

    def replace(self, policy: PolicyId, rego: str) -> None:
        """Set `policy`; on the disk when this returns. `PolicyBroken` when it cannot be parsed."""
        self._load(policy, rego)
        durable.write(self._path(policy), rego.encode())

    def allows(self, claims: JsonObject, request: JsonObject) -> bool:
        """Whether the resource policy allows `request` (plugin, resource-path, query) to a holder of `claims`."""
        engine = self._load(PolicyId.RESOURCE, self._read(PolicyId.RESOURCE))
        return _evaluate(engine, _ALLOW, claims, request) is True

    def trust_claims(self, evidence: JsonObject) -> JsonObject:
        """What the attestation policy makes of annotated evidence; `PolicyBroken` unless it is an object."""
        engine = self._load(PolicyId.ATTESTATION, self._read(PolicyId.ATTESTATION))
        claims = _evaluate(engine, _TRUST_CLAIMS, evidence, None)
        if not isinstance(claims, dict):
            raise PolicyBroken(f"{_TRUST_CLAIMS} is not an object")
        return claims

    def _load(self, policy: PolicyId, rego: str) -> regorus.Engine:
        engine = regorus.Engine()
        try:
            # Trustee gives this function to attestation policies only.
            if policy is PolicyId.ATTESTATION:
                engine.add_extension(_REFERENCE_QUERY, 1, self._reference_value)
            engine.add_policy(f"{policy}.rego", rego)
        except RuntimeError as error:
            raise PolicyBroken(_first_lines(error)) from None
        return engine

    def _reference_value(self, name: object) -> JsonValue:
        return self._query(name) if isinstance(name, str) else None

    def _read(self, policy: PolicyId) -> str:
        try:
            return self._path(policy).read_text("utf-8")
        except FileNotFoundError:
            raise PolicyBroken(f"there is no {policy}.rego in {self._directory}") from None
        except UnicodeDecodeError:
            raise PolicyBroken(f"{policy}.rego is not UTF-8") from None

    def _path(self, policy: PolicyId) -> Path:
        return self._directory / f"{policy}.rego"


def _evaluate(engine: regorus.Engine, rule: str, subject: JsonObject, data: JsonObject | None) -> JsonValue:
    try:
        if data is not None:
            engine.add_data_json(json.dumps(data))
        engine.set_input_json(json.dumps(subject))
        # Through JSON, because the engine's own values are no JsonValue (a set, "undefined").
        text: str = engine.eval_rule_as_json(rule)
        value: JsonValue = json.loads(text)
    except (RuntimeError, ValueError) as error:
        if _NO_SUCH_RULE in str(error):
            return None
        raise PolicyBroken(_first_lines(error)) from None
    return value


def _first_lines(error: Exception) -> str:
    return " ".join(str(error).partition("\n\nStack backtrace")[0].split())[:512]
