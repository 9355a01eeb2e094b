"""A control plane for tests: etcd, kube-apiserver with RBAC and admission, kube-controller-manager. No node.

Ready within ten seconds of two busy cores, on free ports of 127.0.0.1, with mutual TLS and service account tokens:

    def test_…(control_plane: ControlPlane) -> None:      # the fixture of tests/kubernetes/conftest.py
        control_plane.kubectl("apply", "-f", "crd.yaml")
        config = control_plane.kubeconfig("somebody", group="some-group")

Elsewhere: `with control_plane.running(tmp_path) as plane`. The programs are built by `just kubernetes`, once.
"""

from __future__ import annotations

import json
import ssl
import urllib.request
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from pathlib import Path
from typing import Final

from tests.kubernetes.authority import Authority
from tests.kubernetes.build import built
from tests.kubernetes.kubectl import Kubectl
from tests.kubernetes.processes import Process, free_ports

ISSUER: Final = "https://kubernetes.default.svc"
ADMINS: Final = "system:masters"
ADVERTISED: Final = "192.0.2.1"
"""The API server refuses to publish a loopback address as its own, and nobody asks for it: an address of no machine."""
FEATURES: Final = "BoundServiceAccountTokenVolume=true"
"""Pods get tokens that expire and end with them, as from Kubernetes 1.22 on."""


class NotBuilt(Exception):
    """There is no Kubernetes on this machine yet."""


class ControlPlane:
    """The processes and who may enter. Make it with `running`."""

    def __init__(self, folder: Path, programs: Path) -> None:
        """Write keys and configurations below `folder`; nothing is started."""
        folder.mkdir(mode=0o700, parents=True, exist_ok=True)
        self.folder = folder
        self.programs = programs
        self.authority = Authority(folder / "tls")
        etcd, peer, self.port, manager = free_ports(4)
        (folder / "logs").mkdir()
        self._tls = ssl.create_default_context(cafile=str(self.authority.pair.certificate))
        self._admin = self.kubeconfig("admin", ADMINS)
        admin = folder / "tls/admin.pem", folder / "tls/admin.key"
        self._tls.load_cert_chain(*admin)
        self.processes = [
            self._process("etcd", *self._etcd(etcd, peer)),
            self._process("kube-apiserver", *self._apiserver(etcd)),
            self._process("kube-controller-manager", *self._controller_manager(manager)),
        ]

    @property
    def url(self) -> str:
        """Where the API is served."""
        return f"https://127.0.0.1:{self.port}"

    @property
    def ca(self) -> Path:
        """The authority of everything here, PEM."""
        return self.authority.pair.certificate

    @property
    def kubectl(self) -> Kubectl:
        """kubectl as the administrator."""
        return Kubectl(str(self.programs / "kubectl"), self._admin)

    def kubeconfig(self, user: str, group: str = "") -> Path:
        """A kubeconfig of a user with a certificate, whose rights are RBAC's; `group` may be ADMINS."""
        file = user.replace(":", "-")
        pair = self.authority.issue(file, user, group)
        user_keys = {"client-certificate": str(pair.certificate), "client-key": str(pair.key)}
        return self._kubeconfig(file, user_keys)

    def kubeconfig_of(self, namespace: str, service_account: str) -> Path:
        """A kubeconfig of a service account, with a token as a pod gets it."""
        request = {"apiVersion": "authentication.k8s.io/v1", "kind": "TokenRequest", "spec": {}}
        path = f"/api/v1/namespaces/{namespace}/serviceaccounts/{service_account}/token"
        answer = json.loads(self.kubectl("create", "--raw", path, "-f", "-", stdin=json.dumps(request)))
        return self._kubeconfig(f"{namespace}-{service_account}", {"token": answer["status"]["token"]})

    def start(self) -> None:
        """Start everything and wait until the API answers and every namespace gets its service account."""
        etcd, server, manager = self.processes
        etcd.start()
        server.start()
        server.wait(self._ready)
        manager.start()
        manager.wait(lambda: self.answer("/api/v1/namespaces/default/serviceaccounts/default") is not None)

    def stop(self) -> None:
        """Stop everything, in reverse."""
        for process in reversed(self.processes):
            process.stop()

    def answer(self, path: str) -> bytes | None:
        """What the API answers the administrator at a path; None for no answer, or for a refusal."""
        with suppress(OSError), urllib.request.urlopen(f"{self.url}{path}", timeout=10, context=self._tls) as answer:
            content: bytes = answer.read()
            return content
        return None

    def process(self, name: str, *flags: str) -> Process:
        """Another program of the same build, with a log beside the others'; not started."""
        return self._process(name, *flags)

    def _ready(self) -> bool:
        return self.answer("/readyz") == b"ok"

    def _process(self, name: str, *flags: str) -> Process:
        return Process(name, [str(self.programs / name), *flags], self.folder / "logs")

    def _kubeconfig(self, file: str, user: dict[str, str]) -> Path:
        cluster = {"server": self.url, "certificate-authority": str(self.ca)}
        document = {
            "apiVersion": "v1",
            "kind": "Config",
            "clusters": [{"name": "test", "cluster": cluster}],
            "users": [{"name": "test", "user": user}],
            "contexts": [{"name": "test", "context": {"cluster": "test", "user": "test"}}],
            "current-context": "test",
        }
        path = self.folder / f"{file}.kubeconfig"
        path.write_text(json.dumps(document, indent=1))
        return path

    def _etcd(self, port: int, peer: int) -> list[str]:
        pair = self.authority.issue("etcd", "etcd", names=("127.0.0.1",))
        files = ("cert-file", pair.certificate), ("key-file", pair.key), ("trusted-ca-file", self.ca)
        return [
            f"--data-dir={self.folder / 'etcd'}",
            *(f"--{kind}{name}={path}" for kind in ("", "peer-") for name, path in files),
            "--client-cert-auth",
            "--peer-client-cert-auth",
            *(f"--{name}-client-urls=https://127.0.0.1:{port}" for name in ("listen", "advertise")),
            f"--listen-peer-urls=https://127.0.0.1:{peer}",
            f"--initial-advertise-peer-urls=https://127.0.0.1:{peer}",
            f"--initial-cluster=default=https://127.0.0.1:{peer}",
            "--unsafe-no-fsync",  # nothing here is to survive the machine
            "--heartbeat-interval=20",  # milliseconds: it elects itself, and would wait a second before
            "--election-timeout=100",
        ]

    def _apiserver(self, etcd: int) -> list[str]:
        serving = self.authority.issue("kube-apiserver", "kube-apiserver", names=("127.0.0.1", "localhost"))
        client = self.authority.issue("kube-apiserver-client", "kube-apiserver-kubelet-client", ADMINS)
        self._token_key = self.authority.token_key()
        return [
            f"--etcd-servers=https://127.0.0.1:{etcd}",
            f"--etcd-cafile={self.ca}",
            f"--etcd-certfile={client.certificate}",
            f"--etcd-keyfile={client.key}",
            "--bind-address=127.0.0.1",
            f"--secure-port={self.port}",
            f"--advertise-address={ADVERTISED}",
            f"--cert-dir={self.folder / 'tls'}",
            f"--tls-cert-file={serving.certificate}",
            f"--tls-private-key-file={serving.key}",
            f"--client-ca-file={self.ca}",
            "--authorization-mode=Node,RBAC",
            "--enable-admission-plugins=NodeRestriction,RuntimeClass",
            "--allow-privileged=true",
            f"--feature-gates={FEATURES}",
            "--service-cluster-ip-range=10.0.0.0/24",
            f"--service-account-issuer={ISSUER}",
            f"--service-account-key-file={self._token_key}",
            f"--service-account-signing-key-file={self._token_key}",
            f"--kubelet-certificate-authority={self.ca}",
            f"--kubelet-client-certificate={client.certificate}",
            f"--kubelet-client-key={client.key}",
            "--kubelet-preferred-address-types=Hostname",
        ]

    def _controller_manager(self, port: int) -> list[str]:
        config = self.kubeconfig("system:kube-controller-manager")
        return [
            *(f"--{kind}kubeconfig={config}" for kind in ("", "authentication-", "authorization-")),
            f"--service-account-private-key-file={self._token_key}",
            f"--root-ca-file={self.ca}",
            f"--flex-volume-plugin-dir={self.folder / 'plugins'}",
            f"--cluster-signing-cert-file={self.ca}",
            f"--cluster-signing-key-file={self.authority.pair.key}",
            "--use-service-account-credentials=true",
            "--leader-elect=false",
            "--bind-address=127.0.0.1",
            f"--secure-port={port}",
            "--port=0",
            f"--cert-dir={self.folder / 'tls'}",
            f"--feature-gates={FEATURES}",
        ]


def programs() -> Path:
    """Where the programs are. Raises NotBuilt."""
    if (found := built()) is None:
        raise NotBuilt("this needs Kubernetes' own programs: `just kubernetes` builds them (seven minutes, once)")
    return found


@contextmanager
def running(folder: Path) -> Iterator[ControlPlane]:
    """A control plane below `folder`, stopped afterwards. Raises NotBuilt."""
    plane = ControlPlane(folder, programs())
    try:
        plane.start()
        yield plane
    finally:
        plane.stop()
