"""An API server that errs, refuses, forgets; a node that goes; two operators."""

from __future__ import annotations

import asyncio

import kmock
from lightkube import AsyncClient

from deploy.operator import names
from deploy.operator.cluster import Cluster
from deploy.operator.controller import Controller
from deploy.operator.handlers import registry_of, settings_of
from deploy.operator.leader import LASTS, Leader
from tests.unit.deploy.operator.conftest import SPACE, ApiServer, eventually, running


async def settle(controller: Controller, server: ApiServer) -> None:
    for _ in range(40):
        await controller._leader.renew()
        acted = await controller.look()
        server.end_jobs()
        if not acted:
            return


def served(server: ApiServer, node: str = "n0") -> bool:
    return server.read("v1/nodes", node)["metadata"].get("labels", {}).get(names.RUNTIME_LABEL) == "true"


async def kubelet(server: ApiServer, controller: Controller) -> None:
    while True:
        server.end_jobs()
        controller.wake()
        await asyncio.sleep(0.05)


async def test_errors_of_the_api_server_are_outlived(
    kmock: kmock.KubernetesEmulator, server: ApiServer, controller: Controller
) -> None:
    server.node("n0")
    server.runtime()
    failing = kmock["get /api/v1/nodes"][:1] << 503
    async with running(controller.run(), kubelet(server, controller)):
        await eventually(lambda: served(server))
    assert len(failing) == 1


async def test_a_node_that_went_midway_leaves_no_job(server: ApiServer, controller: Controller) -> None:
    server.node("n0")
    server.runtime()
    for _ in range(4):
        await controller._leader.renew()
        await controller.look()
    assert len(server.jobs()) == 1
    server.objects["v1/nodes", None, "n0"].delete()
    await settle(controller, server)
    assert server.jobs() == []


async def test_of_two_operators_one_decides_and_the_other_takes_over(server: ApiServer, client: AsyncClient) -> None:
    now = [0.0]
    first, second = (Leader(client, SPACE, name, lambda: now[0]) for name in ("one", "two"))
    assert await first.renew()
    assert not await second.renew()
    now[0] += LASTS - 1
    assert not first.leads
    assert not await second.renew()
    now[0] += 2
    assert await second.renew()
    assert not await first.renew()
    await second.give_up()
    assert await first.renew()


async def test_an_operator_that_does_not_lead_does_nothing(server: ApiServer, client: AsyncClient) -> None:
    server.node("n0")
    server.runtime()
    idle = Controller(Cluster(client, SPACE), Leader(client, SPACE, "two"))
    await idle.look()
    assert "finalizers" not in server.resource()["metadata"]


async def test_without_any_watch_it_looks_by_itself(server: ApiServer, controller: Controller) -> None:
    server.node("n0")
    server.runtime()

    async def jobs_end() -> None:
        while True:
            server.end_jobs()
            await asyncio.sleep(0.05)

    async with running(controller.run(), jobs_end()):
        await eventually(lambda: "finalizers" in server.resource()["metadata"])


def test_no_handler_makes_kopf_write_to_an_object(controller: Controller) -> None:
    registry = registry_of(controller)
    assert not registry._changing._handlers
    assert not registry._spawning._handlers
    assert settings_of().posting.enabled is False
