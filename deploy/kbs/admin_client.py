"""The owner's calls to a broker: ours, or a Trustee whose admin key is Ed25519.

Each call carries its own token, good for a minute. A status other than 200 is a fault: nothing is ever registered
silently or not at all.
"""

from __future__ import annotations

import base64
import json
from typing import TYPE_CHECKING, Final

from deploy.kbs.admin import ISSUER, admin_token
from deploy.kbs.state import PolicyId
from orchestrator.faults import Code, Permanent, Temporary
from schemas.kbs import MAX_RESOURCE_BYTES, PREFIX
from schemas.strict_json import JsonObject, JsonValue, Malformed, base64url
from workers.enclave.kbs.channel import Channel, Reply, Unreachable
from workers.enclave.kbs.refusal import Refusal

if TYPE_CHECKING:
    from collections.abc import Mapping

    from workers.enclave.kbs import ResourceUri

_NO_VALUE: Final = "No reference value found"
"""Trustee's words (`kbs/src/api_server.rs`); its variant is that of every failure of reference values."""


class AdminClient:
    """Calls block. Faults: `Temporary(KEY_KBS_AWAY)`, and `Permanent(INPUT)` when the broker refuses."""

    def __init__(self, url: str, ca_pem: str, admin_key_pem: bytes, *, issuer: str = ISSUER) -> None:
        self._channel = Channel(url, ca_pem)
        self._key = admin_key_pem
        self._issuer = issuer

    def put_resource(self, uri: ResourceUri, content: bytes) -> None:
        """Make or replace a resource of at most 2 MiB."""
        if len(content) > MAX_RESOURCE_BYTES:
            raise Permanent(
                Code.INPUT,
                f"{uri} is too large",
                expected=f"at most {MAX_RESOURCE_BYTES} bytes",
                got=f"{len(content)} bytes",
            )
        self._call("POST", uri.path, content)

    def delete_resource(self, uri: ResourceUri) -> None:
        """Remove a resource."""
        self._call("DELETE", uri.path)

    def set_policy(self, policy: PolicyId, rego: str) -> None:
        """Replace a policy. It decides about every request from now on."""
        policy_text = base64url(rego.encode())
        if policy is PolicyId.RESOURCE:
            self._post("resource-policy", {"policy": policy_text})
        else:
            self._post("attestation-policy", {"type": "rego", "policy_id": policy, "policy": policy_text})

    def set_reference_value(self, name: str, value: JsonValue) -> None:
        """Register a reference value, replacing what had that name."""
        self.set_reference_values({name: value})

    def set_reference_values(self, values: Mapping[str, JsonValue]) -> None:
        """Register several: all of them, or none."""
        payload = base64.b64encode(json.dumps(dict(values)).encode()).decode("ascii")
        self._post("reference-value", {"version": "0.1.0", "type": "sample", "payload": payload})

    def reference_value(self, name: str) -> JsonValue:
        """What is registered under `name`."""
        value: JsonValue = json.loads(self._call("GET", f"{PREFIX}/reference-value/{name}").body)
        return value

    def find_reference_value(self, name: str) -> JsonValue:
        """What is registered under `name`; None where nothing is."""
        path = f"{PREFIX}/reference-value/{name}"
        answer = self._ask("GET", path)
        if isinstance(answer, Reply):
            value: JsonValue = json.loads(answer.body)
            return value
        if _NO_VALUE in answer.detail:
            return None
        raise _refused("GET", path, answer)

    def close(self) -> None:
        """Close the connections."""
        self._channel.close()

    def _post(self, endpoint: str, message: JsonObject) -> None:
        self._call("POST", f"{PREFIX}/{endpoint}", json.dumps(message).encode())

    def _call(self, method: str, path: str, body: bytes | None = None) -> Reply:
        answer = self._ask(method, path, body)
        if isinstance(answer, Refusal):
            raise _refused(method, path, answer)
        return answer

    def _ask(self, method: str, path: str, body: bytes | None = None) -> Reply | Refusal:
        authorization = f"Bearer {admin_token(self._key, self._issuer)}"
        try:
            reply = self._channel.send(method, path, {"Authorization": authorization}, body)
            return reply if reply.status == 200 else Refusal.read(reply)
        except Unreachable as away:
            raise Temporary(Code.KEY_KBS_AWAY, "the key broker cannot be reached", got=str(away)) from away
        except Malformed as malformed:
            raise Permanent(
                Code.INPUT, "this is no key broker", expected="a reply of the protocol", got=str(malformed)
            ) from malformed


def _refused(method: str, path: str, refusal: Refusal) -> Permanent:
    return Permanent(
        Code.INPUT,
        f"the key broker refuses {method} {path}",
        expected="status 200",
        got=f"{refusal.variant}: {refusal.detail}",
    )
