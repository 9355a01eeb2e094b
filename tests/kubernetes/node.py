"""A node for a control plane: scheduler and kubelet, over a local stack's containerd with its handler `enclave-cc`.

The kubelet's folder is the stack's, so whatever mount or process of it should be left is found by the stack's own
`residue`. What a kubelet keeps elsewhere is taken back by `leftovers`.
"""

from __future__ import annotations

import json
import signal
from pathlib import Path
from typing import Final

from deploy.local.containerd import PAUSE
from deploy.local.programs import listening
from deploy.local.stack import Stack
from tests.kubernetes.control_plane import ControlPlane
from tests.kubernetes.leftovers import Leftovers
from tests.kubernetes.processes import free_ports

NAME: Final = "localhost"
"""The API server finds the kubelet by its node's name, at 127.0.0.1: no other address of this machine is used."""


class Node:
    """One node, which serves the handler `enclave-cc`."""

    def __init__(self, plane: ControlPlane, stack: Stack, namespace: str) -> None:
        """Write the configurations; nothing is started. Only pods of `namespace` are to run here."""
        self._plane = plane
        self._stack = stack
        self._leftovers = Leftovers(namespace)
        kubelet, health, scheduler = free_ports(3)
        self._serves = listening(kubelet)
        folder = plane.folder / "kubelet"
        folder.mkdir()
        configuration = folder / "config.json"
        configuration.write_text(json.dumps(self._configuration(kubelet, health), indent=1))
        self.kubelet = plane.process("kubelet", *self._kubelet(folder, configuration))
        config = plane.kubeconfig("system:kube-scheduler")
        self.scheduler = plane.process(
            "kube-scheduler",
            *(f"--{kind}kubeconfig={config}" for kind in ("", "authentication-", "authorization-")),
            "--leader-elect=false",
            "--bind-address=127.0.0.1",
            f"--secure-port={scheduler}",
            "--port=0",
            f"--cert-dir={plane.folder / 'tls'}",
        )

    def start(self) -> None:
        """Start both, and wait until the node is ready."""
        self.scheduler.start()
        self.start_kubelet()

    def start_kubelet(self) -> None:
        """Start the kubelet, and wait until it serves and the API server holds the node for ready."""
        self.kubelet.start()
        self.kubelet.wait(self._serves)
        self.kubelet.wait(self.ready)

    def ready(self) -> bool:
        """Whether the API server holds the node for ready."""
        answer = self._plane.answer(f"/api/v1/nodes/{NAME}")
        conditions = json.loads(answer)["status"].get("conditions", []) if answer else []
        return any(each["type"] == "Ready" and each["status"] == "True" for each in conditions)

    def stop(self) -> None:
        """Stop both, and take back what a kubelet leaves outside its folder."""
        self.kubelet.stop(signal.SIGKILL)
        self.scheduler.stop()
        self._leftovers.take_back()

    def _configuration(self, port: int, health: int) -> dict[str, object]:
        serving = self._plane.authority.issue("kubelet", "kubelet", names=(NAME, "127.0.0.1"))
        return {
            "apiVersion": "kubelet.config.k8s.io/v1beta1",
            "kind": "KubeletConfiguration",
            "address": "127.0.0.1",
            "port": port,
            "readOnlyPort": 0,
            "healthzBindAddress": "127.0.0.1",
            "healthzPort": health,
            "tlsCertFile": str(serving.certificate),
            "tlsPrivateKeyFile": str(serving.key),
            "authentication": {
                "anonymous": {"enabled": False},
                "webhook": {"enabled": True},
                "x509": {"clientCAFile": str(self._plane.ca)},
            },
            "authorization": {"mode": "Webhook"},
            # This machine may itself be a container's guest, whose cgroups are not a kubelet's to arrange.
            "cgroupDriver": "cgroupfs",
            "cgroupsPerQOS": False,
            "enforceNodeAllocatable": [],
            "failSwapOn": False,
            # What other kubelets, and this machine, have in common is left alone.
            "makeIPTablesUtilChains": False,
            "featureGates": {"DevicePlugins": False},
            "volumePluginDir": str(self._plane.folder / "plugins"),
            "resolvConf": "/etc/resolv.conf",
            "serializeImagePulls": False,
            "syncFrequency": "5s",  # how soon a changed config map reaches its pods; a minute else
            "evictionHard": {"memory.available": "10Mi", "nodefs.available": "1%", "imagefs.available": "1%"},
            "imageGCHighThresholdPercent": 99,
            "imageGCLowThresholdPercent": 98,
        }

    def _kubelet(self, folder: Path, configuration: Path) -> list[str]:
        return [
            f"--config={configuration}",
            f"--root-dir={folder}",
            f"--cert-dir={folder / 'pki'}",
            f"--kubeconfig={self._plane.kubeconfig(f'system:node:{NAME}', 'system:nodes')}",
            f"--hostname-override={NAME}",
            "--container-runtime=remote",
            f"--container-runtime-endpoint=unix://{self._stack.layout.containerd}",
            f"--pod-infra-container-image={self._stack.layout.registry_host}/{PAUSE}",
        ]
