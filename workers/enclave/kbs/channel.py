"""TLS to the owner's broker, and to nobody else: one authority, no redirects, no retries, bounds on time and size.

The way there may lead through the host's CONNECT proxy, which sees ciphertext. Blocking: call it in a thread.
"""

from __future__ import annotations

import ssl
import time
from dataclasses import dataclass
from http.cookies import CookieError, SimpleCookie
from typing import TYPE_CHECKING, Final

import urllib3
from urllib3.exceptions import HTTPError, LocationValueError
from urllib3.util import Url, parse_url

from orchestrator.faults import Code, Permanent
from schemas.kbs import MAX_RESOURCE_BYTES, SESSION_COOKIE

if TYPE_CHECKING:
    from collections.abc import Mapping

CONNECT_SECONDS: Final = 10.0
READ_SECONDS: Final = 30.0
_WHOLE_REPLY_SECONDS: Final = 60.0
# A resource of the greatest size in base64, and the rest of its JWE.
_MAX_REPLY_BYTES: Final = MAX_RESOURCE_BYTES * 4 // 3 + 16 * 1024
_CHUNK: Final = 64 * 1024


class Unreachable(Exception):
    """No whole, bounded reply came from a peer that the owner's authority vouches for. `str()` says why."""


@dataclass(frozen=True, slots=True)
class Reply:
    """Status, body, and the session that the broker set, if it did."""

    status: int
    body: bytes
    session: str | None


class Channel:
    """Requests to one `https://` origin, verified against `ca_pem` alone.

    `Permanent(INPUT)` when the URL or the certificate cannot be used: an unverified connection cannot be asked for.
    """

    def __init__(self, url: str, ca_pem: str, proxy_url: str | None = None) -> None:
        origin = _origin(url)
        self._base = origin.url.rstrip("/")
        timeout = urllib3.Timeout(connect=CONNECT_SECONDS, read=READ_SECONDS)
        context = _tls(ca_pem)
        self._pool: urllib3.PoolManager = (
            urllib3.ProxyManager(proxy_url, timeout=timeout, retries=False, ssl_context=context)
            if proxy_url
            else urllib3.PoolManager(timeout=timeout, retries=False, ssl_context=context)
        )

    def send(self, method: str, path: str, headers: Mapping[str, str], body: bytes | None = None) -> Reply:
        """One request, one reply of any status; `Unreachable` otherwise."""
        started = time.monotonic()
        try:
            response = self._pool.request(
                method,
                self._base + path,
                body=body,
                headers={"User-Agent": "enclave-cc", "Accept": "application/json", **headers},
                redirect=False,
                preload_content=False,
                decode_content=False,
            )
            try:
                content = _read(response, until=started + _WHOLE_REPLY_SECONDS)
            except BaseException:
                response.close()
                raise
            response.release_conn()
        except (HTTPError, OSError, ValueError) as error:
            raise Unreachable(_reason(error)) from error
        return Reply(response.status, content, _session(response.headers.getlist("Set-Cookie")))

    def close(self) -> None:
        """Close the connections kept open."""
        self._pool.clear()


def _read(response: urllib3.BaseHTTPResponse, until: float) -> bytes:
    content = bytearray()
    # read1 gives what is there: a peer that drips bytes meets the deadline, not only the time-out between two bytes.
    while chunk := response.read1(_CHUNK):
        content += chunk
        if len(content) > _MAX_REPLY_BYTES:
            raise Unreachable(f"the reply is longer than {_MAX_REPLY_BYTES} bytes")
        if time.monotonic() > until:
            raise Unreachable(f"the reply took longer than {_WHOLE_REPLY_SECONDS:.0f} seconds")
    return bytes(content)


def _origin(url: str) -> Url:
    try:
        parsed = parse_url(url)
    except LocationValueError:
        parsed = Url()
    if parsed.scheme != "https" or not parsed.host or parsed.auth or parsed.query or parsed.fragment:
        raise Permanent(
            Code.INPUT, "this is not the address of a key broker", expected="https://host[:port]", got=ascii(url[:256])
        )
    return parsed


def _tls(ca_pem: str) -> ssl.SSLContext:
    context = ssl.SSLContext(ssl.PROTOCOL_TLS_CLIENT)  # checks names and certificates; trusts nobody yet
    context.minimum_version = ssl.TLSVersion.TLSv1_2
    try:
        context.load_verify_locations(cadata=ca_pem)
    except (ssl.SSLError, ValueError) as error:
        raise Permanent(
            Code.INPUT, "the key broker's authority is no certificate", expected="PEM", got=f"{len(ca_pem)} characters"
        ) from error
    return context


def _session(cookies: list[str]) -> str | None:
    for cookie in cookies:
        try:
            morsel = SimpleCookie(cookie).get(SESSION_COOKIE)
        except CookieError:
            continue
        if morsel is not None and morsel.value.isascii() and morsel.value.isalnum():
            return morsel.value
    return None


def _reason(error: BaseException) -> str:
    """The innermost cause: urllib3 wraps what a person needs to read."""
    while isinstance(inner := getattr(error, "reason", None), BaseException) or (
        isinstance(inner := getattr(error, "original_error", None), BaseException)
    ):
        error = inner
    return f"{type(error).__name__}: {error}"[:512]
