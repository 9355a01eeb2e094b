"""Handing out resources: to a good token, by the owner's policy, readable by the attested key only.

Source: Trustee `kbs/src/api_server.rs` (the last arm of `api`). The policy is asked before the resource is looked for,
so whoever is denied does not learn what exists.
"""

from __future__ import annotations

import hashlib
from typing import TYPE_CHECKING, Final

import structlog

from deploy.kbs import jwe
from deploy.kbs.policies import PolicyBroken
from deploy.kbs.refused import Refused, denied, plugin_failed, policy_broke, token_not_found, token_refused
from orchestrator.faults import Permanent
from schemas.kbs import TeePublicKey, tee_public_key
from schemas.strict_json import JsonObject, JsonValue, Malformed, nested
from workers.enclave.kbs import ResourceUri

if TYPE_CHECKING:
    from deploy.kbs.policies import Policies
    from deploy.kbs.resources import Resources
    from deploy.kbs.sessions import Sessions
    from deploy.kbs.tokens import TokenSigner

PLUGIN: Final = "resource"
_BEARER: Final = "Bearer "
_log = structlog.get_logger("kbs.release")


def resource_uri(path: tuple[str, ...]) -> ResourceUri:
    """The resource that the path's last three segments name; `Refused` for any other path."""
    try:
        repository, kind, tag = path
        return ResourceUri(repository, kind, tag)
    except (ValueError, Permanent):
        raise plugin_failed("illegal ResourceDesc format.") from None


class Release:
    """Decides about one resource at a time."""

    def __init__(self, sessions: Sessions, signer: TokenSigner, policies: Policies, resources: Resources) -> None:
        self._sessions = sessions
        self._signer = signer
        self._policies = policies
        self._resources = resources

    def get(
        self, path: tuple[str, ...], query: dict[str, str], session_id: str | None, authorization: str | None
    ) -> bytes:
        """The reply body, a JWE; `Refused` otherwise. The session's token is tried before the header's."""
        token = self._token(session_id, authorization)
        told = {"path": "/".join(path)[:256], "token_sha256": hashlib.sha256(token.encode()).hexdigest()}
        try:
            uri, key = self._decide(token, path, query)
            reply = self._seal(uri, key)
        except Refused as refused:
            _log.warning("resource refused", variant=refused.variant, detail=refused.detail, **told)
            raise
        _log.info("resource released", **told)
        return reply

    def _token(self, session_id: str | None, authorization: str | None) -> str:
        session = self._sessions.find(session_id) if session_id else None
        if session is not None and session.token is not None:
            return session.token
        if authorization is None or not authorization.startswith(_BEARER) or not authorization.isascii():
            raise token_not_found()
        return authorization.removeprefix(_BEARER)

    def _decide(self, token: str, path: tuple[str, ...], query: dict[str, str]) -> tuple[ResourceUri, TeePublicKey]:
        try:
            claims = self._signer.verify(token)
            key = _tee_key(claims)
        except Malformed as malformed:
            raise token_refused(str(malformed)) from None
        segments: list[JsonValue] = list(path)
        request: JsonObject = {"plugin": PLUGIN, "resource-path": segments, "query": {**query}}
        try:
            allowed = self._policies.allows(claims, request)
        except PolicyBroken as broken:
            raise policy_broke(str(broken)) from None
        if not allowed:
            raise denied()
        return resource_uri(path), key

    def _seal(self, uri: ResourceUri, key: TeePublicKey) -> bytes:
        try:
            return jwe.seal(key, self._resources.read(uri))
        except FileNotFoundError:
            raise plugin_failed(f"there is no resource {uri}") from None


def _tee_key(claims: JsonObject) -> TeePublicKey:
    evidence = nested(nested(nested(claims, "submods"), "cpu0"), "ear.veraison.annotated-evidence")
    return tee_public_key(nested(nested(evidence, "runtime_data_claims"), "tee-pubkey"))
