"""A small OpenID provider, strict where a client could be careless: exact redirects, PKCE by S256 only, codes once.

OpenID Connect Core 1.0 (authorization code flow), RFC 7636, RFC 9207. Its users are signed in already.
"""

from __future__ import annotations

import asyncio
import base64
import hashlib
import secrets
import time
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from dataclasses import dataclass, field
from urllib.parse import parse_qs, urlencode

import uvicorn
from joserfc import jwt
from joserfc.jwk import ECKey
from starlette.applications import Starlette
from starlette.requests import Request
from starlette.responses import JSONResponse, RedirectResponse, Response
from starlette.routing import Route

from tests.nats import free_port

CLIENT = "console"
SECRET = "provider-gave-this"


@dataclass
class Grant:
    """What a code stands for."""

    redirect: str
    challenge: str
    nonce: str


@dataclass
class OidcProvider:
    """One provider with one client. `user` are the claims of whoever signs in; `forged` are put over every ID token."""

    redirect: str
    port: int = field(default_factory=free_port)
    user: dict[str, object] = field(
        default_factory=lambda: {"sub": "u-17", "preferred_username": "ada", "groups": ["ops"]}
    )
    forged: dict[str, object] = field(default_factory=dict)
    key: ECKey = field(default_factory=lambda: ECKey.generate_key("P-256", {"kid": "k1", "use": "sig", "alg": "ES256"}))
    signing: ECKey | None = None
    grants: dict[str, Grant] = field(default_factory=dict)

    @property
    def issuer(self) -> str:
        return f"http://localhost:{self.port}"

    async def discover(self, _: Request) -> Response:
        return JSONResponse(
            {
                "issuer": self.issuer,
                "authorization_endpoint": f"{self.issuer}/authorize",
                "token_endpoint": f"{self.issuer}/token",
                "jwks_uri": f"{self.issuer}/keys",
                "response_types_supported": ["code"],
                "subject_types_supported": ["public"],
                "id_token_signing_alg_values_supported": ["ES256"],
            }
        )

    async def keys(self, _: Request) -> Response:
        return JSONResponse({"keys": [self.key.as_dict(private=False)]})

    async def authorize(self, request: Request) -> Response:
        asked = request.query_params
        wanted = {"client_id": CLIENT, "redirect_uri": self.redirect, "response_type": "code"}
        if any(asked.get(name) != value for name, value in wanted.items()) or "openid" not in asked["scope"].split():
            return JSONResponse({"error": "invalid_request"}, 400)
        if asked.get("code_challenge_method") != "S256" or not asked.get("code_challenge"):
            answer = {"error": "invalid_request", "error_description": "PKCE by S256 is required"}
        else:
            code = secrets.token_urlsafe(16)
            self.grants[code] = Grant(self.redirect, asked["code_challenge"], asked["nonce"])
            answer = {"code": code}
        told = {**answer, "state": asked["state"], "iss": self.issuer}
        return RedirectResponse(f"{self.redirect}?{urlencode(told)}", 302)

    async def token(self, request: Request) -> Response:
        form = {name: values[0] for name, values in parse_qs((await request.body()).decode()).items()}
        basic = base64.b64encode(f"{CLIENT}:{SECRET}".encode()).decode()
        if request.headers.get("authorization") != f"Basic {basic}":
            return JSONResponse({"error": "invalid_client"}, 401)
        grant = self.grants.pop(form.get("code", ""), None)
        digest = hashlib.sha256(form.get("code_verifier", "").encode()).digest()
        challenge = base64.urlsafe_b64encode(digest).rstrip(b"=").decode()
        if grant is None or grant.challenge != challenge or grant.redirect != form.get("redirect_uri"):
            return JSONResponse({"error": "invalid_grant"}, 400)
        now = int(time.time())
        claims = {"iss": self.issuer, "aud": CLIENT, "iat": now, "exp": now + 60, "nonce": grant.nonce, **self.user}
        key = self.signing or self.key
        id_token = jwt.encode({"alg": "ES256", "kid": "k1"}, {**claims, **self.forged}, key)
        return JSONResponse({"access_token": "opaque", "token_type": "Bearer", "expires_in": 60, "id_token": id_token})

    @asynccontextmanager
    async def running(self) -> AsyncIterator[OidcProvider]:
        routes = [
            Route("/.well-known/openid-configuration", self.discover),
            Route("/authorize", self.authorize),
            Route("/token", self.token, methods=["POST"]),
            Route("/keys", self.keys),
        ]
        settings = uvicorn.Config(Starlette(routes=routes), port=self.port, log_config=None, lifespan="off")
        server = uvicorn.Server(settings)
        serving = asyncio.create_task(server._serve())
        while not server.started:
            await asyncio.sleep(0.01)
        try:
            yield self
        finally:
            server.should_exit = True
            await serving
