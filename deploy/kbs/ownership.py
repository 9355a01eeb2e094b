"""What the owner may change: resources, the two policies, reference values. Each call has passed the admin gate.

Source: Trustee `kbs/src/api_server.rs`, `kbs/src/attestation/backend.rs` (SetPolicyInput).
"""

from __future__ import annotations

import json
from typing import TYPE_CHECKING

import structlog

from deploy.kbs.policies import PolicyBroken
from deploy.kbs.references import parse_message
from deploy.kbs.refused import attestation_policy_failed, bad_policy, plugin_failed, reference_values_failed
from deploy.kbs.release import resource_uri
from deploy.kbs.state import PolicyId
from schemas.strict_json import JsonObject, Malformed, base64url_bytes, parse_object, text

if TYPE_CHECKING:
    from deploy.kbs.policies import Policies
    from deploy.kbs.references import ReferenceValues
    from deploy.kbs.resources import Resources

_log = structlog.get_logger("kbs.owner")


class Ownership:
    """The owner's calls."""

    def __init__(self, resources: Resources, policies: Policies, references: ReferenceValues) -> None:
        self._resources = resources
        self._policies = policies
        self._references = references

    def put_resource(self, path: tuple[str, ...], content: bytes) -> None:
        """Make or replace a resource."""
        uri = resource_uri(path)
        self._resources.write(uri, content)
        _log.info("resource stored", uri=str(uri), bytes=len(content))

    def delete_resource(self, path: tuple[str, ...]) -> None:
        """Remove a resource; `Refused` when there is none."""
        uri = resource_uri(path)
        try:
            self._resources.delete(uri)
        except FileNotFoundError:
            raise plugin_failed(f"there is no resource {uri}") from None
        _log.info("resource removed", uri=str(uri))

    def set_resource_policy(self, body: bytes) -> None:
        """Replace the policy that decides who gets what."""
        try:
            self._replace(PolicyId.RESOURCE, parse_object(body))
        except (Malformed, PolicyBroken) as error:
            raise bad_policy(str(error)) from None

    def set_attestation_policy(self, body: bytes) -> None:
        """Replace the policy that judges evidence. Only `default_cpu` is ever evaluated, so no other is taken."""
        try:
            message = parse_object(body)
            name = text(message, "policy_id")
            if name == PolicyId.ATTESTATION:
                self._replace(PolicyId.ATTESTATION, message)
                return
        except (Malformed, PolicyBroken) as error:
            raise attestation_policy_failed(str(error)) from None
        raise attestation_policy_failed(f"policy_id: {PolicyId.ATTESTATION} is expected, not {name[:64]!a}")

    def _replace(self, policy: PolicyId, message: JsonObject) -> None:
        try:
            rego = base64url_bytes(text(message, "policy"), "policy").decode("utf-8")
        except UnicodeDecodeError:
            raise Malformed("policy: not UTF-8") from None
        self._policies.replace(policy, rego)
        _log.info("policy replaced", policy=policy)

    def policies(self) -> bytes:
        """The resource policies' ids, a JSON list as Trustee's."""
        return json.dumps([PolicyId.RESOURCE]).encode()

    def register_reference_values(self, body: bytes) -> None:
        """Add or replace reference values."""
        try:
            values = parse_message(body)
            self._references.register(values)
        except Malformed as malformed:
            raise reference_values_failed(f"Failed to register reference value: {malformed}") from None
        _log.info("reference values registered", names=sorted(values))

    def reference_value(self, name: str) -> bytes:
        """One reference value as JSON; `Refused` when there is none."""
        value = self._references.query(name)
        if value is None:
            raise reference_values_failed(f"No reference value found for the given id: {name[:128]!a}")
        return json.dumps(value).encode()
