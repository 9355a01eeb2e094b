"""containerd's streaming server, as an API server connects to it: WebSocket, one leading byte for the stream.

Peer: k8s.io/kubelet pkg/cri/streaming; subprotocol v4.channel.k8s.io: 0 input, 1 output, 2 errors, 3 the status, 4 a
terminal's size.
"""

from __future__ import annotations

import hashlib
import json
import threading
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from typing import Final

from websocket import WebSocket, WebSocketConnectionClosedException, WebSocketException, create_connection

from tests.waiting import eventually

PROTOCOL = "v4.channel.k8s.io"
INPUT, OUTPUT, ERRORS, STATUS, SIZE = range(5)
HELD_FOR: Final = 300.0
PACE: Final = 0.01
"""Seconds a message of a stream that is held: so it flows through all that happens meanwhile."""


@contextmanager
def connected(url: str) -> Iterator[WebSocket]:
    """A connection to what the CRI answered."""
    connection = create_connection(
        url.replace("http:", "ws:", 1), subprotocols=[PROTOCOL], timeout=30, suppress_origin=True, http_no_proxy=["*"]
    )
    try:
        yield connection
    finally:
        connection.close()


def said(connection: WebSocket) -> Iterator[tuple[int, bytes]]:
    """What comes, by stream, until the end."""
    while True:
        try:
            message = connection.recv()
        except WebSocketConnectionClosedException:
            return
        raw = message.encode() if isinstance(message, str) else message
        if not raw:
            return
        if raw[1:]:
            yield raw[0], raw[1:]


def status_of(raw: bytes) -> str:
    """The status stream's word: "Success", or why not."""
    document = json.loads(raw)
    return str(document["status"] if document["status"] == "Success" else document["message"])


def exit_code(raw: bytes) -> int:
    """The status stream's exit code."""
    document = json.loads(raw)
    if document["status"] == "Success":
        return 0
    return int(next(cause["message"] for cause in document["details"]["causes"] if cause["reason"] == "ExitCode"))


class Counted:
    """A command's output, counted and hashed where a kubelet reads it: slowly, and not to its end, until `go_on`."""

    def __init__(self, url: str, length: int) -> None:
        """`url` is what the CRI answered; so many bytes are expected."""
        self.received = 0
        self.status: int | None = None
        self._url = url
        self._length = length
        self._digest = hashlib.sha256()
        self._may_end = threading.Event()
        self._thread = threading.Thread(target=self._read, daemon=True)
        self._thread.start()

    def flows(self) -> None:
        """Wait until a tenth has come."""
        eventually(lambda: self.received >= self._length // 10)

    def go_on(self) -> str:
        """Let it come to its end, and wait for that; the digest of all that came, in hex."""
        self._may_end.set()
        self._thread.join(HELD_FOR)
        return self._digest.hexdigest()

    def _read(self) -> None:
        # One that is cut is told by what it lacks.
        with suppress(OSError, WebSocketException), connected(self._url) as connection:
            for stream, raw in said(connection):
                if stream == OUTPUT:
                    self._digest.update(raw)
                    self.received += len(raw)
                    self._may_end.wait(HELD_FOR if self.received > self._length * 9 // 10 else PACE)
                elif stream == STATUS:
                    self.status = exit_code(raw)
