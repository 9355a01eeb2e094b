"""The documents that the operator makes for a node: its Job, and the pod that verifies it. Pure.

A Job is unprivileged and has no token: root inside, because it writes root's files, with the few capabilities that
takes; its own root file system is read-only; of the node it sees the folders of `_WRITES`, `_READS` and nothing else.
containerd is restarted through systemd's own socket: no host PID namespace, no nsenter.
"""

from __future__ import annotations

import hashlib
from typing import Any, Final

from deploy.operator import names
from deploy.operator.actions import StartJob, StartVerification
from deploy.operator.desired import Desired, Distribution
from deploy.operator.names import digest_of

ROOT: Final = "/node"
PROGRAM: Final = "/host/bin/enclave-cc"
JOB_SECONDS: Final = 900
"""After that a Job has failed, whatever it waits for: an image that cannot be pulled, a node that went away."""
_KEPT_SECONDS: Final = 3600
_GRACE_SECONDS: Final = 60
_DIRECTORY: Final = "Directory"
_OWN: Final = "DirectoryOrCreate"
_SOCKET: Final = "Socket"

_WRITES: Final = (
    ("opt/enclave-cc", _OWN),
    ("etc/enclave-cc", _OWN),
    ("var/lib/enclave-cc", _OWN),
    ("run/enclave-cc", _OWN),
    ("run/enclave-cc-node", _OWN),
    ("usr/local/bin", _DIRECTORY),
    ("etc/systemd/system", _DIRECTORY),
    ("run/systemd/private", _SOCKET),
)
_CONTAINERD: Final = {
    Distribution.CONTAINERD: (("etc/containerd", _OWN), ("run/containerd", _DIRECTORY)),
    Distribution.K3S: (("var/lib/rancher/k3s", _DIRECTORY), ("run/k3s", _DIRECTORY)),
    Distribution.RKE2: (("var/lib/rancher/rke2", _DIRECTORY), ("run/k3s", _DIRECTORY)),
    Distribution.K0S: (("etc/k0s", _OWN), ("var/lib/k0s/bin", _DIRECTORY), ("run/k0s", _DIRECTORY)),
    Distribution.MICROK8S: (("var/snap/microk8s/current", _DIRECTORY), ("snap/microk8s/current", _DIRECTORY)),
}
_READS: Final = (("etc/machine-id", "File"), ("usr", _DIRECTORY), ("lib", _DIRECTORY), ("lib64", _DIRECTORY))
"""containerd's own program is asked what it makes of a configuration, with the node's libraries."""
_CAPABILITIES: Final = ("CHOWN", "DAC_OVERRIDE", "FOWNER", "SYS_CHROOT")


def work_name(kind: str, runtime: str, node: str, node_uid: str, serial: int) -> str:
    """The name of a Job or a pod: the same whoever makes it, and another one for a node that came again."""
    digest = hashlib.sha256("\0".join((runtime, node, node_uid, str(serial))).encode()).hexdigest()
    return f"enclave-cc-{kind}-{digest[:16]}"


def node_label(node: str) -> str:
    """The value of `names.NODE_LABEL`."""
    return hashlib.sha256(node.encode()).hexdigest()[:32]


def job(action: StartJob, desired: Desired, namespace: str) -> dict[str, Any]:
    """The Job (batch/v1). Its pod's name of a node and serial are in labels and an annotation."""
    metadata = _metadata(
        work_name("node", desired.name, action.node, action.node_uid, action.serial),
        action.node,
        action.serial,
        desired,
        namespace,
    )
    volumes, mounts = _paths(desired)
    command = [PROGRAM, "node", str(action.operation), "--root", ROOT, "--report", "/dev/termination-log", "--json"]
    if action.operation != "uninstall":
        command += ["--digest", digest_of(action.payload)]
    if action.machine_id:
        command += ["--machine-id", action.machine_id]
    return {
        "apiVersion": "batch/v1",
        "kind": "Job",
        "metadata": metadata,
        "spec": {
            # A new attempt is the operator's decision, under a new serial number.
            "backoffLimit": 0,
            "activeDeadlineSeconds": JOB_SECONDS,
            "ttlSecondsAfterFinished": _KEPT_SECONDS,
            "template": {
                "metadata": {"labels": metadata["labels"], "annotations": metadata["annotations"]},
                "spec": {
                    "restartPolicy": "Never",
                    "nodeName": action.node,
                    "serviceAccountName": names.NODE_ACCOUNT,
                    "automountServiceAccountToken": False,
                    "enableServiceLinks": False,
                    "terminationGracePeriodSeconds": _GRACE_SECONDS,
                    # Bound by name to one node: what the node's taints say about other pods is not meant.
                    "tolerations": [{"operator": "Exists"}],
                    "imagePullSecrets": [{"name": name} for name in desired.pull_secrets],
                    "securityContext": {"seccompProfile": {"type": "RuntimeDefault"}},
                    "containers": [
                        {
                            "name": "node",
                            "image": action.payload,
                            "imagePullPolicy": "IfNotPresent",
                            "command": command,
                            "terminationMessagePath": "/dev/termination-log",
                            "terminationMessagePolicy": "File",
                            "resources": {
                                "requests": {"cpu": "50m", "memory": "64Mi"},
                                "limits": {"memory": "512Mi"},
                            },
                            "securityContext": {
                                "privileged": False,
                                "allowPrivilegeEscalation": False,
                                "readOnlyRootFilesystem": True,
                                "runAsUser": 0,
                                "capabilities": {"drop": ["ALL"], "add": list(_CAPABILITIES)},
                            },
                            "volumeMounts": [*mounts, {"name": "tmp", "mountPath": "/tmp"}],  # noqa: S108 - in the pod
                        }
                    ],
                    "volumes": [*volumes, {"name": "tmp", "emptyDir": {"medium": "Memory", "sizeLimit": "64Mi"}}],
                },
            },
        },
    }


def verification_pod(action: StartVerification, desired: Desired, namespace: str) -> dict[str, Any]:
    """A pod that must succeed through the runtime. Raises ValueError for a spec without one."""
    verification = desired.verification
    if verification is None:
        raise ValueError("nothing is said about verification")
    name = work_name("verify", desired.name, action.node, action.node_uid, action.serial)
    container: dict[str, Any] = {
        "name": "verify",
        "image": verification.image,
        "securityContext": {"allowPrivilegeEscalation": False, "capabilities": {"drop": ["ALL"]}},
    }
    if verification.command:
        container["command"] = list(verification.command)
    return {
        "apiVersion": "v1",
        "kind": "Pod",
        "metadata": _metadata(name, action.node, action.serial, desired, namespace),
        "spec": {
            "restartPolicy": "Never",
            "nodeName": action.node,
            "runtimeClassName": names.verification_class(desired.runtime_class),
            "serviceAccountName": names.NODE_ACCOUNT,
            "automountServiceAccountToken": False,
            "enableServiceLinks": False,
            "activeDeadlineSeconds": verification.seconds,
            "tolerations": [{"operator": "Exists"}],
            "imagePullSecrets": [{"name": secret} for secret in desired.pull_secrets],
            "securityContext": {"seccompProfile": {"type": "RuntimeDefault"}},
            "containers": [container],
        },
    }


def _metadata(name: str, node: str, serial: int, desired: Desired, namespace: str) -> dict[str, Any]:
    return {
        "name": name,
        "namespace": namespace,
        "labels": {
            names.CLAIM_LABEL: desired.name,
            names.NODE_LABEL: node_label(node),
            names.SERIAL_LABEL: str(serial),
        },
        "annotations": {names.NODE_LABEL: node},
    }


def _paths(desired: Desired) -> tuple[list[dict[str, Any]], list[dict[str, Any]]]:
    writes = (*_WRITES, *_CONTAINERD[desired.distribution])
    volumes: list[dict[str, Any]] = []
    mounts: list[dict[str, Any]] = []
    for path, kind in (*writes, *_READS):
        name = path.replace("/", "-").replace(".", "-")
        volumes.append({"name": name, "hostPath": {"path": f"/{path}", "type": kind}})
        mount: dict[str, Any] = {"name": name, "mountPath": f"{ROOT}/{path}"}
        mounts.append(mount if (path, kind) in writes else {**mount, "readOnly": True})
    return volumes, mounts
