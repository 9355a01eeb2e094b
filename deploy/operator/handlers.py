"""What kopf does: it watches, and every event wakes the controller; it logs in, answers probes, serves the webhooks.

Nothing is decided from an event: kopf's own guide says that its handlers follow edges, and an edge can be lost
(kopf issue 1276). No handler here makes kopf write anything, a finalizer or an annotation, to any object.
"""

from __future__ import annotations

import asyncio
import contextlib
from collections.abc import Mapping
from pathlib import Path
from typing import Any, Final

import kopf

from deploy.operator import names
from deploy.operator.controller import LOST, Controller

_NODE_FACTS: Final = ("Ready",)


class Wakers:
    """The watches. Nodes report themselves every few minutes: only what a decision looks at wakes."""

    def __init__(self, controller: Controller) -> None:
        self._controller = controller
        self._nodes: dict[str, object] = {}

    def wake(self, **_: object) -> None:
        """Of anything else: each event counts."""
        self._controller.wake()

    def node(self, type: str | None, body: Mapping[str, Any], **_: object) -> None:  # noqa: A002 - kopf's own name
        """Of a node: when it came, went, or is otherwise than it was."""
        name = body["metadata"]["name"]
        if type == "DELETED":
            self._nodes.pop(name, None)
            self._controller.wake()
            return
        facts = _facts(body)
        if self._nodes.get(name) != facts:
            self._nodes[name] = facts
            self._controller.wake()


def registry_of(controller: Controller) -> kopf.OperatorRegistry:
    """Every handler, in a registry of its own: nothing is registered by importing a module."""
    registry = kopf.OperatorRegistry()
    wakers = Wakers(controller)
    tasks: list[asyncio.Task[None]] = []
    kopf.on.event(names.GROUP, names.VERSION, names.PLURAL, registry=registry, id="runtime")(wakers.wake)
    kopf.on.event("", "v1", "nodes", registry=registry, id="node")(wakers.node)
    ours = {names.CLAIM_LABEL: kopf.PRESENT}
    kopf.on.event("batch", "v1", "jobs", registry=registry, id="job", labels=ours)(wakers.wake)
    kopf.on.event("", "v1", "pods", registry=registry, id="pod", labels=ours)(wakers.wake)

    @kopf.on.login(registry=registry)
    def log_in(**given: Any) -> kopf.ConnectionInfo | None:
        return kopf.login_with_service_account(**given) or kopf.login_with_kubeconfig(**given)

    @kopf.on.startup(registry=registry)
    async def begin(**_: object) -> None:
        tasks.append(asyncio.create_task(controller.run(), name="controller"))

    @kopf.on.cleanup(registry=registry)
    async def end(**_: object) -> None:
        for task in tasks:
            task.cancel()
            with contextlib.suppress(asyncio.CancelledError):
                await task

    @kopf.on.probe(registry=registry, id="silent")
    def silent(**_: object) -> float:
        if controller.silent > LOST or any(task.done() for task in tasks):
            raise kopf.PermanentError(f"the API server has not answered for {controller.silent:.0f} s")
        return controller.silent

    return registry


def settings_of(certificate: Path | None = None, key: Path | None = None, port: int = 9443) -> kopf.OperatorSettings:
    """kopf's settings: it posts nothing, elects nobody, looks for no new kinds, and serves webhooks where it may."""
    settings = kopf.OperatorSettings()
    settings.posting.enabled = False
    settings.peering.standalone = True
    settings.scanning.disabled = True
    settings.watching.server_timeout = 300
    if certificate and key:
        settings.admission.server = kopf.WebhookServer(
            addr="0.0.0.0",  # noqa: S104 - the API server reaches it through a Service
            port=port,
            certfile=certificate,
            pkeyfile=key,
        )
    return settings


def _facts(body: Mapping[str, Any]) -> object:
    metadata, status = body["metadata"], body.get("status") or {}
    return (
        metadata.get("uid"),
        tuple(sorted((metadata.get("labels") or {}).items())),
        (metadata.get("annotations") or {}).get(names.RECORD_ANNOTATION),
        tuple(c.get("status") for c in status.get("conditions") or () if c.get("type") in _NODE_FACTS),
        tuple(sorted(handler.get("name", "") for handler in status.get("runtimeHandlers") or ())),
    )
