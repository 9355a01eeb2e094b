"""The images that the pods under test run, the owner's rules for them, and the pods' own documents."""

from __future__ import annotations

from typing import Any, Final

from deploy.local import images
from tests.e2e.cluster import WEB, Cluster
from tests.kubernetes.installation import RUNTIME

PAGE: Final = "hello from an enclave\n"
ANY_SHELL: Final = ["/bin/sh", "-c", {"any": True}]
TOKENS: Final = "/var/run/secrets/tokens"
MOUNTS: Final = [
    {"destination": "/etc/app", "read_only": True},
    {"destination": TOKENS, "read_only": True},
    {"destination": "/cache", "volume": "cache"},
]
FILES: Final = {"pattern": "/etc/app/[a-z.]+|/cache/[a-z.]+|/var/run/secrets/tokens/[a-z]+"}
RULES: Final[dict[str, dict[str, Any]]] = {
    "web": {
        "mounts": MOUNTS,
        "exec": [
            {"name": "health", "args": ["/bin/true"], "probe": True},
            {"name": "greet", "args": ["/bin/echo", "hello", {"any": True}]},
            {"name": "read", "args": ["/bin/cat", FILES]},
        ],
    },
    "shell": {"args": ANY_SHELL, "mounts": MOUNTS, "exec": [{"name": "shell", "args": ANY_SHELL}]},
}
"""What the owner's launch policy has for each image, beside its repository. For a cluster of somebody else's, publish
two images of busybox under these rules: `web` with the command WEB and PAGE as /www/index.html, `shell` with any."""


def publish(cluster: Cluster) -> None:
    """Encrypt, sign and push both images, and admit what RULES say."""
    for name, rule in RULES.items():
        files = {"www/index.html": PAGE.encode()} if name == "web" else {}
        command = WEB if name == "web" else ("/bin/sh",)
        cluster.owner.publish(str(images.busybox({**files, "etc/empty": b""}, command=command)), f"{name}:1")
        cluster.amend(name, name=name, **rule)


def pod(name: str, container: dict[str, Any], **spec: Any) -> dict[str, Any]:
    """A confidential pod of one container."""
    return {"apiVersion": "v1", "kind": "Pod", "metadata": {"name": name}, "spec": pod_spec(container, **spec)}


def pod_spec(container: dict[str, Any], **spec: Any) -> dict[str, Any]:
    """What makes a pod confidential is one line of it."""
    return {
        "runtimeClassName": RUNTIME,
        "terminationGracePeriodSeconds": 5,
        "containers": [{"name": "main", **container}],
        **spec,
    }


def deployment(name: str, replicas: int, container: dict[str, Any]) -> dict[str, Any]:
    """A Deployment of confidential pods, labelled `app: <name>`."""
    labels = {"app": name}
    return {
        "apiVersion": "apps/v1",
        "kind": "Deployment",
        "metadata": {"name": name},
        "spec": {
            "replicas": replicas,
            "selector": {"matchLabels": labels},
            "template": {"metadata": {"labels": labels}, "spec": pod_spec(container)},
        },
    }


def job(name: str, container: dict[str, Any], **spec: Any) -> dict[str, Any]:
    """A Job whose pod is confidential."""
    template = {"spec": pod_spec(container, restartPolicy="Never")}
    return {"apiVersion": "batch/v1", "kind": "Job", "metadata": {"name": name}, "spec": {"template": template, **spec}}


def shell(image: str, script: str, **container: Any) -> dict[str, Any]:
    """A container that runs a script."""
    return {"image": image, "command": ["/bin/sh", "-c", script], **container}


def http_probe(path: str = "/") -> dict[str, Any]:
    """Asked every second, so that a test does not wait for it."""
    return {"httpGet": {"path": path, "port": 8080}, "periodSeconds": 1}


def exec_probe(*command: str) -> dict[str, Any]:
    """As `http_probe`, by a command inside the enclave."""
    return {"exec": {"command": list(command)}, "periodSeconds": 1, "timeoutSeconds": 5}
