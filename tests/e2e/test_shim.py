"""The shim under an unmodified containerd: what a kubelet asks, from a pod's start to nothing left behind.

The pod behind it is runc itself (simulators/runc_pod, in the place of the worker): here it is the shim that is tried,
not the launch.
"""

from __future__ import annotations

import os
import signal
import subprocess
import sys
import time
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

import pytest

from deploy.local.cri import ContainerSpec, ContainerState, Kubelet, Pod
from orchestrator.faults import Permanent
from tests.e2e.containerd import Containerd, Settings
from tests.e2e.images import busybox, image, plain, write_archive
from tests.simulators import runc_pod
from tests.waiting import eventually
from workers.host.node_file import ENVIRONMENT as NODE_CONFIG

pytestmark = pytest.mark.e2e
IMAGE = "localhost/enclave-cc/test:1"
DENIED = "localhost/enclave-cc/test:denied"


@contextmanager
def ended(process: subprocess.Popen[bytes]) -> Iterator[None]:
    try:
        yield
    finally:
        process.kill()
        process.wait()


@pytest.fixture(scope="module")
def containerd(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Containerd]:
    work = tmp_path_factory.mktemp("shim")
    root = work / "rootfs"
    root.mkdir()
    archive = work / "root.tar"
    archive.write_bytes(busybox())
    subprocess.run(["tar", "-xf", archive, "-C", root], check=True)
    for folder in ("dev", "proc", "sys", "etc", "run"):
        (root / folder).mkdir()
    (work / "node.toml").write_text(f'run_dir = "{work}"')
    environment = {
        runc_pod.ROOT: str(root),
        runc_pod.RUN_DIR: str(work / "run"),
        NODE_CONFIG: str(work / "node.toml"),
    }
    settings = Settings(snapshotter=False, environment=environment, pod="tests.simulators.runc_pod:RuncPod")
    worker = subprocess.Popen(
        [sys.executable, "-m", "tests.simulators.runc_pod", work / "shims.sock"], env={**os.environ, **environment}
    )
    with ended(worker), Containerd(settings) as running:
        for reference in (IMAGE, DENIED):
            # Two images, not two names of one: of one image's names containerd tells a shim the first.
            made = image([plain(busybox())], {"Entrypoint": ["/bin/sh"], "Env": [f"NAME={reference}"]})
            write_archive(work / "image.tar", made, reference)
            running.ctr("images", "import", str(work / "image.tar"))
        yield running


@pytest.fixture
def kubelet(containerd: Containerd) -> Iterator[Kubelet]:
    client = containerd.kubelet("enclave-cc")
    yield client
    client.remove_everything()
    client.close()
    eventually(lambda: not shims(containerd))
    assert not left_over(containerd)


@pytest.fixture
def pod(kubelet: Kubelet) -> Pod:
    return kubelet.run_pod(f"pod-{time.monotonic_ns()}")


def shims(containerd: Containerd) -> list[int]:
    """The pids of this containerd's shims of ours."""
    found = []
    for process in Path("/proc").glob("[0-9]*"):
        try:
            words = (process / "cmdline").read_bytes().split(b"\0")
        except OSError:
            continue
        if any(word.endswith(b"containerd-shim-enclave-cc-v2") for word in words):
            found += [int(process.name)] * (str(containerd.root).encode() in b"\0".join(words))
    return found


def left_over(containerd: Containerd) -> list[str]:
    """Sockets and mounts that should have gone with their pods."""
    sockets = [str(path) for path in (containerd.root / "enclave-cc").glob("*")]
    mounts = [line for line in Path("/proc/self/mounts").read_text().splitlines() if f"{containerd.root}/run" in line]
    return sockets + mounts


def started(kubelet: Kubelet, pod: Pod, script: str, name: str = "main") -> str:
    container = kubelet.create_container(pod, ContainerSpec(name, IMAGE, ["/bin/sh", "-c", script]))
    kubelet.start_container(container)
    return container


def wait_exited(kubelet: Kubelet, container: str) -> int:
    eventually(lambda: kubelet.container_status(container).state is ContainerState.EXITED)
    return kubelet.container_status(container).exit_code


def test_a_pod_runs_and_its_container_tells_output_and_exit_status(kubelet: Kubelet, pod: Pod) -> None:
    assert kubelet.pod_status(pod).ready
    assert kubelet.pod_status(pod).ip.startswith("10.")
    container = started(kubelet, pod, "echo out; echo err >&2; exit 7")
    assert wait_exited(kubelet, container) == 7
    log = kubelet.container_status(container).log.read_text()
    assert " stdout F out\n" in log
    assert " stderr F err\n" in log


def test_all_containers_of_a_pod_share_one_shim(containerd: Containerd, kubelet: Kubelet, pod: Pod) -> None:
    for name in ("one", "two", "three"):
        started(kubelet, pod, "sleep 100", name)
    assert len(shims(containerd)) == 1


def test_stopping_sends_sigterm_and_after_the_grace_sigkill(kubelet: Kubelet, pod: Pod) -> None:
    polite = started(kubelet, pod, "trap 'exit 3' TERM; while :; do sleep 0.05; done", "polite")
    stubborn = started(kubelet, pod, "trap '' TERM; while :; do sleep 0.05; done", "stubborn")
    kubelet.stop_container(polite, grace_seconds=10)
    assert wait_exited(kubelet, polite) == 3
    kubelet.stop_container(stubborn, grace_seconds=1)
    assert wait_exited(kubelet, stubborn) == 137


def test_a_failed_launch_tells_its_diagnosis_and_leaves_nothing(kubelet: Kubelet, pod: Pod) -> None:
    container = kubelet.create_container(pod, ContainerSpec("main", DENIED, ["/bin/sh"]))
    with pytest.raises(Permanent) as refused:
        kubelet.start_container(container)
    assert "E-SIGN-001: the image is not signed (expected a signature; got none)" in str(refused.value)
    kubelet.remove_container(container)
    assert kubelet.pod_status(pod).ready


def test_a_pod_that_is_not_attested_does_not_start_and_leaves_nothing(containerd: Containerd, kubelet: Kubelet) -> None:
    switch = Path(containerd.settings.environment[runc_pod.RUN_DIR]) / runc_pod.FAIL_ATTEST
    switch.touch()
    try:
        with pytest.raises(Permanent) as refused:
            kubelet.run_pod("unlisted")
    finally:
        switch.unlink()
    assert "E-ATTEST-002: the key broker does not know this measurement" in str(refused.value)
    assert "try list it" in str(refused.value)
    eventually(lambda: not shims(containerd))
    assert not left_over(containerd)


def test_exec_is_refused_with_a_reason(kubelet: Kubelet, pod: Pod) -> None:
    container = started(kubelet, pod, "sleep 100")
    with pytest.raises(Permanent) as refused:
        kubelet.exec(container, ["/bin/id"])
    assert "E-EXEC-001: the launch policy admits no command beside the workload" in str(refused.value)


def test_containerd_comes_back_to_running_pods_and_loses_no_line_of_output(
    containerd: Containerd, kubelet: Kubelet, pod: Pod
) -> None:
    container = started(kubelet, pod, "n=0; while [ $n -lt 40 ]; do echo line $n; n=$((n+1)); sleep 0.05; done; exit 5")
    containerd.stop()
    time.sleep(0.5)
    containerd.start()
    assert kubelet.pod_status(pod).ready
    assert wait_exited(kubelet, container) == 5
    log = kubelet.container_status(container).log.read_text()
    assert [f"line {n}" for n in range(40) if f" line {n}\n" not in log] == []


def test_an_exit_while_containerd_is_away_is_told_when_it_is_back(
    containerd: Containerd, kubelet: Kubelet, pod: Pod
) -> None:
    container = started(kubelet, pod, "sleep 0.7; exit 9")
    containerd.stop()
    time.sleep(1.2)
    containerd.start()
    assert wait_exited(kubelet, container) == 9


def test_a_killed_shim_ends_its_pod_and_nothing_is_left(containerd: Containerd, kubelet: Kubelet, pod: Pod) -> None:
    started(kubelet, pod, "sleep 100")
    (process,) = shims(containerd)
    os.kill(process, signal.SIGKILL)
    eventually(lambda: not kubelet.pod_status(pod).ready)


def test_memory_in_use_is_reported(kubelet: Kubelet, pod: Pod) -> None:
    container = started(kubelet, pod, "sleep 100")
    eventually(lambda: kubelet.memory_bytes(container) > 0)


def test_a_container_that_was_created_but_never_started_is_removed(kubelet: Kubelet, pod: Pod) -> None:
    container = kubelet.create_container(pod, ContainerSpec("idle", IMAGE, ["/bin/sh"]))
    kubelet.remove_container(container)


def test_ctr_outside_a_pod_is_refused(containerd: Containerd, kubelet: Kubelet) -> None:
    command = ["ctr", "--address", containerd.address, "--namespace", "k8s.io", "run", "--rm"]
    command += ["--runtime", "io.containerd.enclave-cc.v2", IMAGE, "loose", "/bin/sh"]
    done = subprocess.run(command, env=dict(os.environ), capture_output=True, text=True, check=False, timeout=60)
    assert done.returncode != 0
    assert "only containers of Kubernetes pods run in enclaves" in done.stderr
