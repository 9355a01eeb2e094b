"""kopf itself, with our registry and settings, before an API server: it watches, wakes and is stopped."""

from __future__ import annotations

import asyncio

import kmock
import kopf
from lightkube import AsyncClient

from deploy.operator import names
from deploy.operator.cluster import Cluster
from deploy.operator.controller import Controller
from deploy.operator.handlers import registry_of, settings_of
from deploy.operator.leader import Leader
from tests.unit.deploy.operator.conftest import SPACE, ApiServer, eventually


async def test_an_event_wakes_the_controller_and_stopping_ends_it(
    kmock: kmock.KubernetesEmulator, server: ApiServer, client: AsyncClient
) -> None:
    server.node("n0")
    server.runtime()
    controller = Controller(Cluster(client, SPACE), Leader(client, SPACE, "one"))
    registry = registry_of(controller)
    registry._activities._handlers[:] = [h for h in registry._activities._handlers if "log_in" not in h.id]

    @kopf.on.login(registry=registry)
    def log_in(**_: object) -> kopf.ConnectionInfo:
        return kopf.ConnectionInfo(server=str(kmock.url).rstrip("/"))

    stop = asyncio.Event()
    operator = asyncio.create_task(
        kopf.operator(registry=registry, settings=settings_of(), namespaces=[SPACE], stop_flag=stop)
    )
    try:
        await eventually(lambda: "finalizers" in server.resource()["metadata"])
        await eventually(server.jobs)
        server.end_jobs()
        controller.wake()
        await eventually(lambda: server.read("v1/nodes", "n0")["metadata"]["labels"].get(names.RUNTIME_LABEL) == "true")
        assert "kopf" not in str(server.resource()["metadata"])
    finally:
        stop.set()
        await asyncio.wait_for(operator, 60)
