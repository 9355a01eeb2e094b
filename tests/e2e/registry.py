"""A real registry (Debian's docker-registry) over TLS, on a port of its own, with an authority of its own."""

from __future__ import annotations

import socket
import ssl
import subprocess
import time
import urllib.request
from pathlib import Path
from typing import Self

from deploy.kbs.certificates import Authority
from tests.e2e.images import MANIFEST, Image


class Registry:
    """Serves while the context is entered; `address` is host:port, `ca` the file that clients trust."""

    def __init__(self, root: Path) -> None:
        """Everything it keeps is under `root`."""
        self.root = root
        self.ca = root / "ca.crt"
        self.log = root / "registry.log"
        self.address = f"127.0.0.1:{_free_port()}"
        self._process: subprocess.Popen[bytes] | None = None

    def __enter__(self) -> Self:
        self.root.mkdir(parents=True, exist_ok=True)
        authority = Authority()
        served = authority.tls_server(["127.0.0.1"])
        self.ca.write_bytes(authority.credential.certificate)
        (self.root / "server.crt").write_bytes(served.certificate)
        (self.root / "server.key").write_bytes(served.key)
        configuration = self.root / "registry.yml"
        configuration.write_text(_CONFIGURATION.format(root=self.root, address=self.address))
        with self.log.open("ab") as log:
            self._process = subprocess.Popen(["docker-registry", "serve", configuration], stdout=log, stderr=log)
        ends = time.monotonic() + 20
        while True:
            try:
                self._send("GET", "/v2/")
            except OSError:
                if time.monotonic() > ends or self._process.poll() is not None:
                    raise AssertionError(self.log.read_text()) from None
                time.sleep(0.05)
            else:
                return self

    def __exit__(self, *_: object) -> None:
        if self._process is not None:
            self._process.terminate()
            self._process.wait(10)

    def push(self, name: str, tag: str, image: Image) -> str:
        """Upload every blob and the manifest; returns the reference that a kubelet would use."""
        for digest, blob in image.blobs.items():
            location = self._send("POST", f"/v2/{name}/blobs/uploads/").headers["Location"]
            path = location.removeprefix(f"https://{self.address}")
            self._send("PUT", f"{path}&digest={digest}", blob)
        self._send("PUT", f"/v2/{name}/manifests/{tag}", image.manifest, MANIFEST)
        return f"{self.address}/{name}:{tag}"

    def requests(self) -> str:
        """The access log so far."""
        return self.log.read_text()

    def _send(
        self, method: str, path: str, body: bytes | None = None, media: str = "application/octet-stream"
    ) -> urllib.request.addinfourl:
        request = urllib.request.Request(f"https://{self.address}{path}", data=body, method=method)
        request.add_header("Content-Type", media)
        trust = urllib.request.HTTPSHandler(context=ssl.create_default_context(cafile=str(self.ca)))
        opener = urllib.request.build_opener(urllib.request.ProxyHandler({}), trust)
        with opener.open(request, timeout=10) as reply:
            reply.read()
            return reply


def _free_port() -> int:
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        return int(probe.getsockname()[1])


_CONFIGURATION = """version: 0.1
storage:
  filesystem:
    rootdirectory: {root}/registry
http:
  addr: {address}
  tls:
    certificate: {root}/server.crt
    key: {root}/server.key
"""
