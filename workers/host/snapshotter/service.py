"""The snapshots service over gRPC: messages to calls, values to messages, refusals to statuses.

Peer: containerd api/services/snapshots/v1. Handlers are bound by the service's descriptor, so that a method which is
declared but not written fails when the daemon starts, not when containerd calls it.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from typing import Final, cast

import grpc
import structlog
from google.protobuf.descriptor import MethodDescriptor
from google.protobuf.empty_pb2 import Empty
from google.protobuf.message import Message
from google.protobuf.message_factory import GetMessageClass
from google.protobuf.timestamp_pb2 import Timestamp

from orchestrator.faults import Fault
from schemas.containerd import snapshots_pb2 as pb
from schemas.containerd import types_pb2
from workers.host.snapshotter.content import NAMESPACE_HEADER
from workers.host.snapshotter.snapshot import Invalid, Kind, Mount, Refusal, Snapshot
from workers.host.snapshotter.snapshotter import Snapshotter

_DESCRIPTOR: Final = pb.DESCRIPTOR.services_by_name["Snapshots"]
_KINDS: Final = {Kind.VIEW: pb.VIEW, Kind.ACTIVE: pb.ACTIVE, Kind.COMMITTED: pb.COMMITTED}
_BATCH: Final = 100
_log = structlog.get_logger()


class Service:
    """One method for each RPC, named as it is in lower case."""

    def __init__(self, snapshotter: Snapshotter) -> None:
        """Answers from `snapshotter`."""
        self._snapshotter = snapshotter

    def prepare(self, request: pb.PrepareSnapshotRequest, namespace: str) -> pb.PrepareSnapshotResponse:
        """A writable snapshot, or ALREADY_EXISTS for a layer that stays remote."""
        mounts = self._snapshotter.prepare(namespace, _key(request.key), request.parent, request.labels)
        return pb.PrepareSnapshotResponse(mounts=_mounts(mounts))

    def view(self, request: pb.ViewSnapshotRequest, _: str) -> pb.ViewSnapshotResponse:
        """A read-only snapshot."""
        mounts = self._snapshotter.view(_key(request.key), request.parent, request.labels)
        return pb.ViewSnapshotResponse(mounts=_mounts(mounts))

    def mounts(self, request: pb.MountsRequest, _: str) -> pb.MountsResponse:
        """The mounts of a view or an active snapshot."""
        return pb.MountsResponse(mounts=_mounts(self._snapshotter.mounts(request.key)))

    def commit(self, request: pb.CommitSnapshotRequest, _: str) -> Empty:
        """An active snapshot becomes a layer."""
        self._snapshotter.commit(request.key, _key(request.name), request.parent, request.labels)
        return Empty()

    def remove(self, request: pb.RemoveSnapshotRequest, _: str) -> Empty:
        """Forget and delete."""
        self._snapshotter.remove(request.key)
        return Empty()

    def stat(self, request: pb.StatSnapshotRequest, _: str) -> pb.StatSnapshotResponse:
        """One snapshot."""
        return pb.StatSnapshotResponse(info=_info(self._snapshotter.stat(request.key)))

    def update(self, request: pb.UpdateSnapshotRequest, _: str) -> pb.UpdateSnapshotResponse:
        """Labels."""
        changed = self._snapshotter.update(request.info.name, request.info.labels, request.update_mask.paths)
        return pb.UpdateSnapshotResponse(info=_info(changed))

    def list(self, _request: pb.ListSnapshotsRequest, _: str) -> Iterator[pb.ListSnapshotsResponse]:
        """All snapshots, in messages of a hundred."""
        found = self._snapshotter.list()
        for start in range(0, len(found), _BATCH):
            yield pb.ListSnapshotsResponse(info=map(_info, found[start : start + _BATCH]))

    def usage(self, request: pb.UsageRequest, _: str) -> pb.UsageResponse:
        """Bytes and inodes."""
        used = self._snapshotter.usage(request.key)
        return pb.UsageResponse(size=used.size, inodes=used.inodes)

    def cleanup(self, _request: pb.CleanupRequest, _: str) -> Empty:
        """Delete files of removed snapshots; containerd asks after its garbage collection."""
        self._snapshotter.cleanup()
        return Empty()


def handler(service: Service) -> grpc.GenericRpcHandler:
    """What a gRPC server needs to serve `service`."""
    methods = {method.name: _method(method, getattr(service, method.name.lower())) for method in _DESCRIPTOR.methods}
    return grpc.method_handlers_generic_handler(_DESCRIPTOR.full_name, methods)


def _method(method: MethodDescriptor, call: Callable[[Message, str], Message]) -> grpc.RpcMethodHandler:
    deserialize = GetMessageClass(method.input_type).FromString
    serialize = GetMessageClass(method.output_type).SerializeToString

    def answer(request: Message, context: grpc.ServicerContext) -> Message:
        with _answering(method.name, context):
            return call(request, _namespace(context))

    if not method.server_streaming:
        return grpc.unary_unary_rpc_method_handler(answer, deserialize, serialize)
    stream = cast("Callable[[Message, str], Iterator[Message]]", call)

    def answer_many(request: Message, context: grpc.ServicerContext) -> Iterator[Message]:
        with _answering(method.name, context):
            yield from stream(request, _namespace(context))

    return grpc.unary_stream_rpc_method_handler(answer_many, deserialize, serialize)


@contextmanager
def _answering(method: str, context: grpc.ServicerContext) -> Iterator[None]:
    """Turn a fault into a status. `context.abort` ends the call by an exception of its own."""
    try:
        yield
    except Refusal as refusal:
        context.abort(grpc.StatusCode[refusal.status], refusal.diagnosis.message)
    except Fault as fault:
        _log.warning("request failed", method=method, diagnosis=fault.diagnostics())
        context.abort(grpc.StatusCode.UNAVAILABLE if fault.temporary else grpc.StatusCode.UNKNOWN, _line(fault))


def _line(fault: Fault) -> str:
    diagnosis = fault.diagnosis
    return f"{diagnosis.code}: {diagnosis.message} (expected {diagnosis.expected or '-'}; got {diagnosis.got or '-'})"


def _namespace(context: grpc.ServicerContext) -> str:
    """The containerd namespace of the request, as its proxy forwards it; empty where the caller gave none."""
    return next((value for key, value in context.invocation_metadata() if key == NAMESPACE_HEADER), "")


def _key(key: str) -> str:
    if not key:
        raise Invalid("a snapshot needs a name")
    return key


def _mounts(mounts: Sequence[Mount]) -> list[types_pb2.Mount]:
    return [types_pb2.Mount(type=m.type, source=m.source, options=m.options) for m in mounts]


def _info(snapshot: Snapshot) -> pb.Info:
    return pb.Info(
        name=snapshot.name,
        parent=snapshot.parent,
        kind=_KINDS[snapshot.kind],
        created_at=_timestamp(snapshot.created_ns),
        updated_at=_timestamp(snapshot.updated_ns),
        labels=snapshot.labels,
    )


def _timestamp(nanoseconds: int) -> Timestamp:
    seconds, nanos = divmod(nanoseconds, 1_000_000_000)
    return Timestamp(seconds=seconds, nanos=nanos)
