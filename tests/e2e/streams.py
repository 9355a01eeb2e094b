"""containerd's streaming server, as an API server connects to it: WebSocket, one leading byte for the stream.

Peer: k8s.io/kubelet pkg/cri/streaming; subprotocol v4.channel.k8s.io: 0 input, 1 output, 2 errors, 3 the status, 4 a
terminal's size.
"""

from __future__ import annotations

import json
from collections.abc import Iterator
from contextlib import contextmanager

from websocket import WebSocket, WebSocketConnectionClosedException, create_connection

PROTOCOL = "v4.channel.k8s.io"
INPUT, OUTPUT, ERRORS, STATUS, SIZE = range(5)


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
