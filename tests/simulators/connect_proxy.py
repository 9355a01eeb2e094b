"""A CONNECT proxy (RFC 9110 section 9.3.6) that keeps a copy of every byte it forwards: what the host would see."""

from __future__ import annotations

import socket
import socketserver
import threading
from typing import Self


class ConnectProxy:
    """Forwards to the hosts it was told of while the context is entered, and refuses every other."""

    def __init__(self, *allowed: str) -> None:
        self.seen = bytearray()
        self.asked: list[str] = []
        proxy = self

        class Handler(socketserver.StreamRequestHandler):
            def handle(self) -> None:
                proxy.serve(self)

        class Server(socketserver.ThreadingTCPServer):
            allow_reuse_address = True
            daemon_threads = True

        self._allowed = allowed
        self._server = Server(("127.0.0.1", 0), Handler)
        self._thread = threading.Thread(target=self._server.serve_forever, kwargs={"poll_interval": 0.01})
        self.url = f"http://127.0.0.1:{self._server.server_address[1]}"

    def __enter__(self) -> Self:
        self._thread.start()
        return self

    def __exit__(self, *_: object) -> None:
        self._server.shutdown()
        self._server.server_close()
        self._thread.join()

    def serve(self, handler: socketserver.StreamRequestHandler) -> None:
        method, target, _ = handler.rfile.readline().decode().split(" ")
        while handler.rfile.readline().strip():
            pass
        self.asked.append(f"{method} {target}")
        if method != "CONNECT" or target not in self._allowed:
            handler.wfile.write(b"HTTP/1.1 403 Forbidden\r\nContent-Length: 0\r\n\r\n")
            return
        host, _, port = target.rpartition(":")
        with socket.create_connection((host, int(port)), timeout=10) as beyond:
            handler.wfile.write(b"HTTP/1.1 200 OK\r\n\r\n")
            there = threading.Thread(target=self._pump, args=(handler.connection, beyond), daemon=True)
            there.start()
            self._pump(beyond, handler.connection)
            there.join(10)

    def _pump(self, source: socket.socket, sink: socket.socket) -> None:
        try:
            while chunk := source.recv(65536):
                self.seen += chunk
                sink.sendall(chunk)
            sink.shutdown(socket.SHUT_WR)
        except OSError:
            return
