"""The operator before an API server over HTTP, and what may go wrong with one."""

from __future__ import annotations

from deploy.operator import names
from deploy.operator.controller import Controller
from tests.unit.deploy.operator.conftest import A, ApiServer


async def settle(controller: Controller, server: ApiServer, *, fails: bool = False) -> None:
    for _ in range(40):
        await controller._leader.renew()
        acted = await controller.look()
        server.end_jobs(fails=fails)
        if not acted:
            return


async def test_a_node_is_installed_and_serves(server: ApiServer, controller: Controller) -> None:
    server.node("n0")
    server.runtime()
    await settle(controller, server)
    node = server.read("v1/nodes", "n0")
    assert node["metadata"]["labels"][names.RUNTIME_LABEL] == "true"
    assert node["metadata"]["labels"][names.PAYLOAD_LABEL] == "a" * 16
    status = server.resource()["status"]
    assert {c["type"]: c["status"] for c in status["conditions"]}["Ready"] == "True"
    assert status["nodes"][0]["measurement"] == "1" * 64
    assert status["nodes"][0]["payloadDigest"] == A.partition("@")[2]
    assert server.read("node.k8s.io/v1/runtimeclasses", "enclave-cc")["handler"] == "enclave-cc"
