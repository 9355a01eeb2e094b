"""The Sandbox service of a real shim process, called over TTRPC as containerd calls it; the pause container is runc's.

The pod behind it is runc itself (simulators/runc_pod), in a network namespace of its own.
"""

from __future__ import annotations

import asyncio
import os
import secrets
import signal
import subprocess
import sys
import tempfile
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import TypeVar

import pytest
from google.protobuf.any_pb2 import Any
from google.protobuf.message import Message

from schemas.containerd import cri_pb2, task_pb2
from schemas.containerd import sandbox_pb2 as pb
from tests.simulators import runc_pod
from tests.simulators.ttrpc_client import CallFailed, Client
from tests.waiting import eventually
from workers.host.node_file import ENVIRONMENT as NODE_CONFIG
from workers.host.shim.start import ZYGOTE
from workers.host.shim.ttrpc.status import StatusCode

pytestmark = pytest.mark.e2e
PROGRAM = "from workers.host.shim.main import main; main()"
REPOSITORY = Path(__file__).resolve().parents[2]
SERVICE = "containerd.runtime.sandbox.v1.Sandbox"
READY, NOT_READY = "SANDBOX_READY", "SANDBOX_NOTREADY"
Reply = TypeVar("Reply", bound=Message)
QUESTIONS: tuple[tuple[str, type[Message], type[Message]], ...] = (
    ("StartSandbox", pb.StartSandboxRequest, pb.StartSandboxResponse),
    ("Platform", pb.PlatformRequest, pb.PlatformResponse),
    ("StopSandbox", pb.StopSandboxRequest, pb.StopSandboxResponse),
    ("WaitSandbox", pb.WaitSandboxRequest, pb.WaitSandboxResponse),
    ("SandboxStatus", pb.SandboxStatusRequest, pb.SandboxStatusResponse),
    ("PingSandbox", pb.PingRequest, pb.PingResponse),
    ("SandboxMetrics", pb.SandboxMetricsRequest, pb.SandboxMetricsResponse),
)


@dataclass
class Shim:
    """A shim process that serves `pod`, its sandbox's bundle, a network namespace for it, and where runc works."""

    pod: str
    bundle: Path
    netns: Path
    address: str
    run: Path

    def call(self, name: str, request: Message, reply: type[Reply]) -> Reply:
        """One call on a connection of its own, for this pod."""

        async def asked() -> Reply:
            async with Client(self.address) as client:
                return await client.call(name if "/" in name else f"{SERVICE}/{name}", request, reply, seconds=30)

        if "sandbox_id" in request.DESCRIPTOR.fields_by_name and not request.sandbox_id:  # type: ignore[attr-defined]
            request.sandbox_id = self.pod  # type: ignore[attr-defined]
        return asyncio.run(asked())

    def create(self) -> None:
        config = cri_pb2.PodSandboxConfig(
            metadata=cri_pb2.PodSandboxMetadata(name="web", namespace="shop", uid="u-1"), hostname="web"
        )
        config.linux.sysctls["net.ipv4.ip_unprivileged_port_start"] = "7"
        request = pb.CreateSandboxRequest(
            bundle_path=str(self.bundle),
            options=Any(type_url="runtime.v1.PodSandboxConfig", value=config.SerializeToString()),
            netns_path=str(self.netns),
        )
        self.call("CreateSandbox", request, pb.CreateSandboxResponse)

    def start(self) -> int:
        return self.call("StartSandbox", pb.StartSandboxRequest(), pb.StartSandboxResponse).pid

    def status(self) -> pb.SandboxStatusResponse:
        return self.call("SandboxStatus", pb.SandboxStatusRequest(), pb.SandboxStatusResponse)

    def wait(self) -> pb.WaitSandboxResponse:
        return self.call("WaitSandbox", pb.WaitSandboxRequest(), pb.WaitSandboxResponse)

    def stop(self) -> None:
        self.call("StopSandbox", pb.StopSandboxRequest(), pb.StopSandboxResponse)

    def shut_down(self) -> None:
        """And wait until the shim has ended."""
        self.call("ShutdownSandbox", pb.ShutdownSandboxRequest(), pb.ShutdownSandboxResponse)
        eventually(lambda: not Path(self.address.removeprefix("unix://")).exists())

    def left(self) -> list[str]:
        """What containerd could not remove with the bundle, or would not."""
        mounts = [line for line in Path("/proc/self/mounts").read_text().splitlines() if str(self.bundle) in line]
        return [*mounts, *(str(path) for top in (self.bundle / "rootfs", self.run / "runc") for path in top.iterdir())]


@pytest.fixture
def shim() -> Iterator[Shim]:
    pod = f"p{secrets.token_hex(8)}"
    netns = Path("/run/netns") / pod
    subprocess.run(["ip", "netns", "add", pod], check=True)
    with tempfile.TemporaryDirectory(prefix="ecc-") as folder:
        root = Path(folder)
        bundle = root / pod
        (bundle / "rootfs").mkdir(parents=True)
        (root / "node.toml").write_text(f'run_dir = "{root}"')
        environment = {
            **os.environ,
            "PYTHONPATH": str(REPOSITORY),
            ZYGOTE: str(root / "none"),
            NODE_CONFIG: str(root / "node.toml"),
            runc_pod.RUN_DIR: str(root / "run"),
        }
        worker = subprocess.Popen(
            [sys.executable, "-m", "tests.simulators.runc_pod", root / "shims.sock"], env=environment
        )
        flags = ["-namespace", "k8s.io", "-address", str(root / "c.sock"), "-id", pod, "start"]
        try:
            done = subprocess.run(
                [sys.executable, "-c", PROGRAM, *flags],
                cwd=bundle,
                env=environment,
                stdin=subprocess.DEVNULL,
                capture_output=True,
                check=True,
                timeout=30,
            )
            made = Shim(pod, bundle, netns, done.stdout.decode(), root / "run")
            yield made
            if Path(made.address.removeprefix("unix://")).exists():
                made.shut_down()
        finally:
            worker.kill()
            worker.wait()
            subprocess.run(["ip", "netns", "delete", pod], check=True)


def refused(shim: Shim, name: str, request: Message, reply: type[Message]) -> int:
    with pytest.raises(CallFailed) as failed:
        shim.call(name, request, reply)
    return failed.value.status


def test_a_sandbox_lives_from_create_to_shutdown_in_the_network_that_containerd_made(shim: Shim) -> None:
    shim.create()
    pid = shim.start()
    assert Path(f"/proc/{pid}/ns/net").stat().st_ino == shim.netns.stat().st_ino
    for kind in ("pid", "ipc", "uts", "mnt"):
        assert Path(f"/proc/{pid}/ns/{kind}").readlink() != Path(f"/proc/self/ns/{kind}").readlink()
    assert Path(f"/proc/{pid}/root/pause").exists()
    status = shim.status()
    assert (status.sandbox_id, status.pid, status.state) == (shim.pod, pid, READY)
    assert status.created_at.seconds > 0
    assert not status.HasField("exited_at")
    platform = shim.call("Platform", pb.PlatformRequest(), pb.PlatformResponse).platform
    assert (platform.os, platform.architecture) == ("linux", {"x86_64": "amd64"}.get(os.uname().machine, "arm64"))
    shim.call("PingSandbox", pb.PingRequest(), pb.PingResponse)
    metrics = shim.call("SandboxMetrics", pb.SandboxMetricsRequest(), pb.SandboxMetricsResponse).metrics
    assert (metrics.id, metrics.data.type_url.startswith("io.containerd.cgroups.v")) == (shim.pod, True)
    shim.stop()
    assert shim.wait().exit_status == 128 + signal.SIGKILL
    ended = shim.status()
    assert (ended.pid, ended.state, ended.exited_at) == (0, NOT_READY, shim.wait().exited_at)
    shim.stop()
    assert shim.left() == []
    shim.shut_down()


def test_a_pause_container_that_dies_ends_the_wait_and_can_be_stopped(shim: Shim) -> None:
    shim.create()
    os.kill(shim.start(), signal.SIGKILL)
    assert shim.wait().exit_status == 128 + signal.SIGKILL
    assert shim.status().state == NOT_READY
    shim.stop()
    assert shim.left() == []


def test_shutdown_alone_leaves_nothing_of_a_running_pod(shim: Shim) -> None:
    shim.create()
    pid = shim.start()
    shim.shut_down()
    assert shim.left() == []
    assert not Path(f"/proc/{pid}").exists()


def test_a_pod_that_is_not_attested_does_not_start_and_shutdown_removes_it(shim: Shim) -> None:
    shim.create()
    (shim.run / runc_pod.FAIL_ATTEST).touch()
    with pytest.raises(CallFailed, match="E-ATTEST-002"):
        shim.start()
    assert shim.status().state == NOT_READY
    shim.shut_down()
    assert shim.left() == []


def test_without_a_sandbox_every_call_finds_none(shim: Shim) -> None:
    for name, request, reply in QUESTIONS:
        assert refused(shim, name, request(), reply) == StatusCode.NOT_FOUND, name


def test_of_anothers_sandbox_nothing_is_known(shim: Shim) -> None:
    shim.create()
    for name, request, reply in QUESTIONS:
        assert refused(shim, name, request(sandbox_id="other"), reply) == StatusCode.NOT_FOUND, name  # type: ignore[call-arg]


def test_a_sandbox_is_created_once_and_only_this_shims(shim: Shim) -> None:
    other = pb.CreateSandboxRequest(sandbox_id="other", bundle_path=str(shim.bundle))
    assert refused(shim, "CreateSandbox", other, pb.CreateSandboxResponse) == StatusCode.INVALID_ARGUMENT
    shim.create()
    again = pb.CreateSandboxRequest(bundle_path=str(shim.bundle))
    assert refused(shim, "CreateSandbox", again, pb.CreateSandboxResponse) == StatusCode.ALREADY_EXISTS


@pytest.mark.parametrize(
    "options",
    [Any(), Any(type_url="runtime.v1.ContainerConfig"), Any(type_url="runtime.v1.PodSandboxConfig", value=b"\xff")],
    ids=["none", "another's", "broken"],
)
def test_options_that_are_no_pods_are_refused_and_the_shim_can_be_ended(shim: Shim, options: Any) -> None:
    request = pb.CreateSandboxRequest(bundle_path=str(shim.bundle), options=options, netns_path=str(shim.netns))
    assert refused(shim, "CreateSandbox", request, pb.CreateSandboxResponse) == StatusCode.INVALID_ARGUMENT
    shim.shut_down()


def test_both_versions_of_task_know_the_sandbox(shim: Shim) -> None:
    shim.create()
    pid = shim.start()
    for version in ("v2", "v3"):
        state = shim.call(
            f"containerd.task.{version}.Task/State", task_pb2.StateRequest(id=shim.pod), task_pb2.StateResponse
        )
        assert state.pid == pid
