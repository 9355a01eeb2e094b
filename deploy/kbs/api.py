"""Which call goes where: the protocol's dispatcher, without a web framework.

Source: Trustee `kbs/src/api_server.rs` (`api`). An unknown first segment, or a known one with another method, names a
plugin that does not exist.
"""

from __future__ import annotations

import json
from dataclasses import dataclass
from typing import TYPE_CHECKING, Final
from urllib.parse import parse_qsl

from deploy.kbs.refused import Refused, no_path, no_plugin
from schemas.kbs import PREFIX

if TYPE_CHECKING:
    from collections.abc import Callable

    from deploy.kbs.admin import AdminGate
    from deploy.kbs.handshake import Handshake
    from deploy.kbs.ownership import Ownership
    from deploy.kbs.release import Release

_JSON: Final = "application/json"
_MAX_QUERY_FIELDS: Final = 32


@dataclass(frozen=True, slots=True)
class Call:
    """One HTTP request. `path` and `query` as sent, not decoded; `session` the cookie's value."""

    method: str
    path: str
    query: str
    body: bytes
    session: str | None
    authorization: str | None


@dataclass(frozen=True, slots=True)
class Answer:
    """One HTTP reply."""

    status: int = 200
    body: bytes = b""
    content_type: str | None = None
    cookie: str | None = None


@dataclass(frozen=True, slots=True)
class Api:
    """The broker's four parts."""

    handshake: Handshake
    release: Release
    ownership: Ownership
    gate: AdminGate

    def answer(self, call: Call) -> Answer:
        """The reply to `call`, whatever it is. Blocking: signatures, policies and the disk."""
        try:
            return self._dispatch(call)
        except Refused as refused:
            return Answer(refused.status, refused.body())

    def _dispatch(self, call: Call) -> Answer:
        # A percent sign could only hide a slash or a dot: no name of ours needs one.
        if not call.path.startswith(f"{PREFIX}/") or "%" in call.path:
            raise no_path(call.path)
        endpoint, *rest = call.path.removeprefix(f"{PREFIX}/").split("/")
        path = tuple(rest)
        match endpoint, call.method:
            case "auth", "POST":
                session = self.handshake.challenge(call.body)
                challenge = {"nonce": session.nonce, "extra-params": ""}
                return Answer(200, json.dumps(challenge).encode(), _JSON, session.cookie())
            case "attest", "POST":
                session = self.handshake.attest(call.body, call.session)
                return Answer(200, json.dumps({"token": session.token}).encode(), _JSON, session.cookie())
            case "resource", "GET":
                reply = self.release.get(path, _query(call), call.session, call.authorization)
                return Answer(200, reply, _JSON)
            case _:
                return self._owner(endpoint, path, call)

    def _owner(self, endpoint: str, path: tuple[str, ...], call: Call) -> Answer:
        own = self.ownership
        calls: dict[tuple[str, str], Callable[[], bytes | None]] = {
            ("resource", "POST"): lambda: own.put_resource(path, call.body),
            ("resource", "DELETE"): lambda: own.delete_resource(path),
            ("attestation-policy", "POST"): lambda: own.set_attestation_policy(call.body),
            ("resource-policy", "POST"): lambda: own.set_resource_policy(call.body),
            ("resource-policy", "GET"): own.policies,
            ("reference-value", "POST"): lambda: own.register_reference_values(call.body),
            ("reference-value", "GET"): lambda: own.reference_value("/".join(path)),
        }
        asked = calls.get((endpoint, call.method))
        if asked is None:
            raise no_plugin(endpoint)
        self.gate.check(call.authorization, endpoint)
        reply = asked()
        return Answer() if reply is None else Answer(200, reply, _JSON)


def _query(call: Call) -> dict[str, str]:
    try:
        return dict(parse_qsl(call.query, keep_blank_values=True, max_num_fields=_MAX_QUERY_FIELDS, errors="strict"))
    except ValueError:
        raise no_path(call.path) from None
