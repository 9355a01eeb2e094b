"""containerd asked over the CRI, as a kubelet asks it: whether it serves, what handlers, whose pods.

Zone: host. May import: `grpc`, `schemas.containerd`, `orchestrator.faults`, the standard library.
"""

from __future__ import annotations

import json
from pathlib import Path
from typing import Final, Protocol, TypeVar

import grpc
from google.protobuf.message import Message

from orchestrator.faults import Code, Temporary
from schemas.containerd import cri_pb2

_WITHIN: Final = 10.0
_RUNTIME_READY: Final = "RuntimeReady"
_Reply = TypeVar("_Reply", bound=Message)


class Cri(Protocol):
    """Every method raises Temporary(NODE_SERVICE) while containerd does not answer."""

    def version(self) -> str:
        """containerd's own."""
        ...

    def handlers(self) -> frozenset[str]:
        """The runtime handlers of a runtime that says it is ready."""
        ...

    def pods(self, handler: str) -> tuple[str, ...]:
        """The pods that run under it: `namespace/name`."""
        ...


class Served:
    """containerd behind a socket."""

    def __init__(self, socket: Path) -> None:
        """Connects for each question: between two of them containerd may be another."""
        self._socket = socket

    def version(self) -> str:
        """See `Cri`."""
        return self._ask(cri_pb2.VersionRequest(), cri_pb2.VersionResponse).runtime_version.removeprefix("v")

    def handlers(self) -> frozenset[str]:
        """See `Cri`. The network's readiness is the cluster's affair: it may come after us."""
        reply = self._ask(cri_pb2.StatusRequest(verbose=True), cri_pb2.StatusResponse)
        ready = [condition for condition in reply.status.conditions if condition.type == _RUNTIME_READY]
        if not ready or not all(condition.status for condition in ready):
            raise _away("its runtime is not ready: " + ", ".join(condition.message for condition in ready))
        try:
            return frozenset(json.loads(reply.info["config"])["containerd"]["runtimes"])
        except (KeyError, ValueError, TypeError) as error:
            raise _away(f"its status names no handlers: {error}") from error

    def pods(self, handler: str) -> tuple[str, ...]:
        """See `Cri`."""
        reply = self._ask(cri_pb2.ListPodSandboxRequest(), cri_pb2.ListPodSandboxResponse)
        return tuple(
            f"{pod.metadata.namespace}/{pod.metadata.name}"
            for pod in reply.items
            if pod.runtime_handler == handler and pod.state == cri_pb2.SANDBOX_READY
        )

    def _ask(self, request: Message, reply: type[_Reply]) -> _Reply:
        # A node's proxy variables are for the network: a Unix socket is never behind one.
        with grpc.insecure_channel(f"unix://{self._socket}", options=[("grpc.enable_http_proxy", 0)]) as channel:
            call = channel.unary_unary(
                f"/runtime.v1.RuntimeService/{request.DESCRIPTOR.name.removesuffix('Request')}",
                request_serializer=type(request).SerializeToString,
                response_deserializer=reply.FromString,
            )
            try:
                answer: _Reply = call(request, timeout=_WITHIN)
            except grpc.RpcError as error:
                raise _away(error.details() or error.code().name) from error
            return answer


def _away(got: str) -> Temporary:
    return Temporary(
        Code.NODE_SERVICE,
        "containerd does not serve",
        expected="an answer of its CRI",
        got=got[:500],
        advice="read containerd's log on the node",
    )
