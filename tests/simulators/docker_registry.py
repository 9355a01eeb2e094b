"""A real registry: Debian's docker-registry over TLS under an authority of its own, on a free loopback port."""

from __future__ import annotations

import json
import socket
import ssl
import subprocess
import time
import urllib.error
import urllib.request
from pathlib import Path
from typing import Self

from deploy.kbs.certificates import Authority


class DockerRegistry:
    """Serves while the context is entered. `account` is a user and bcrypt hash for basic authentication."""

    def __init__(self, root: Path, *, account: tuple[str, str] | None = None) -> None:
        self.root = root
        with socket.socket() as probe:
            probe.bind(("127.0.0.1", 0))
            self.address = f"127.0.0.1:{probe.getsockname()[1]}"
        authority = Authority()
        self.ca_pem = authority.credential.certificate.decode()
        self._tls = authority.tls_server(["127.0.0.1"])
        self._account = account
        self._process: subprocess.Popen[bytes] | None = None

    @property
    def certificates(self) -> Path:
        """A folder for skopeo's --src-cert-dir and --dest-cert-dir."""
        return self.root / "certs"

    def __enter__(self) -> Self:
        self.certificates.mkdir(parents=True)
        (self.certificates / "ca.crt").write_text(self.ca_pem)
        for name, body in (("server.pem", self._tls.certificate), ("server.key", self._tls.key)):
            (self.root / name).write_bytes(body)
        document = {
            "version": 0.1,
            "log": {"level": "error", "accesslog": {"disabled": True}},
            "storage": {"filesystem": {"rootdirectory": str(self.root / "data")}},
            "http": {
                "addr": self.address,
                "tls": {"certificate": str(self.root / "server.pem"), "key": str(self.root / "server.key")},
            },
        }
        if self._account:
            (self.root / "htpasswd").write_text(":".join(self._account) + "\n")
            document["auth"] = {"htpasswd": {"realm": "test", "path": str(self.root / "htpasswd")}}
        # JSON is YAML.
        (self.root / "config.yml").write_text(json.dumps(document))
        with (self.root / "log").open("wb") as log:
            self._process = subprocess.Popen(
                ["docker-registry", "serve", str(self.root / "config.yml")], stdout=log, stderr=log
            )
        self._wait()
        return self

    def __exit__(self, *_: object) -> None:
        if self._process is not None:
            self._process.terminate()
            self._process.wait(10)

    def _wait(self) -> None:
        ends = time.monotonic() + 20
        context = ssl.create_default_context(cadata=self.ca_pem)
        opener = urllib.request.build_opener(
            urllib.request.ProxyHandler({}), urllib.request.HTTPSHandler(context=context)
        )
        while True:
            try:
                opener.open(f"https://{self.address}/v2/", timeout=5).close()
            except urllib.error.HTTPError:
                return  # it asks for an account, so it serves
            except OSError:
                assert self._process is not None
                if time.monotonic() > ends or self._process.poll() is not None:
                    raise AssertionError((self.root / "log").read_text()) from None
                time.sleep(0.05)
            else:
                return
