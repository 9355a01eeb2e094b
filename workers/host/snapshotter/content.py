"""Reading small blobs from containerd's content store, over its gRPC API.

Peer: containerd api/services/content/v1, `Read`. Only manifests and configurations are read, so the bound is theirs.
"""

from __future__ import annotations

import hashlib
from typing import Final, Protocol

import grpc

from orchestrator.faults import Code, Permanent, Temporary
from schemas.containerd import content_pb2

MAX_BLOB_BYTES: Final = 4 << 20
"""As registries bound manifests (OCI distribution 1.1, pushing manifests)."""
TIMEOUT: Final = 10.0
NAMESPACE_HEADER: Final = "containerd-namespace"
_READ: Final = "/containerd.services.content.v1.Content/Read"


class Content(Protocol):
    """Where blobs come from."""

    def read(self, namespace: str, digest: str) -> bytes:
        """The whole blob, verified. Raises Permanent (none such, too large, altered), Temporary (no answer)."""


class ContainerdContent:
    """The content store of the containerd that listens at a Unix socket."""

    def __init__(self, address: str) -> None:
        """`address`: path of containerd's gRPC socket. Connects when first used, again whenever needed."""
        self._channel = grpc.insecure_channel(f"unix://{address}")
        self._read = self._channel.unary_stream(
            _READ,
            request_serializer=content_pb2.ReadContentRequest.SerializeToString,
            response_deserializer=content_pb2.ReadContentResponse.FromString,
        )

    def close(self) -> None:
        """Drop the connection."""
        self._channel.close()

    def read(self, namespace: str, digest: str) -> bytes:
        """See `Content.read`."""
        request = content_pb2.ReadContentRequest(digest=digest)
        blob = bytearray()
        try:
            parts = self._read(request, timeout=TIMEOUT, metadata=((NAMESPACE_HEADER, namespace),))
            for part in parts:
                blob += part.data
                if len(blob) > MAX_BLOB_BYTES:
                    parts.cancel()
                    raise Permanent(
                        Code.IMAGE_MALFORMED,
                        f"blob {digest} is no manifest or configuration",
                        expected=f"at most {MAX_BLOB_BYTES} bytes",
                        got="more",
                    )
        except grpc.RpcError as error:
            raise _fault(digest, error) from error
        if (got := f"sha256:{hashlib.sha256(blob).hexdigest()}") != digest:
            raise Permanent(Code.IMAGE_ALTERED, "containerd's content store is damaged", expected=digest, got=got)
        return bytes(blob)


def _fault(digest: str, error: grpc.RpcError) -> Permanent | Temporary:
    status, details = error.code(), error.details() or ""
    if status is grpc.StatusCode.NOT_FOUND:
        return Permanent(Code.IMAGE_NOT_FOUND, f"blob {digest} is not in containerd's content store", got=details)
    return Temporary(
        Code.RUNTIME, f"containerd did not give blob {digest}", expected="its content", got=f"{status.name} {details}"
    )
