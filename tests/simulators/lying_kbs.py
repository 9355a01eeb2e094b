"""A key broker that lies: a TLS front with the owner's own certificate that forwards to a real broker, and cheats.

It stands for a broker that was taken over, or is ill. The enclave must name each lie for what it is.
"""

from __future__ import annotations

import base64
import json
import ssl
import threading
from enum import Enum, auto
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from typing import TYPE_CHECKING, ClassVar, Self

import urllib3
from cryptography import x509
from cryptography.hazmat.primitives import serialization
from joserfc import jws
from joserfc.jwk import ECKey

from deploy.kbs.certificates import Authority, Credential

if TYPE_CHECKING:
    import socket
    from pathlib import Path

_FORWARDED = ("Cookie", "Authorization", "Content-Type")
_RETURNED = ("Set-Cookie", "Content-Type")
_DENIAL = {
    "type": "https://github.com/confidential-containers/kbs/errors/PolicyDeny",
    "detail": "Access denied by policy",
}


class Lie(Enum):
    """What the front does to the traffic."""

    NONE = auto()
    NONCE = auto()
    """Another challenge than the broker's."""
    BAD_NONCE = auto()
    """A challenge too short to be one."""
    VERSION = auto()
    """The request reaches the broker as an older version's, as an old client's would."""
    FORGED_TOKEN = auto()
    """The token's claims, signed by a key of a stranger's authority."""
    TLS_KEY_TOKEN = auto()
    """The token's claims, signed by the broker's TLS key with its certificate: the right authority, the wrong use."""
    OLD_TOKEN = auto()
    """The first token that passed here, whoever attests."""
    NO_COOKIE = auto()
    """The challenge without its session."""
    DENY = auto()
    """Every resource is denied."""
    ALTERED_RESOURCE = auto()
    """One bit of a resource's ciphertext is flipped."""
    GARBAGE = auto()
    """Status 200 and something that is not JSON."""
    OVERLOADED = auto()
    """Status 503 without a word."""
    HANG = auto()
    """No reply."""
    DROP = auto()
    """The connection is closed instead of a reply."""
    TRUNCATE = auto()
    """Half of the promised body."""


class LyingKbs:
    """`start()`, point the client at `url`, change `lie` at any time, `stop()`; or use it as a context manager."""

    def __init__(self, upstream_url: str, ca: str, tls_cert: Path, tls_key: Path, lie: Lie = Lie.NONCE) -> None:
        """`ca` is the owner's authority, PEM; `tls_cert` and `tls_key` the broker's own PEM files."""
        self.lie = lie
        self.requests: list[str] = []
        self._upstream = upstream_url.rstrip("/")
        self._ca = ca
        self._credential = Credential(tls_cert.read_bytes(), tls_key.read_bytes())
        self._first_token: str | None = None
        self._ending = threading.Event()
        context = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
        context.load_cert_chain(tls_cert, tls_key)
        self._server = _Server(self, context)
        self._thread = threading.Thread(target=self._server.serve_forever, kwargs={"poll_interval": 0.05}, daemon=True)

    def __enter__(self) -> Self:
        self.start()
        return self

    def __exit__(self, *_raised: object) -> None:
        self.stop()

    @property
    def url(self) -> str:
        """Where it listens."""
        return f"https://127.0.0.1:{self._server.server_address[1]}"

    def start(self) -> None:
        """Serve in a thread."""
        self._thread.start()

    def stop(self) -> None:
        """Stop; whoever was left hanging gets its connection closed."""
        self._ending.set()
        self._server.shutdown()
        self._server.server_close()
        self._thread.join()

    def wait_for_end(self) -> None:
        """What a hanging handler does."""
        self._ending.wait()

    def forward(self, method: str, path: str, headers: dict[str, str], body: bytes) -> urllib3.BaseHTTPResponse:
        """The real broker's reply."""
        context = ssl.create_default_context(cadata=self._ca)
        with urllib3.PoolManager(ssl_context=context, retries=False, timeout=20) as pool:
            return pool.request(method, self._upstream + path, headers=headers, body=body or None)

    def altered_request(self, path: str, body: bytes) -> bytes:
        """What the broker gets to see."""
        if self.lie is Lie.VERSION and path.endswith("/auth"):
            return json.dumps(json.loads(body) | {"version": "0.1.1"}).encode()
        return body

    def altered_reply(self, path: str, body: bytes) -> bytes:
        """What the client gets to see of a reply with status 200."""
        if self.lie is Lie.GARBAGE:
            return b"<html>welcome to the hotel</html>"
        if path.endswith("/auth"):
            return self._altered_challenge(body)
        if path.endswith("/attest"):
            return self._altered_token(body)
        if self.lie is Lie.ALTERED_RESOURCE:
            resource = json.loads(body)
            flipped = "B" if resource["ciphertext"][0] == "A" else "A"
            return json.dumps(resource | {"ciphertext": flipped + resource["ciphertext"][1:]}).encode()
        return body

    def _altered_challenge(self, body: bytes) -> bytes:
        nonce = {Lie.NONCE: bytes(32), Lie.BAD_NONCE: bytes(8)}.get(self.lie)
        if nonce is None:
            return body
        return json.dumps(json.loads(body) | {"nonce": base64.b64encode(nonce).decode()}).encode()

    def _altered_token(self, body: bytes) -> bytes:
        token = json.loads(body)["token"]
        self._first_token = self._first_token or token
        if self.lie is Lie.OLD_TOKEN:
            token = self._first_token
        elif self.lie is Lie.FORGED_TOKEN:
            token = resigned(token, Authority().token_signer())
        elif self.lie is Lie.TLS_KEY_TOKEN:
            token = resigned(token, self._credential)
        return json.dumps({"token": token}).encode()


def resigned(token: str, signer: Credential) -> str:
    """The claims of `token` under another key, with that key's certificate: perfect but for who signed it."""
    payload = base64.urlsafe_b64decode(token.split(".")[1] + "==")
    key = ECKey.import_key(signer.key)
    certificate = x509.load_pem_x509_certificate(signer.certificate)
    x5c = [base64.b64encode(certificate.public_bytes(serialization.Encoding.DER)).decode()]
    public = key.as_dict(private=False)
    jwk = {"kty": "EC", "crv": "P-256", "alg": "ES256", "x": public["x"], "y": public["y"], "x5c": x5c}
    registry = jws.JWSRegistry(algorithms=["ES256"])
    return jws.serialize_compact({"typ": "JWT", "alg": "ES256", "jwk": jwk}, payload, key, registry=registry)


class _Server(ThreadingHTTPServer):
    daemon_threads = True

    def __init__(self, front: LyingKbs, context: ssl.SSLContext) -> None:
        super().__init__(("127.0.0.1", 0), _Handler)
        self.front = front
        self.context = context

    def finish_request(self, request: socket.socket | tuple[bytes, socket.socket], client_address: object) -> None:
        """The TLS handshake happens here, in the connection's own thread."""
        assert not isinstance(request, tuple)
        with self.context.wrap_socket(request, server_side=True) as secured:
            super().finish_request(secured, client_address)

    def handle_error(self, request: object, client_address: object) -> None:
        """A client that hangs up on a liar is no error."""


class _Handler(BaseHTTPRequestHandler):
    server: _Server
    protocol_version = "HTTP/1.1"
    timeout: ClassVar[float] = 30

    def do_GET(self) -> None:
        self._lie()

    def do_POST(self) -> None:
        self._lie()

    def do_DELETE(self) -> None:
        self._lie()

    def log_message(self, *_args: object) -> None:
        """Tests read `requests`."""

    def _lie(self) -> None:
        front = self.server.front
        front.requests.append(f"{self.command} {self.path}")
        body = self.rfile.read(int(self.headers.get("Content-Length", 0)))
        if front.lie is Lie.HANG:
            front.wait_for_end()
        if front.lie in {Lie.HANG, Lie.DROP}:
            self.close_connection = True
            return
        if front.lie is Lie.OVERLOADED:
            self._reply(503, {}, b"")
        elif front.lie is Lie.DENY and "/resource/" in self.path:
            self._reply(401, {}, json.dumps(_DENIAL).encode())
        else:
            self._forward(body)

    def _forward(self, body: bytes) -> None:
        front = self.server.front
        headers = {name: value for name in _FORWARDED if (value := self.headers.get(name))}
        reply = front.forward(self.command, self.path, headers, front.altered_request(self.path, body))
        told = {name: value for name in _RETURNED if (value := reply.headers.get(name))}
        if front.lie is Lie.NO_COOKIE:
            told.pop("Set-Cookie", None)
        self._reply(
            reply.status, told, front.altered_reply(self.path, reply.data) if reply.status == 200 else reply.data
        )

    def _reply(self, status: int, headers: dict[str, str], body: bytes) -> None:
        self.send_response(status)
        for name, value in headers.items():
            self.send_header(name, value)
        self.send_header("Content-Length", str(len(body)))
        self.end_headers()
        if self.server.front.lie is Lie.TRUNCATE:
            body = body[: len(body) // 2]
            self.close_connection = True
        self.wfile.write(body)
