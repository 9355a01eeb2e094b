"""An API server that keeps objects and fails on demand, and operators that speak to it over HTTP."""

from __future__ import annotations

import asyncio
import contextlib
import json
from collections.abc import AsyncIterator, Awaitable, Callable

import kmock
import pytest
from lightkube import AsyncClient, KubeConfig
from lightkube.config.models import Cluster, User

from deploy.operator import names
from deploy.operator.cluster import Cluster as SeenCluster
from deploy.operator.controller import Controller
from deploy.operator.leader import Leader

A, B = (f"registry.test/payload@sha256:{letter * 64}" for letter in "ab")
SPACE = names.NAMESPACE
NODE_INFO = (
    "architecture",
    "bootID",
    "containerRuntimeVersion",
    "kernelVersion",
    "kubeProxyVersion",
    "kubeletVersion",
    "machineID",
    "operatingSystem",
    "osImage",
    "systemUUID",
)


class ApiServer:
    """kmock's emulator, with what it leaves out: versions that conflict, and Jobs that end."""

    def __init__(self, emulator: kmock.KubernetesEmulator) -> None:
        self.emulator = emulator
        self.objects = emulator.objects

    def node(self, name: str, **labels: str) -> None:
        self.objects["v1/nodes", None, name] = {
            "apiVersion": "v1",
            "kind": "Node",
            "metadata": {"name": name, "uid": f"uid-{name}", "labels": labels},
            "status": {
                "conditions": [{"type": "Ready", "status": "True"}],
                "nodeInfo": dict.fromkeys(NODE_INFO, "x") | {"machineID": "ab" * 16},
            },
        }

    def runtime(self, name: str = "cc", payload: str = A, **spec: object) -> None:
        self.objects[f"{names.GROUP}/{names.VERSION}/{names.PLURAL}", None, name] = {
            "apiVersion": names.API_VERSION,
            "kind": names.KIND,
            "metadata": {"name": name, "generation": 1},
            "spec": {"payload": payload, **spec},
        }

    def read(self, kind: str, name: str, space: str | None = None) -> dict:
        found = self.objects[kind, space, name]
        return {} if found.deleted else dict(found.raw)

    def all(self, kind: str) -> list[dict]:
        group, _, plural = kind.rpartition("/")
        return [
            dict(found.raw)
            for (resource, _, _), found in self.objects.items()
            if not found.deleted
            and resource.plural == plural
            and (resource.group or "v1") == (group.split("/")[0] or "v1")
        ]

    def resource(self, name: str = "cc") -> dict:
        return self.read(f"{names.GROUP}/{names.VERSION}/{names.PLURAL}", name)

    def jobs(self) -> list[dict]:
        return self.all("batch/v1/jobs")

    def end_jobs(self, *, fails: bool = False) -> None:
        """Every Job that runs ends, its pod leaving the report that `enclave-cc node` writes."""
        for job in self.jobs():
            if job.get("status"):
                continue
            container = job["spec"]["template"]["spec"]["containers"][0]
            phase = {"install": "installed", "upgrade": "upgraded", "uninstall": "uninstalled"}[container["command"][2]]
            error = {"code": "E-RUNTIME-001", "message": "containerd does not start"} if fails else None
            report = {
                "phase": "failed" if fails else phase,
                "payloadDigest": container["image"].partition("@")[2],
                "measurements": {"sim": {"agent": "1" * 64, "boot": "2" * 64}},
                "error": error,
            }
            name = job["metadata"]["name"]
            kind = "Failed" if fails else "Complete"
            self.objects["batch/v1/jobs", SPACE, name].patch(
                {"status": {"conditions": [{"type": kind, "status": "True"}]}}
            )
            template = job["spec"]["template"]
            state = {"terminated": {"exitCode": int(fails), "message": json.dumps(report)}}
            status = {"name": "node", "image": "", "imageID": "", "ready": False, "restartCount": 0, "state": state}
            self.objects["v1/pods", SPACE, f"{name}-pod"] = {
                "metadata": {
                    "name": f"{name}-pod",
                    "namespace": SPACE,
                    "labels": {**template["metadata"]["labels"], "job-name": name},
                },
                "spec": template["spec"],
                "status": {"phase": "Failed" if fails else "Succeeded", "containerStatuses": [status]},
            }


@pytest.fixture
async def server(kmock: kmock.KubernetesEmulator) -> ApiServer:
    kmock.resources.load_bundled()
    kmock.resources[f"{names.GROUP}/{names.VERSION}/{names.PLURAL}"] = {
        "kind": names.KIND,
        "namespaced": False,
        "verbs": ["get", "list", "watch", "patch"],
        "subresources": ["status"],
    }
    return ApiServer(kmock)


@pytest.fixture
async def client(kmock: kmock.KubernetesEmulator) -> AsyncIterator[AsyncClient]:
    config = KubeConfig.from_one(cluster=Cluster(server=str(kmock.url).rstrip("/")), user=User())
    async with AsyncClient(config) as client:
        yield client


@pytest.fixture
def controller(client: AsyncClient) -> Controller:
    return Controller(SeenCluster(client, SPACE), Leader(client, SPACE, "one"))


@contextlib.asynccontextmanager
async def running(*loops: Awaitable[None]) -> AsyncIterator[None]:
    tasks = [asyncio.ensure_future(loop) for loop in loops]
    try:
        yield
    finally:
        for task in tasks:
            task.cancel()
        await asyncio.gather(*tasks, return_exceptions=True)


async def eventually(look: Callable[[], object], seconds: float = 60) -> None:
    """Until `look` is true, polled; the bound is reached only by a failure."""
    async with asyncio.timeout(seconds):
        while not look():
            await asyncio.sleep(0.02)
