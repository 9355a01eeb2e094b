"""One look at a cluster, and actions carried out in it. With `leader` the only import of lightkube.

Every write rests on something: a record and its labels on the node's version, a finalizer on the resource's, a Job and
a pod on a name that is theirs alone. So a write that lost a race is refused, and the next look decides anew.
"""

from __future__ import annotations

import asyncio
import time
from collections.abc import Sequence
from typing import Any, Final, TypeVar, assert_never, cast

from httpx2 import HTTPStatusError
from lightkube import AsyncClient
from lightkube.core.client import LabelSelector
from lightkube.core.resource import Resource
from lightkube.generic_resource import create_global_resource
from lightkube.resources.batch_v1 import Job
from lightkube.resources.core_v1 import Node, Pod
from lightkube.resources.node_v1 import RuntimeClass
from lightkube.types import CascadeType, PatchType

from deploy.operator import actions, manifests, names, reading
from deploy.operator.actions import Action
from deploy.operator.desired import Desired
from deploy.operator.observed import Guest, Observed
from deploy.operator.observed import RuntimeClass as SeenClass
from deploy.operator.record import Step, labels_of
from deploy.operator.runtime_class import runtime_class

EnclaveRuntime: Final = create_global_resource(names.GROUP, names.VERSION, names.KIND, names.PLURAL)
_CONFLICT: Final = 409
_GONE: Final = 404
_LOOKS_AT_ONCE: Final = 8
_LOOKED_AT: Final = frozenset({Step.REMOVING, Step.INSTALLING})


class Cluster:
    """A cluster as one client sees it; Jobs and verification pods live in `namespace`."""

    def __init__(self, client: AsyncClient, namespace: str) -> None:
        self._client = client
        self._namespace = namespace

    async def resources(self) -> list[dict[str, Any]]:
        """Every EnclaveRuntime, as documents. Raises httpx2.HTTPError."""
        return [_document(found) async for found in self._client.list(EnclaveRuntime)]

    async def observe(self, resource: dict[str, Any], desired: Desired) -> Observed:
        """What there is, for one resource. Raises httpx2.HTTPError."""
        claim: LabelSelector = {names.CLAIM_LABEL: desired.name}
        # Nodes before Jobs: the Job that a record asks for is then missed only where nobody has made it.
        nodes = [_document(found) async for found in self._client.list(Node)]
        listed = self._client.list(Job, namespace=self._namespace, labels=claim)
        jobs = [_document(found) async for found in listed]
        pods = [_document(p) async for p in self._client.list(Pod, namespace=self._namespace, labels=claim)]
        classes = frozenset({desired.runtime_class, names.verification_class(desired.runtime_class)})
        found_classes = [found for name in sorted(classes) if (found := await self._class(name))]
        seen = [reading.node(document) for document in nodes]
        asked = [
            n.name
            for n in seen
            if n.record and n.record.runtime == desired.name and n.labels.get(names.RUNTIME_LABEL) != "true"
            if desired.deleting or n.record.step in _LOOKED_AT or not desired.selector.selects(n.labels)
        ]
        guests = await self._guests(asked, classes)
        works = [reading.job(j, pods, desired.mode) for j in jobs]
        checks = [reading.verification(p) for p in pods if "job-name" not in (p["metadata"].get("labels") or {})]
        metadata = resource["metadata"]
        return Observed(
            now=int(time.time()),
            finalizer=names.FINALIZER in (metadata.get("finalizers") or ()),
            resource_version=metadata.get("resourceVersion", ""),
            nodes=tuple(reading.node(document, guests.get(document["metadata"]["name"])) for document in nodes),
            jobs=tuple(work for work in works if work),
            pods=tuple(check for check in checks if check),
            runtime_classes=tuple(found_classes),
            status=resource.get("status") or {},
        )

    async def perform(self, action: Action, resource: dict[str, Any], desired: Desired) -> bool:
        """Carry one out. False where it lost a race or its object is gone: look again. Raises httpx2.HTTPError."""
        try:
            await self._carry_out(action, resource, desired)
        except HTTPStatusError as error:
            if error.response.status_code not in {_CONFLICT, _GONE}:
                raise
            return False
        return True

    async def _class(self, name: str) -> SeenClass | None:
        """By name: the operator has no right to list what others made."""
        try:
            return reading.runtime_class(_document(await self._client.get(RuntimeClass, name)))
        except HTTPStatusError as error:
            if error.response.status_code != _GONE:
                raise
            return None

    async def _guests(self, nodes: Sequence[str], classes: frozenset[str]) -> dict[str, tuple[Guest, ...]]:
        free = asyncio.Semaphore(_LOOKS_AT_ONCE)

        async def look(name: str) -> tuple[Guest, ...]:
            async with free:
                pods = self._client.list(Pod, namespace="*", fields={"spec.nodeName": name})
                found = [
                    reading.guest(document, classes)
                    async for document in (_document(pod) async for pod in pods)
                    if (document.get("spec") or {}).get("nodeName") == name
                ]
            return tuple(guest for guest in found if guest)

        async with asyncio.TaskGroup() as group:
            tasks = {name: group.create_task(look(name)) for name in nodes}
        return {name: task.result() for name, task in tasks.items()}

    async def _carry_out(  # noqa: C901 - a table
        self, action: Action, resource: dict[str, Any], desired: Desired
    ) -> None:
        client, space = self._client, self._namespace
        match action:
            case actions.AddFinalizer():
                await self._finalizers(resource, [*_finalizers(resource), names.FINALIZER])
            case actions.RemoveFinalizer():
                await self._finalizers(resource, [f for f in _finalizers(resource) if f != names.FINALIZER])
            case actions.PatchNode():
                await client.patch(Node, action.node, _node_patch(action), patch_type=PatchType.MERGE)
            case actions.StartJob():
                await client.create(_model(Job, manifests.job(action, desired, space)))
            case actions.StartVerification():
                await client.create(_model(Pod, manifests.verification_pod(action, desired, space)))
            case actions.DeleteJob():
                await client.delete(Job, action.name, namespace=space, cascade=CascadeType.BACKGROUND)
            case actions.DeletePod():
                await client.delete(Pod, action.name, namespace=space)
            case actions.Evict():
                await self._evict(action)
            case actions.PutRuntimeClass():
                await self._put_class(_model(RuntimeClass, runtime_class(action.name, desired)), action.name)
            case actions.DeleteRuntimeClass():
                await client.delete(RuntimeClass, action.name)
            case actions.SetStatus():
                body = {"metadata": {"resourceVersion": resource["metadata"].get("resourceVersion")}}
                status = EnclaveRuntime.Status
                patch = {**body, "status": dict(action.status)}
                await client.patch(status, desired.name, patch, patch_type=PatchType.MERGE)
            case _:
                assert_never(action)

    async def _finalizers(self, resource: dict[str, Any], wanted: list[str]) -> None:
        metadata = resource["metadata"]
        patch = {"metadata": {"finalizers": wanted, "resourceVersion": metadata.get("resourceVersion")}}
        await self._client.patch(EnclaveRuntime, metadata["name"], patch, patch_type=PatchType.MERGE)

    async def _evict(self, action: actions.Evict) -> None:
        body = _model(Pod.Eviction, {"metadata": {"name": action.name, "namespace": action.namespace}})
        try:
            await self._client.create(body, action.name, namespace=action.namespace)
        except HTTPStatusError as error:
            # 429: its disruption budget has nothing left. It is asked again at the next look.
            if error.response.status_code != 429:
                raise

    async def _put_class(self, wanted: RuntimeClass, name: str) -> None:
        try:
            await self._client.create(wanted)
        except HTTPStatusError as error:
            if error.response.status_code != _CONFLICT:
                raise
            # It exists: what differs from the wanted one is replaced, its handler being the same by construction.
            await self._client.patch(RuntimeClass, name, wanted, patch_type=PatchType.MERGE)


Model = TypeVar("Model", bound=Resource)


def _model(kind: type[Model], document: dict[str, Any]) -> Model:
    return cast("Model", kind.from_dict(document))  # type: ignore[attr-defined]  # of every model


def _document(found: Resource | dict[str, Any]) -> dict[str, Any]:
    if isinstance(found, dict):
        return dict(found)
    document: dict[str, Any] = found.to_dict()  # type: ignore[attr-defined]  # of every model
    return document


def _finalizers(resource: dict[str, Any]) -> list[str]:
    return list(resource["metadata"].get("finalizers") or ())


def _node_patch(action: actions.PatchNode) -> dict[str, Any]:
    text = action.record.text() if action.record else None
    return {
        "metadata": {
            "resourceVersion": action.version,
            "labels": labels_of(action.record, serves=action.serves),
            "annotations": {names.RECORD_ANNOTATION: text},
        }
    }
