"""The daemon over gRPC: what the wire says, and what survives a kill at any moment."""

from __future__ import annotations

import itertools
import random
import subprocess
import sys
import threading
import time
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import grpc
import pytest
from google.protobuf.empty_pb2 import Empty
from google.protobuf.field_mask_pb2 import FieldMask

from schemas.containerd import snapshots_pb2 as pb
from workers.host.snapshotter.__main__ import serve
from workers.host.snapshotter.snapshotter import Snapshotter

SERVICE = "containerd.services.snapshots.v1.Snapshots"


@dataclass
class Caller:
    """A gRPC client of the snapshots service."""

    channel: grpc.Channel

    def __call__(self, method: str, request: Any, reply: Any = Empty) -> Any:
        call = self.channel.unary_unary(
            f"/{SERVICE}/{method}",
            request_serializer=type(request).SerializeToString,
            response_deserializer=reply.FromString,
        )
        return call(request, timeout=10, metadata=(("containerd-namespace", "k8s.io"),))

    def list(self) -> list[pb.Info]:
        call = self.channel.unary_stream(
            f"/{SERVICE}/List",
            request_serializer=pb.ListSnapshotsRequest.SerializeToString,
            response_deserializer=pb.ListSnapshotsResponse.FromString,
        )
        return [info for part in call(pb.ListSnapshotsRequest(), timeout=10) for info in part.info]

    def prepare(self, key: str, parent: str = "", **labels: str) -> list[Any]:
        request = pb.PrepareSnapshotRequest(key=key, parent=parent, labels=labels)
        return list(self("Prepare", request, pb.PrepareSnapshotResponse).mounts)


@pytest.fixture
def caller(snapshotter: Snapshotter, root: Path) -> Iterator[Caller]:
    server = serve(snapshotter, root / "run" / "s.sock")
    with grpc.insecure_channel(f"unix://{root}/run/s.sock") as channel:
        yield Caller(channel)
    server.stop(None).wait()


def status(call: Callable[[], object]) -> str:
    with pytest.raises(grpc.RpcError) as refused:
        call()
    return str(refused.value.code().name)


def test_every_call_of_the_service_is_answered(caller: Caller) -> None:
    (mount,) = caller.prepare("active")
    assert (mount.type, list(mount.options)) == ("bind", ["rbind", "rw"])
    assert caller("Usage", pb.UsageRequest(key="active"), pb.UsageResponse).inodes == 1
    caller("Commit", pb.CommitSnapshotRequest(key="active", name="layer", labels={"a": "b"}))
    info = caller("Stat", pb.StatSnapshotRequest(key="layer"), pb.StatSnapshotResponse).info
    assert (info.name, info.parent, info.kind, dict(info.labels)) == ("layer", "", pb.COMMITTED, {"a": "b"})
    assert abs(info.created_at.seconds - time.time()) < 60
    assert len(caller("View", pb.ViewSnapshotRequest(key="v", parent="layer"), pb.ViewSnapshotResponse).mounts) == 1
    assert len(caller("Mounts", pb.MountsRequest(key="v"), pb.MountsResponse).mounts) == 1
    request = pb.UpdateSnapshotRequest(
        info=pb.Info(name="layer", labels={"a": "c"}), update_mask=FieldMask(paths=["labels.a"])
    )
    assert caller("Update", request, pb.UpdateSnapshotResponse).info.labels["a"] == "c"
    assert [(i.name, i.kind, i.parent) for i in caller.list()] == [
        ("layer", pb.COMMITTED, ""),
        ("v", pb.VIEW, "layer"),
    ]
    caller("Cleanup", pb.CleanupRequest())
    caller("Remove", pb.RemoveSnapshotRequest(key="v"))
    caller("Remove", pb.RemoveSnapshotRequest(key="layer"))
    assert caller.list() == []


def test_refusals_are_the_statuses_that_containerd_acts_on(caller: Caller) -> None:
    caller.prepare("one")
    assert status(lambda: caller.prepare("one")) == "ALREADY_EXISTS"
    assert status(lambda: caller.prepare("")) == "INVALID_ARGUMENT"
    assert status(lambda: caller("Remove", pb.RemoveSnapshotRequest(key="none"))) == "NOT_FOUND"
    caller("Commit", pb.CommitSnapshotRequest(key="one", name="layer"))
    caller.prepare("two", "layer")
    assert status(lambda: caller("Remove", pb.RemoveSnapshotRequest(key="layer"))) == "FAILED_PRECONDITION"


def test_an_image_that_cannot_be_judged_is_an_error_with_a_diagnosis(caller: Caller, content: Any) -> None:
    labels = {
        "containerd.io/snapshot.ref": "chain",
        "containerd.io/snapshot/cri.manifest-digest": f"sha256:{'0' * 64}",
        "containerd.io/snapshot/cri.layer-digest": f"sha256:{'1' * 64}",
    }
    with pytest.raises(grpc.RpcError) as refused:
        caller.prepare("extract", **labels)
    assert refused.value.code() is grpc.StatusCode.UNKNOWN
    assert "E-IMAGE-002" in refused.value.details()


def test_a_long_list_comes_in_parts_and_whole(caller: Caller) -> None:
    for number in range(250):
        caller.prepare(f"key {number}")
    assert [info.name for info in caller.list()] == [f"key {number}" for number in range(250)]


def test_only_root_reaches_the_socket_and_the_layers(caller: Caller, root: Path) -> None:
    assert (root / "run/s.sock").stat().st_mode & 0o777 == 0o600
    assert (root / "snapshots").stat().st_mode & 0o777 == 0o700


def start(root: Path) -> subprocess.Popen[bytes]:
    (root / "k.sock").unlink(missing_ok=True)
    command = [sys.executable, "-m", "workers.host.snapshotter", "--root", root / "lib", "--address", root / "k.sock"]
    process = subprocess.Popen([*command, "--containerd-address", root / "none"], stdout=subprocess.DEVNULL)
    while not (root / "k.sock").exists():
        assert process.poll() is None
        time.sleep(0.02)
    return process


def unpack_until(caller: Caller, process: subprocess.Popen[bytes], seconds: float, first: int) -> list[str]:
    """Prepare and commit one snapshot after the other, kill the daemon after so long; the names that were answered."""
    answered: list[str] = []
    killing = threading.Timer(seconds, process.kill)
    killing.start()
    try:
        for number in itertools.count(first):
            caller.prepare(f"extract {number}")
            answered.append(f"extract {number}")
            caller("Commit", pb.CommitSnapshotRequest(key=f"extract {number}", name=f"layer {number}"))
            answered[-1] = f"layer {number}"
    except grpc.RpcError:
        killing.join()
    return answered


def test_a_kill_at_any_moment_loses_nothing_that_was_answered(root: Path) -> None:
    seconds = random.Random(7)
    answered: list[str] = []
    for turn in range(5):
        process = start(root)
        with grpc.insecure_channel(f"unix://{root}/k.sock") as channel:
            grpc.channel_ready_future(channel).result(10)
            caller = Caller(channel)
            names = [info.name for info in caller.list()]
            # The last request had no answer: what it asked for may have been done, or not.
            *settled, last = answered or [""]
            assert set(settled) <= set(names)
            assert len(set(names) - set(settled)) <= 2 if last else names == []
            assert len(list((root / "lib/snapshots").iterdir())) == len(names)
            answered = names + unpack_until(caller, process, seconds.uniform(0.1, 0.4), turn * 100_000)
        process.wait()
    assert len(answered) > 20
