"""HTTPS to a registry: TLS under the owner's roots, an optional CONNECT proxy, authentication, redirects.

What the way to the registry may do is cut and delay: TLS ends in this process. Rules:

- https only. Plain http is for a registry on this machine's loopback, where the caller asked for it by name.
- Credentials go to the host they belong to, and to the token server that this host names (distribution specification,
  token authentication); never along a redirect to another host.
- Redirects are followed by hand, for GET and HEAD only, at most five, to https.
- Every answer is a status this module judged; a body is read by the caller, who bounds it.

An unreachable, overloaded or unprovable server is Temporary IMAGE_REGISTRY_AWAY; an absent or refused object is
Permanent IMAGE_NOT_FOUND.
"""

from __future__ import annotations

import base64
import ipaddress
import re
import ssl
import threading
import time
from typing import TYPE_CHECKING, Final
from urllib.parse import urlencode, urljoin, urlsplit

import urllib3
from urllib3.exceptions import HTTPError, SSLError
from urllib3.util import Timeout

from orchestrator.faults import Code, Permanent, Temporary
from workers.enclave.image.document import parse_object

if TYPE_CHECKING:
    from collections.abc import Iterable, Mapping

    from urllib3.response import BaseHTTPResponse

    from workers.enclave.image.credentials import Credentials

CONNECT_SECONDS: Final = 10.0
READ_SECONDS: Final = 30.0
"""Silence, not duration: a big blob may take as long as it needs while bytes arrive."""

_MOST_REDIRECTS: Final = 5
_LONGEST_TOKEN_ANSWER: Final = 64 * 1024
_TOKEN_MARGIN_SECONDS: Final = 15.0
_SHORT_REST: Final = 64 * 1024
_PARAMETER: Final = re.compile(r'([a-zA-Z_]+)="((?:[^"\\]|\\.)*)"', re.ASCII)


class Transport:
    """A pool of connections to one registry host and what it points to. Safe to use from several threads."""

    def __init__(
        self,
        *,
        ca_pem: str | None = None,
        proxy_url: str | None = None,
        credentials: Credentials | None = None,
        plain_http_loopback: bool = False,
    ) -> None:
        """Prepare; nothing connects yet.

        Args:
            ca_pem: the only trusted roots; None for the machine's.
            proxy_url: `http://host:port` of a CONNECT proxy; it sees names and ciphertext.
            credentials: an account, or None for an anonymous visit.
            plain_http_loopback: whether a registry on a loopback address is spoken to without TLS.
        """
        tls = ssl.create_default_context(cadata=ca_pem)
        tls.minimum_version = ssl.TLSVersion.TLSv1_2
        timeout = Timeout(connect=CONNECT_SECONDS, read=READ_SECONDS)
        self._pool: urllib3.PoolManager
        if proxy_url is None:
            self._pool = urllib3.PoolManager(ssl_context=tls, timeout=timeout, retries=False)
        else:
            self._pool = urllib3.ProxyManager(proxy_url, ssl_context=tls, timeout=timeout, retries=False)
        self._credentials = credentials
        self._plain_http_loopback = plain_http_loopback
        self._tokens: dict[tuple[str, str], tuple[str, float]] = {}
        self._basic: set[str] = set()
        self._lock = threading.Lock()

    def close(self) -> None:
        """Close every connection. The transport may be used again; it then connects anew."""
        self._pool.clear()

    def base_url(self, host: str) -> str:
        """`https://host`, or `http://host` for a loopback host where that was asked for."""
        return f"http://{host}" if self._plain_http_loopback and _is_loopback(host) else f"https://{host}"

    def ask(
        self,
        method: str,
        url: str,
        *,
        scope: str,
        headers: Mapping[str, str] | None = None,
        body: bytes | Iterable[bytes] | None = None,
        accept: frozenset[int] = frozenset({200}),
    ) -> BaseHTTPResponse:
        """One exchange, authenticated as asked, redirects followed; the answer's body is still unread.

        Args:
            method: GET, HEAD, POST, PATCH, PUT or DELETE.
            url: absolute.
            scope: what a token must allow, `repository:<path>:pull`.
            headers: more of them.
            body: what to send. A body that is not `bytes` cannot be sent twice, so ask something else before it,
                that the registry's challenge is already met.
            accept: the statuses that are answers; every other raises.

        Raises:
            Temporary: IMAGE_REGISTRY_AWAY.
            Permanent: IMAGE_NOT_FOUND, when the registry says that there is nothing, or nothing for us.
        """
        origin = urlsplit(url).netloc
        for _ in range(_MOST_REDIRECTS + 1):
            at_origin = urlsplit(url).netloc == origin
            answer = self._once(method, url, headers, body, self._authorization(origin, scope) if at_origin else None)
            if answer.status == 401 and at_origin and isinstance(body, bytes | None):
                challenge = answer.headers.get("WWW-Authenticate", "")
                _discard(answer)
                self._meet(challenge, origin, scope)
                answer = self._once(method, url, headers, body, self._authorization(origin, scope))
            if answer.status in accept:
                return answer
            if answer.status in {301, 302, 303, 307, 308} and method in {"GET", "HEAD"}:
                url = urljoin(url, answer.headers.get("Location", ""))
                _discard(answer)
                continue
            raise self._refusal(answer, method, url)
        raise Temporary(
            Code.IMAGE_REGISTRY_AWAY,
            "the registry redirects without end",
            expected=f"at most {_MOST_REDIRECTS}",
            got=url,
        )

    def _once(
        self,
        method: str,
        url: str,
        headers: Mapping[str, str] | None,
        body: bytes | Iterable[bytes] | None,
        authorization: str | None,
    ) -> BaseHTTPResponse:
        parts = urlsplit(url)
        if parts.scheme != "https" and self.base_url(parts.netloc) != f"http://{parts.netloc}":
            raise Permanent(
                Code.IMAGE_REGISTRY_AWAY,
                "a registry is spoken to over https only",
                expected="an https URL",
                got=f"{parts.scheme}://{parts.netloc}",
                advice="give the registry a certificate; plain http is for loopback, where it is asked for",
            )
        sent = {"User-Agent": "enclave-cc", "Accept-Encoding": "identity", **(headers or {})}
        if authorization:
            sent["Authorization"] = authorization
        try:
            return self._pool.request(
                method, url, headers=sent, body=body, redirect=False, preload_content=False, decode_content=False
            )
        except SSLError as error:
            raise Temporary(
                Code.IMAGE_REGISTRY_AWAY,
                f"{parts.netloc} cannot be proved to be the registry",
                expected="a certificate under the owner's registry CA",
                got=_reason(error),
                advice="check registry_ca in the init-data and the name in the registry's certificate",
            ) from None
        except HTTPError as error:
            raise away(parts.netloc, error) from None

    def _authorization(self, host: str, scope: str) -> str | None:
        with self._lock:
            token, expires = self._tokens.get((host, scope), ("", 0.0))
            basic = host in self._basic
        if token and time.monotonic() < expires:
            return f"Bearer {token}"
        return self._basic_header() if basic else None

    def _basic_header(self) -> str | None:
        if self._credentials is None:
            return None
        pair = f"{self._credentials.username}:{self._credentials.password}".encode()
        return f"Basic {base64.b64encode(pair).decode()}"

    def _owns(self, host: str) -> bool:
        """Whether our account belongs to `host`; docker's hub connects under another name."""
        ours = self._credentials.host if self._credentials else ""
        return host == ("registry-1.docker.io" if ours == "docker.io" else ours)

    def _meet(self, challenge: str, host: str, scope: str) -> None:
        """Do what a 401 asks for: prepare basic authentication, or fetch a token (RFC 6750 and distribution's own)."""
        scheme, _, rest = challenge.partition(" ")
        if scheme.lower() == "basic" and self._owns(host):
            with self._lock:
                self._basic.add(host)
        elif scheme.lower() == "bearer":
            parameters = dict(_PARAMETER.findall(rest))
            token, seconds = self._fetch_token(parameters, scope, self._basic_header() if self._owns(host) else None)
            with self._lock:
                self._tokens[host, scope] = token, time.monotonic() + seconds - _TOKEN_MARGIN_SECONDS

    def _fetch_token(self, parameters: dict[str, str], scope: str, authorization: str | None) -> tuple[str, float]:
        query = {"service": parameters["service"]} if "service" in parameters else {}
        url = f"{parameters.get('realm', '')}?{urlencode({**query, 'scope': scope})}"
        answer = self._once("GET", url, None, None, authorization)
        if answer.status != 200:
            raise self._refusal(answer, "GET", url)
        body = read_bounded(answer, _LONGEST_TOKEN_ANSWER, "token answer")
        document = parse_object(body, what="token answer", code=Code.IMAGE_MALFORMED, limit=_LONGEST_TOKEN_ANSWER)
        token = (document.get("token") or document.need("access_token")).text()
        lifetime = document.get("expires_in")
        return token, float(lifetime.whole(most=10**9)) if lifetime else 60.0

    @staticmethod
    def _refusal(answer: BaseHTTPResponse, method: str, url: str) -> Permanent | Temporary:
        parts = urlsplit(url)
        try:
            said = _printable(answer.read(2048, decode_content=False)) if method != "HEAD" else ""
        except HTTPError:
            said = "and broke off"
        finally:
            _discard(answer)
        got = f"status {answer.status} {said}".rstrip()
        if answer.status in {408, 425, 429} or answer.status >= 500:
            return Temporary(
                Code.IMAGE_REGISTRY_AWAY, f"{parts.netloc} cannot answer now", expected="an answer", got=got
            )
        if answer.status in {401, 403}:
            message, advice = f"{parts.netloc} refuses {parts.path}", "give credentials that may use this repository"
        else:
            message, advice = (
                f"{parts.netloc} has no {parts.path}",
                "check the name; push the image before it is launched",
            )
        return Permanent(Code.IMAGE_NOT_FOUND, message, expected="status 200", got=got, advice=advice)


def read_bounded(answer: BaseHTTPResponse, limit: int, what: str) -> bytes:
    """A whole body of at most `limit` bytes, then the connection goes back to the pool.

    Raises:
        Temporary: IMAGE_REGISTRY_AWAY, when the connection breaks.
        Permanent: IMAGE_MALFORMED, when it is longer.
    """
    try:
        body = answer.read(limit + 1, decode_content=False)
    except HTTPError as error:
        raise away("the registry", error) from None
    finally:
        _discard(answer)
    if len(body) > limit:
        raise Permanent(Code.IMAGE_MALFORMED, f"the {what} is too long", expected=f"at most {limit} bytes", got="more")
    return body


def away(host: str, error: HTTPError) -> Temporary:
    """The fault for a server that could not be reached or went away."""
    return Temporary(
        Code.IMAGE_REGISTRY_AWAY,
        f"{host} is away",
        expected="an answer",
        got=_reason(error),
        advice="check that the registry runs, that its name resolves and that the proxy lets it through",
    )


def _discard(answer: BaseHTTPResponse) -> None:
    """Give up what is unread: a short rest is read, so that the connection can serve again; else it is closed."""
    rest = getattr(answer, "length_remaining", None)
    if rest is not None and rest <= _SHORT_REST:
        answer.drain_conn()
        answer.release_conn()
    else:
        answer.close()


def _is_loopback(host: str) -> bool:
    name = urlsplit(f"//{host}").hostname or ""
    if name == "localhost":
        return True
    try:
        return ipaddress.ip_address(name).is_loopback
    except ValueError:
        return False


def _reason(error: HTTPError) -> str:
    """The innermost words of an HTTP error: the outer ones repeat the URL, or blame a proxy that only says no."""
    cause: BaseException = error
    while isinstance(inner := getattr(cause, "reason", None), BaseException) or (
        isinstance(inner := getattr(cause, "original_error", None), BaseException)
    ):
        cause = inner
    return _printable(f"{type(cause).__name__}: {cause}".encode())


def _printable(raw: bytes) -> str:
    """What a server said, as one short line of plain characters."""
    return "".join(chr(b) if 32 <= b < 127 else " " for b in raw[:300]).strip()
