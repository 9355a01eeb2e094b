"""A registry that can misbehave in one way at a time: what a real one does only when its disk or its network breaks.

It speaks plain HTTP on a loopback port, serves what was put into it, and counts what was asked. Every fault is set by
the path it concerns.
"""

from __future__ import annotations

import base64
import json
import re
import socketserver
import threading
from dataclasses import dataclass, field
from http.server import BaseHTTPRequestHandler
from typing import Self

from tests.simulators.oci import OciImage


@dataclass
class Faults:
    """What goes wrong. Blobs by digest."""

    altered: dict[str, bytes] = field(default_factory=dict)  # what to serve in a blob's or manifest's place
    announced: dict[str, int] = field(default_factory=dict)  # a Content-Length of its own, honestly kept
    cut_after: dict[str, list[int]] = field(default_factory=dict)  # bytes of each of the next answers, then a hang-up
    stall_after: dict[str, int] = field(default_factory=dict)  # bytes of an answer, then silence until the end
    held: dict[str, threading.Event] = field(default_factory=dict)  # until it is set, there is no answer
    ignores_range: bool = False
    wrong_range: bool = False
    status: dict[str, list[int]] = field(default_factory=dict)  # statuses of the next answers, by path
    redirect_blobs_to: str | None = None
    token: str | None = None  # asks for this bearer token
    realm: str | None = None
    account: tuple[str, str] | None = None  # what the token server asks for


class WaywardRegistry:
    """Serves while the context is entered."""

    def __init__(self) -> None:
        self.faults = Faults()
        self.asked: list[tuple[str, str, dict[str, str]]] = []
        self._content: dict[str, bytes] = {}
        self._ending = threading.Event()
        registry = self

        class Handler(BaseHTTPRequestHandler):
            protocol_version = "HTTP/1.1"

            def do_GET(self) -> None:
                registry.serve(self)

            def log_message(self, *_: object) -> None:
                """Nothing: the tests read `asked`."""

        class Server(socketserver.ThreadingTCPServer):
            allow_reuse_address = True
            daemon_threads = True

            def handle_error(self, *_: object) -> None:
                """Nothing: a client that hangs up early is what some tests are about."""

        self._server = Server(("127.0.0.1", 0), Handler)
        self.address = f"127.0.0.1:{self._server.server_address[1]}"
        self._thread = threading.Thread(target=self._server.serve_forever, kwargs={"poll_interval": 0.01})

    def __enter__(self) -> Self:
        self._thread.start()
        return self

    def __exit__(self, *_: object) -> None:
        self._ending.set()
        self._server.shutdown()
        self._server.server_close()
        self._thread.join()

    def put(self, path: str, image: OciImage, *tags: str, more: OciImage | None = None) -> str:
        """Store an image; `more` is stored beside it. Returns its reference by the first tag, or by digest."""
        for made in (image, *([more] if more else [])):
            for name, blob in made.blobs.items():
                self._content[f"/v2/{path}/blobs/{name}"] = blob
            self._content[f"/v2/{path}/manifests/{made.digest}"] = made.manifest
        for tag in tags:
            self._content[f"/v2/{path}/manifests/{tag}"] = image.manifest
        return f"{self.address}/{path}" + (f":{tags[0]}" if tags else f"@{image.digest}")

    def put_manifest(self, path: str, raw: bytes, tag: str) -> None:
        """Store a document that need be no manifest."""
        self._content[f"/v2/{path}/manifests/{tag}"] = raw

    def requests_for(self, path: str) -> list[dict[str, str]]:
        """The headers of each request whose path ends so."""
        return [headers for _, asked, headers in self.asked if asked.partition("?")[0].endswith(path)]

    def serve(self, handler: BaseHTTPRequestHandler) -> None:
        path = handler.path.partition("?")[0]
        self.asked.append((handler.command, handler.path, dict(handler.headers)))
        if path == "/token":
            return self._token(handler)
        if self.faults.token and handler.headers.get("Authorization") != f"Bearer {self.faults.token}":
            realm = self.faults.realm or f"http://{self.address}/token"
            return _answer(handler, 401, b"", {"WWW-Authenticate": f'Bearer realm="{realm}",service="wayward"'})
        if self.faults.status.get(path):
            body = json.dumps({"errors": [{"code": "TOOMANYREQUESTS", "message": "slow down"}]}).encode()
            return _answer(handler, self.faults.status[path].pop(0), body, {})
        if "/blobs/" in path and self.faults.redirect_blobs_to:
            return _answer(handler, 307, b"", {"Location": self.faults.redirect_blobs_to + path})
        name = path.rpartition("/")[2]
        content = self.faults.altered.get(name, self._content.get(path))
        if content is None:
            return _answer(handler, 404, b'{"errors":[{"code":"NAME_UNKNOWN"}]}', {})
        return self._content_of(handler, name, content)

    def _content_of(self, handler: BaseHTTPRequestHandler, name: str, content: bytes) -> None:
        if name in self.faults.held:
            self.faults.held[name].wait(30)
        content = content[: self.faults.announced.get(name, len(content))]
        status, headers, start = 200, {}, 0
        found = re.fullmatch(r"bytes=([0-9]+)-", handler.headers.get("Range", ""))
        if found and not self.faults.ignores_range:
            start = int(found[1])
            if start >= len(content):
                return _answer(handler, 416, b"", {})
            told = start + 1 if self.faults.wrong_range else start
            status, headers = 206, {"Content-Range": f"bytes {told}-{len(content) - 1}/{len(content)}"}
        if name in self.faults.stall_after:
            return self._stall(handler, content, self.faults.stall_after[name])
        cuts = self.faults.cut_after.get(name)
        return _answer(handler, status, content[start:], headers, cut=cuts.pop(0) if cuts else None)

    def _stall(self, handler: BaseHTTPRequestHandler, content: bytes, after: int) -> None:
        handler.send_response(200)
        handler.send_header("Content-Length", str(len(content)))
        handler.end_headers()
        handler.wfile.write(content[:after])
        handler.wfile.flush()
        self._ending.wait(30)
        handler.close_connection = True

    def _token(self, handler: BaseHTTPRequestHandler) -> None:
        wanted = self.faults.account
        pair = base64.b64encode(":".join(wanted).encode()).decode() if wanted else ""
        if wanted and handler.headers.get("Authorization") != f"Basic {pair}":
            return _answer(handler, 401, b"{}", {})
        return _answer(handler, 200, json.dumps({"token": self.faults.token}).encode(), {})


def _answer(
    handler: BaseHTTPRequestHandler, status: int, body: bytes, headers: dict[str, str], cut: int | None = None
) -> None:
    handler.send_response(status)
    for name, value in headers.items():
        handler.send_header(name, value)
    handler.send_header("Content-Length", str(len(body)))
    handler.end_headers()
    handler.wfile.write(body if cut is None else body[:cut])
    if cut is not None:
        handler.wfile.flush()
        handler.close_connection = True
