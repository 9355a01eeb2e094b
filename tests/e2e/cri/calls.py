"""Every RPC that a kubelet uses, called by the name of its request; what comes back is told in a few stable words."""

from __future__ import annotations

import re
from collections.abc import Callable
from pathlib import Path
from typing import Any

import grpc
from google.protobuf.message import Message
from google.protobuf.message_factory import GetMessageClass

from schemas.containerd import cri_pb2

SERVICES = {
    method.name: (service, GetMessageClass(method.input_type), GetMessageClass(method.output_type))
    for service in cri_pb2.DESCRIPTOR.services_by_name.values()
    for method in service.methods
}
SECONDS = 120.0


class Refused(Exception):
    """A call that was answered by a status; `str` is its name, with our fault's code where there is one."""


class Calls:
    """A connection to containerd. `called` collects the names of the RPCs that were answered, well or not."""

    def __init__(self, address: Path) -> None:
        self._channel = grpc.insecure_channel(f"unix://{address}", options=[("grpc.enable_http_proxy", 0)])
        self.called: set[str] = set()

    def close(self) -> None:
        self._channel.close()

    def __call__(self, name: str, **fields: Any) -> Any:
        """The reply to `name`Request(**fields). Raises Refused."""
        service, request, reply = SERVICES[name]
        self.called.add(name)
        call: Callable[..., Message] = self._channel.unary_unary(
            f"/{service.full_name}/{name}",
            request_serializer=request.SerializeToString,
            response_deserializer=reply.FromString,
        )
        try:
            return call(request(**fields), timeout=SECONDS)
        except grpc.RpcError as error:
            fault = re.search(r"E-[A-Z]+-\d+", error.details() or "")
            raise Refused(f"{error.code().name} {fault[0] if fault else ''}".strip()) from error
