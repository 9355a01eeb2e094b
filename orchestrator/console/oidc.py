"""Entering through an OpenID provider: authorization code with PKCE, an ID token checked strictly.

Zone: host. May import: `authlib`, `httpx2`, `joserfc`, `orchestrator.faults`, `orchestrator.console.{roles,sessions}`.

authlib and httpx2 come with the extra `oidc` and are imported when somebody enters through this door.

Checks when somebody comes back, in this order; the first that fails refuses:

1. The errand is one that we sealed for this browser less than five minutes ago, and `state` is the errand's.
2. `iss`, where the provider sends it, is our provider (RFC 9207).
3. The code is exchanged at the provider's token endpoint, with the verifier that only the errand holds (RFC 7636).
4. The ID token is signed by a key that the provider publishes, with an asymmetric algorithm, for our client; issuer,
   audience, authorized party, times and nonce are those of this errand (OpenID Connect Core 3.1.3.7).
5. One of its groups, or its verified e-mail address, is among those who may give orders, or read.
"""

from __future__ import annotations

import hmac
import secrets
import ssl
from collections.abc import Mapping
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any, Final
from urllib.parse import parse_qs, urlsplit

from joserfc import jwt
from joserfc.errors import JoseError
from joserfc.jwk import KeySet

from orchestrator.console.roles import Identity, Role
from orchestrator.console.sessions import Seal
from orchestrator.faults import Code, Permanent, Temporary

if TYPE_CHECKING:
    from authlib.integrations.httpx_client import AsyncOAuth2Client

ERRAND_SECONDS: Final = 300
ALGORITHMS: Final = ("RS256", "PS256", "ES256", "ES384", "EdDSA")
EVERYBODY: Final = "*"
_TIMEOUT: Final = 10.0
_LEEWAY: Final = 30
"""Seconds by which the provider's clock and ours may differ."""


@dataclass(frozen=True, slots=True)
class Provider:
    """Who is asked. `readers` are groups and e-mail addresses that may enter, or `*` for everybody it signs in;
    `operators`, those who may give orders too.

    `redirect` is our callback's address, registered there; `secret` is empty for a public client; `ca_file` is the
    provider's certificate authority where it is not one of the system's.
    """

    issuer: str
    client_id: str
    redirect: str
    readers: frozenset[str]
    secret: str = ""
    ca_file: str = ""
    operators: frozenset[str] = frozenset()

    def __post_init__(self) -> None:
        """Raises Permanent(INPUT) for an issuer that anybody between could speak for."""
        parts = urlsplit(self.issuer)
        if parts.scheme != "https" and parts.hostname not in {"127.0.0.1", "localhost", "::1"}:
            raise Permanent(
                Code.INPUT,
                "the OpenID provider cannot be trusted",
                expected="an https issuer (http on loopback only)",
                got=self.issuer,
                advice="give the provider's issuer as its discovery document spells it",
            )


@dataclass(frozen=True, slots=True)
class _Endpoints:
    """What the discovery document says."""

    authorization: str
    token: str
    keys: str


class OidcLogin:
    """One provider's door."""

    def __init__(self, provider: Provider, seal: Seal) -> None:
        self._provider = provider
        self._seal = seal

    @property
    def name(self) -> str:
        """What the button says."""
        return urlsplit(self._provider.issuer).hostname or self._provider.issuer

    async def begin(self, next_: str) -> tuple[str, str]:
        """`(address, errand)`: where to send the browser, and the cookie to bring back. Raises Temporary(RUNTIME)."""
        verifier, nonce = secrets.token_urlsafe(48), secrets.token_urlsafe(24)
        async with self._client() as client:
            endpoints = await self._discover(client)
            address, state = client.create_authorization_url(
                endpoints.authorization, code_verifier=verifier, nonce=nonce
            )
        return str(address), self._seal.close([str(state), nonce, verifier, next_[:500]], ERRAND_SECONDS)

    async def finish(self, query: str, errand: str) -> tuple[Identity, str]:
        """Who came back, and where they wanted to go. Raises Permanent(INPUT), Temporary(RUNTIME)."""
        told = {name: values[0] for name, values in parse_qs(query).items()}
        match self._seal.open(errand):
            case [str() as state, str() as nonce, str() as verifier, str() as next_]:  # check 1
                pass
            case _:
                raise _refused("a sign-in begun in this browser in the last five minutes", "none")
        if not hmac.compare_digest(told.get("state", "").encode(), state.encode()):
            raise _refused("the state of this sign-in", "another")
        if told.get("iss", self._provider.issuer) != self._provider.issuer:  # check 2
            raise _refused(f"an answer of {self._provider.issuer}", told["iss"][:200])
        if "code" not in told:
            raise _refused("a code", f"{told.get('error', 'none')[:200]} {told.get('error_description', '')[:500]}")
        claims = await self._exchange(told["code"], verifier, nonce)
        return self._admit(claims), next_

    async def _exchange(self, code: str, verifier: str, nonce: str) -> Mapping[str, Any]:
        from authlib.common.errors import AuthlibBaseError  # noqa: PLC0415 - an extra
        from httpx2 import HTTPError  # noqa: PLC0415 - as above

        try:
            async with self._client() as client:
                endpoints = await self._discover(client)
                token = await client.fetch_token(endpoints.token, code=code, code_verifier=verifier)  # check 3
                answer = await client.request("GET", endpoints.keys, withhold_token=True)
                keys = KeySet.import_key_set(answer.raise_for_status().json())
        except HTTPError as error:
            raise _away(self._provider.issuer, error) from error
        except AuthlibBaseError as error:
            raise _refused("the code exchanged for a token", f"{error.error}: {error.description}") from error
        except (ValueError, KeyError, JoseError) as error:
            raise _away(self._provider.issuer, error) from error
        return self._check(str(token.get("id_token", "")), keys, nonce)

    def _check(self, id_token: str, keys: KeySet, nonce: str) -> Mapping[str, Any]:
        """Check 4."""
        provider = self._provider
        rules = jwt.JWTClaimsRegistry(
            leeway=_LEEWAY,
            iss={"essential": True, "value": provider.issuer},
            aud={"essential": True, "value": provider.client_id},
            nonce={"essential": True, "value": nonce},
            exp={"essential": True},
            iat={"essential": True},
            sub={"essential": True},
        )
        try:
            token = jwt.decode(id_token, keys, algorithms=list(ALGORITHMS))
            rules.validate(token.claims)
        except (JoseError, ValueError) as error:
            raise _refused(
                "an ID token of this provider for this sign-in", f"{type(error).__name__}: {error}"
            ) from error
        party = token.claims.get("azp", provider.client_id)
        if party != provider.client_id:
            raise _refused(f"a token for {provider.client_id}", f"one for {str(party)[:200]}")
        return token.claims

    def _admit(self, claims: Mapping[str, Any]) -> Identity:
        """Check 5."""
        groups = claims.get("groups", [])
        names = {group for group in groups if isinstance(group, str)} if isinstance(groups, list) else set()
        email = claims.get("email")
        if isinstance(email, str) and claims.get("email_verified") is True:
            names.add(email)
        name = str(claims.get("preferred_username") or email or claims["sub"])[:200]
        if not names.isdisjoint(self._provider.operators):
            return Identity(name, Role.OPERATOR, "oidc")
        if EVERYBODY not in self._provider.readers and names.isdisjoint(self._provider.readers):
            raise _refused("one of the groups or addresses that may read", f"{name}, who is in none of them")
        return Identity(name, Role.READER, "oidc")

    def _client(self) -> AsyncOAuth2Client:
        from authlib.integrations.httpx_client import AsyncOAuth2Client  # noqa: PLC0415 - an extra

        provider = self._provider
        return AsyncOAuth2Client(
            client_id=provider.client_id,
            client_secret=provider.secret or None,
            token_endpoint_auth_method="client_secret_basic" if provider.secret else "none",
            scope="openid profile email groups",
            redirect_uri=provider.redirect,
            code_challenge_method="S256",
            verify=ssl.create_default_context(cafile=provider.ca_file or None),
            timeout=_TIMEOUT,
        )

    async def _discover(self, client: AsyncOAuth2Client) -> _Endpoints:
        """OpenID Connect Discovery 1.0, 4; the document must be the issuer's own."""
        from httpx2 import HTTPError  # noqa: PLC0415 - an extra

        try:
            address = self._provider.issuer.rstrip("/") + "/.well-known/openid-configuration"
            answer = await client.request("GET", address, withhold_token=True)
            document = answer.raise_for_status().json()
            found = _Endpoints(
                str(document["authorization_endpoint"]), str(document["token_endpoint"]), str(document["jwks_uri"])
            )
            issuer = str(document["issuer"])
        except (HTTPError, ValueError, KeyError, TypeError) as error:
            raise _away(self._provider.issuer, error) from error
        if issuer != self._provider.issuer:
            raise _refused(f"the discovery document of {self._provider.issuer}", f"that of {issuer[:200]}")
        return found


def _refused(expected: str, got: str) -> Permanent:
    return Permanent(
        Code.INPUT,
        "signing in through the OpenID provider did not work",
        expected=expected,
        got=got[:1000],
        advice="begin again; if it happens again, compare the console's options with the provider",
    )


def _away(issuer: str, error: Exception) -> Temporary:
    return Temporary(
        Code.RUNTIME,
        "the OpenID provider does not answer as one",
        expected=f"discovery, keys and tokens of {issuer}",
        got=f"{type(error).__name__}: {str(error)[:300]}",
        advice="see whether it is up, and whether this machine reaches it",
    )
