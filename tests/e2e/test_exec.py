"""Commands beside a workload: denied unless the owner's policy admits them; then they are the workload's own kin."""

from __future__ import annotations

import os
import pty
import secrets
import signal
import subprocess
import urllib.request
from collections.abc import Iterator, Sequence
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

import pytest

from deploy.local import images
from deploy.local.cri import ContainerSpec, ContainerState
from orchestrator import events
from orchestrator.events import Recorded
from orchestrator.faults import Fault, Permanent
from tests.e2e import streams, victims
from tests.e2e.cluster import Cluster, Launched, fetch
from tests.machine import cgroups_naming
from tests.waiting import eventually
from workers.enclave.launch_policy.document import DEFAULT_CAPABILITIES

pytestmark = pytest.mark.e2e
MEMORY_LIMITS = ("memory.limit_in_bytes", "memory.max")
"""The file's name in cgroup v1 and v2."""

EXEC = [
    {"name": "health", "args": ["/bin/true"], "probe": True},
    {"name": "greet", "args": ["/bin/echo", "hello", {"any": True}]},
    {"name": "edit", "args": ["/bin/sh", "-i"], "terminal": True},
    {"name": "script", "args": ["/bin/sh", "-c", {"any": True}]},
    {"name": "copy", "args": ["/bin/cat"]},
    {"name": "nothing", "args": ["/bin/not-there"]},
]


def admit(cluster: Cluster, repository: str, entries: Sequence[object], **more: object) -> None:
    """The owner lists commands under the rule of one repository, and what else it admits."""
    cluster.amend(repository, name=repository, exec=list(entries), **more)


@pytest.fixture(scope="module")
def reference(cluster: Cluster) -> str:
    made = cluster.publish_web("exec:1", b"served\n")
    admit(cluster, "exec", EXEC)
    return made


@pytest.fixture(scope="module")
def web(cluster: Cluster, reference: str) -> Iterator[Launched]:
    with cluster.launched(reference, "web") as launched:
        yield launched


def told(cluster: Cluster, launched: Launched, *kinds: type) -> list[events.Body]:
    """The bodies of these kinds in the pod's history, in which nothing was ignored."""
    assert cluster.launch_of(launched.pod.id).ignored == ()
    history = cluster.histories()[launched.pod.id]
    return [m.fact.body for m in history if isinstance(m, Recorded) and isinstance(m.fact.body, kinds)]


def ctr(cluster: Cluster, container: str, *command: str, terminal: bool = False) -> list[str]:
    """What runs a command with streams that last: `kubectl exec -i`, without a kubelet."""
    base = ["ctr", "--address", str(cluster.layout.containerd), "--namespace", "k8s.io", "tasks", "exec"]
    return [*base, "--exec-id", secrets.token_hex(8), *(["--tty"] if terminal else []), container, *command]


def test_it_runs_as_the_workload_does_and_its_output_and_status_come_back(cluster: Cluster, web: Launched) -> None:
    script = "id; cat www/index.html; grep -E 'CapEff|Seccomp:|NoNewPrivs' /proc/self/status; echo bad >&2; exit 7"
    code, out, errors = cluster.kubelet.exec(web.containers[0], ["/bin/sh", "-c", script])
    same = "grep -E 'CapEff|Seccomp:|NoNewPrivs' /proc/1/status"
    _, workload, _ = cluster.kubelet.exec(web.containers[0], ["/bin/sh", "-c", same])
    assert (code, errors) == (7, b"bad\n")
    assert out == b"uid=0(root) gid=0(root)\nserved\n" + workload
    assert b"Seccomp:\t2" in workload


@pytest.mark.parametrize("user", ["redis", "1001:1002"])
def test_beside_a_workload_that_is_not_root_it_runs_as_that_user(cluster: Cluster, user: str) -> None:
    name = f"exec-{user.replace(':', '-')}"
    layout = images.busybox(command=("/bin/sleep", "600"), user=user)
    cluster.owner.publish(str(layout), f"{name}:1")
    admit(cluster, name, EXEC)
    with cluster.launched(cluster.reference(f"{name}:1"), name) as launched:
        script = "id -u; id -g; grep CapEff /proc/self/status; touch /new || echo no"
        code, out, _ = cluster.kubelet.exec(launched.containers[0], ["/bin/sh", "-c", script])
    uid, gid = ("999", "999") if user == "redis" else user.split(":")
    assert (code, out.decode().split()) == (0, [uid, gid, "CapEff:", "0" * 16, "no"])


def test_what_the_policy_does_not_admit_is_denied_with_a_reason_and_a_code(cluster: Cluster, web: Launched) -> None:
    with pytest.raises(Permanent) as refused:
        cluster.kubelet.exec(web.containers[0], ["/bin/env"])
    assert "E-EXEC-001: the launch policy does not admit this command" in str(refused.value)
    assert "greet: ['/bin/echo', 'hello', any text]" in str(refused.value)
    assert cluster.kubelet.container_status(web.containers[0]).state is ContainerState.RUNNING


def test_a_program_that_is_not_there_is_told_in_cruns_words(cluster: Cluster, web: Launched) -> None:
    with pytest.raises(Permanent) as refused:
        cluster.kubelet.exec(web.containers[0], ["/bin/not-there"])
    assert "E-EXEC-002: the command could not be started" in str(refused.value)
    assert "executable file `/bin/not-there` not found" in str(refused.value)


def test_a_terminal_is_granted_where_the_policy_says_so_and_follows_its_size(cluster: Cluster, web: Launched) -> None:
    pid, master = pty.fork()
    if pid == 0:
        os.execvp("ctr", ctr(cluster, web.containers[0], "/bin/sh", "-i", terminal=True))
    said = b""
    try:
        os.write(master, b"busybox tty; exit 5\n")
        while chunk := os.read(master, 4096):
            said += chunk
    except OSError:
        pass  # ctr has ended
    finally:
        os.close(master)
    assert os.waitstatus_to_exitcode(os.waitpid(pid, 0)[1]) == 5
    assert b"/dev/pts/0" in said

    without = subprocess.run(
        ["script", "-qec", " ".join(ctr(cluster, web.containers[0], "/bin/cat", terminal=True)), "/dev/null"],
        capture_output=True,
        check=False,
        timeout=60,
    )
    assert b"E-EXEC-001: the launch policy grants this command no terminal" in without.stdout


def test_every_byte_of_a_stream_comes_through_and_its_end_is_seen(cluster: Cluster, web: Launched) -> None:
    sent = secrets.token_bytes(20 << 20)
    command = ctr(cluster, web.containers[0], "/bin/cat")
    done = subprocess.run(command, input=sent, capture_output=True, check=False, timeout=60)
    assert (done.returncode, done.stdout == sent, done.stderr) == (0, True, b"")


def test_the_history_tells_under_the_enclaves_key_what_ran_and_that_something_was_refused(
    cluster: Cluster, reference: str
) -> None:
    with cluster.launched(reference, "told") as launched:
        run = cluster.kubelet.exec
        (container,) = launched.containers
        assert run(container, ["/bin/echo", "hello", "hunter2"]) == (0, b"hello hunter2\n", b"")
        for _ in range(5):
            assert run(container, ["/bin/true"])[0] == 0
        for _ in range(3):
            with pytest.raises(Permanent):
                run(container, ["/bin/echo", "hunter2"])
        bodies = told(cluster, launched, events.ExecAdmitted, events.ExecRefused)
        admitted = [body for body in bodies if isinstance(body, events.ExecAdmitted)]
        assert [(body.rule, body.args, body.times) for body in admitted] == [
            ("exec/greet", ("/bin/echo", "hello", "*"), 1),
            *(("exec/health", ("/bin/true",), times) for times in (1, 2, 4)),
        ]
        refused = [body for body in bodies if isinstance(body, events.ExecRefused)]
        assert [(body.code, body.times) for body in refused] == [("E-EXEC-001", 1), ("E-EXEC-001", 2)]
        assert "hunter2" not in repr(bodies)
        state = cluster.launch_of(launched.pod.id).containers[container]
        assert (dict(state.execs), state.execs_refused) == ({"exec/greet": 1, "exec/health": 4}, 2)


def test_its_status_survives_the_host_worker_that_was_killed_meanwhile(cluster: Cluster, web: Launched) -> None:
    with ThreadPoolExecutor(1) as kubelet:
        command = ["/bin/sh", "-c", "sleep 2; echo on; exit 42"]
        running = kubelet.submit(cluster.kubelet.exec, web.containers[0], command)
        eventually(lambda: sleeps(cluster, web))
        victim = cluster.pid("worker")
        os.kill(victim, signal.SIGKILL)
        eventually(lambda: all(s.ready and s.pid != victim for s in cluster.stack.status()))
        assert running.result(60) == (42, b"on\n", b"")


def test_one_that_takes_too_long_is_killed(cluster: Cluster, web: Launched) -> None:
    with pytest.raises(Fault, match="ExecSync took too long"):
        cluster.kubelet.exec(web.containers[0], ["/bin/sh", "-c", "exec sleep 600"], seconds=1)
    eventually(lambda: not sleeps(cluster, web))


def test_its_container_takes_it_along_and_without_an_agent_nothing_is_admitted(
    cluster: Cluster, reference: str
) -> None:
    with cluster.launched(reference, "alone") as launched, ThreadPoolExecutor(1) as kubelet:
        (container,) = launched.containers
        running = kubelet.submit(cluster.kubelet.exec, container, ["/bin/sh", "-c", "sleep 600"])
        eventually(lambda: sleeps(cluster, launched))
        victims.kill(victims.agent_of(cluster, launched.pod.id))
        eventually(lambda: cluster.launch_of(launched.pod.id).agent_lost)
        with pytest.raises(Permanent, match="E-AGENT-002: nobody can judge this command"):
            cluster.kubelet.exec(container, ["/bin/true"])
        assert cluster.kubelet.container_status(container).state is ContainerState.RUNNING
        cluster.kubelet.stop_container(container, grace_seconds=0)
        assert running.result(60)[0] == 137


def test_kubectls_own_stream_carries_a_command_both_ways(cluster: Cluster, web: Launched) -> None:
    url = cluster.kubelet.exec_url(web.containers[0], ["/bin/sh", "-c", "read name; echo hello $name; echo bad >&2"])
    with streams.connected(url) as connection:
        connection.send_binary(bytes([streams.INPUT]) + b"owner\n")
        came = list(streams.said(connection))
    assert (streams.OUTPUT, b"hello owner\n") in came
    assert (streams.ERRORS, b"bad\n") in came
    assert [streams.status_of(raw) for stream, raw in came if stream == streams.STATUS] == ["Success"]


def test_attaching_follows_the_output_and_forwarding_reaches_the_port_without_asking_the_enclave(
    cluster: Cluster, web: Launched
) -> None:
    before = cluster.launch_of(web.pod.id).index
    with streams.connected(cluster.kubelet.forward_url(web.pod.id, 8080)) as connection:
        connection.send_binary(b"\0GET / HTTP/1.0\r\n\r\n")
        answer = b"".join(piece for stream, piece in streams.said(connection) if stream == 0)
    assert answer.endswith(b"served\n")
    write = "while [ ! -e /tmp/seen ]; do echo attached >/proc/1/fd/1; sleep 0.05; done"
    with (
        streams.connected(cluster.kubelet.attach_url(web.containers[0])) as connection,
        ThreadPoolExecutor(1) as kubelet,
    ):
        writing = kubelet.submit(cluster.kubelet.exec, web.containers[0], ["/bin/sh", "-c", write])
        assert next(streams.said(connection)) == (streams.OUTPUT, b"attached\n")
        cluster.kubelet.exec(web.containers[0], ["/bin/sh", "-c", "echo >/tmp/seen"])
        assert writing.result(30)[0] == 0
    assert cluster.launch_of(web.pod.id).index == before + 2, "facts of the two commands, and of nothing else"


def test_a_container_stands_still_goes_on_and_has_the_limit_that_it_was_given(cluster: Cluster, web: Launched) -> None:
    (container,) = web.containers
    address = f"http://{cluster.kubelet.pod_status(web.pod).ip}:8080/"
    assert fetch(address) == b"served\n"
    tasks = ["ctr", "--address", str(cluster.layout.containerd), "--namespace", "k8s.io", "tasks"]
    subprocess.run([*tasks, "pause", container], check=True, timeout=30)
    listed = subprocess.run([*tasks, "list"], check=True, capture_output=True, text=True, timeout=30).stdout
    assert next(line.split()[2] for line in listed.splitlines() if container in line) == "PAUSED"
    with pytest.raises(OSError, match="timed out"):
        urllib.request.urlopen(address, timeout=0.5)
    subprocess.run([*tasks, "resume", container], check=True, timeout=30)
    assert fetch(address) == b"served\n"
    cluster.kubelet.limit(container, 200 << 20)
    groups = [group for group in cgroups_naming(container) if group.name == container]
    limits = {text(group / name).strip() for group in groups for name in MEMORY_LIMITS} - {""}
    assert limits == {str(200 << 20)}
    assert cluster.kubelet.exec(container, ["/bin/true"])[0] == 0, "and commands run as before"


def test_memory_that_ran_out_is_the_reason_that_a_kubelet_reads(cluster: Cluster) -> None:
    hog = ("/bin/sh", "-c", "busybox tail /dev/zero; exit $?")
    cluster.owner.publish(str(images.busybox(command=hog)), "hog:1")
    reference = cluster.reference("hog:1")
    cluster.kubelet.pull(reference)
    pod = cluster.kubelet.run_pod("hog")
    try:
        container = cluster.kubelet.create_container(pod, ContainerSpec("hog", reference, memory_bytes=160 << 20))
        cluster.kubelet.start_container(container)
        eventually(lambda: cluster.kubelet.container_status(container).state is ContainerState.EXITED)
        status = cluster.kubelet.container_status(container)
        assert (status.exit_code, status.reason) == (137, "OOMKilled")
        exited = cluster.launch_of(pod.id).containers[container].progress.exit
        assert exited is not None
        assert exited.out_of_memory
    finally:
        cluster.remove(pod.id)


def test_memory_that_is_too_little_to_begin_with_is_said_to_be(cluster: Cluster, reference: str) -> None:
    cluster.kubelet.pull(reference)
    pod = cluster.kubelet.run_pod("tight")
    try:
        container = cluster.kubelet.create_container(pod, ContainerSpec("web", reference, memory_bytes=15 << 20))
        with pytest.raises(Permanent) as refused:
            cluster.kubelet.start_container(container)
        assert "E-BOOT-003: the app enclave ran out of memory before its workload had booted" in str(refused.value)
    finally:
        cluster.remove(pod.id)


def test_a_capability_is_the_workloads_where_pod_and_owner_say_so_and_the_machines_never_is(cluster: Cluster) -> None:
    cluster.owner.publish(str(images.busybox(command=("/bin/sleep", "600"))), "able:1")
    admit(cluster, "able", EXEC, capabilities=[*sorted(DEFAULT_CAPABILITIES), "CAP_NET_ADMIN", "CAP_SYS_TIME"])
    reference = cluster.reference("able:1")
    cluster.kubelet.pull(reference)
    pod = cluster.kubelet.run_pod("able")
    try:
        able = cluster.kubelet.create_container(pod, ContainerSpec("able", reference, capabilities=["NET_ADMIN"]))
        cluster.kubelet.start_container(able)
        code, out, _ = cluster.kubelet.exec(able, ["/bin/sh", "-c", "grep CapEff /proc/self/status"])
        assert (code, int(out.split()[1], 16) >> 12 & 1) == (0, 1), "CAP_NET_ADMIN"
        other = cluster.kubelet.create_container(pod, ContainerSpec("machine", reference, capabilities=["SYS_TIME"]))
        with pytest.raises(Permanent) as refused:
            cluster.kubelet.start_container(other)
        assert "E-BOOT-002: the enclave's container lacks capabilities" in str(refused.value)
        assert "got CAP_SYS_TIME" in str(refused.value)
    finally:
        cluster.remove(pod.id)


def sleeps(cluster: Cluster, launched: Launched) -> list[str]:
    """The processes called sleep in the container's cgroup."""
    (container,) = launched.containers
    processes = [p for p in Path("/proc").glob("[0-9]*") if container in text(p / "cgroup")]
    return [p.name for p in processes if text(p / "comm") == "sleep\n"]


def text(path: Path) -> str:
    try:
        return path.read_text()
    except OSError:
        return ""
