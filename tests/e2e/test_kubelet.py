"""A kubelet's habits: what it mounts into containers, in which order it runs them, how it asks and how it ends them."""

from __future__ import annotations

import json
from collections.abc import Iterator
from contextlib import closing
from dataclasses import dataclass
from pathlib import Path

import pytest
from click.testing import CliRunner

from deploy.cli import enclave_cc
from deploy.local import images
from deploy.local.cri import ContainerSpec, ContainerState, HostMount, Pod
from orchestrator.faults import Code, Permanent
from tests.e2e.cluster import Cluster
from tests.e2e.cri.calls import Calls
from tests.e2e.searching import Mark, Search
from tests.waiting import eventually
from workers.enclave.kbs import ResourceUri

pytestmark = pytest.mark.e2e
_END = "that was all"
_FOREVER = "while :; do sleep 0.1; done"
SHELL = ["/bin/sh", "-c", {"any": True}]
MOUNTS = [
    {"destination": "/etc/app", "read_only": True},
    {"destination": {"pattern": "/in|/out|/cache"}, "volume": "exchange"},
    {"destination": "/db", "volume": "db", "key": "kbs:///default/volume/db"},
]


@pytest.fixture(scope="module")
def reference(cluster: Cluster) -> str:
    """An image whose rule admits any shell command, one config map and three volumes."""
    cluster.owner.publish(str(images.busybox({"etc/empty": b""}, command=("/bin/sh",))), "volumes:1")
    policies = cluster.owner.policies
    document = json.loads(policies.launch_policy.read_text())
    (rule,) = [rule for rule in document["rules"] if rule["image"].endswith("/volumes")]
    rule |= {"name": "volumes", "args": SHELL, "mounts": MOUNTS, "exec": [{"name": "sh", "args": SHELL}]}
    rule["env"] = [{"name": "POD_NAME", "value": {"pattern": "[a-z0-9-]{1,63}"}}]
    policies.launch_policy.write_text(json.dumps(document))
    with closing(cluster.owner.admin()) as broker:
        policies.put(broker)
    made = cluster.reference("volumes:1")
    cluster.kubelet.pull(made)
    return made


@dataclass
class Node:
    """A pod as a kubelet runs one, with its folder of volumes."""

    cluster: Cluster
    reference: str
    pod: Pod
    folder: Path

    def volume(self, kind: str, name: str) -> Path:
        path = self.folder / "volumes" / f"kubernetes.io~{kind}" / name
        path.mkdir(parents=True, exist_ok=True)
        path.chmod(0o777)
        return path

    def create(self, name: str, script: str, *mounts: HostMount, **environment: str) -> str:
        command = ("/bin/sh", "-c", f"({script}); status=$?; echo {_END}; exit $status")
        spec = ContainerSpec(name, self.reference, command=command, environment=environment, mounts=mounts)
        return self.cluster.kubelet.create_container(self.pod, spec)

    def start(self, name: str, script: str, *mounts: HostMount, **environment: str) -> str:
        container = self.create(name, script, *mounts, **environment)
        self.cluster.kubelet.start_container(container)
        return container

    def ended(self, container: str) -> tuple[int, str]:
        """The exit status of a container, and what it wrote; containerd copies that a moment later than it ends."""

        def status() -> tuple[int, str] | None:
            found = self.cluster.kubelet.container_status(container)
            words, end, _ = spoken(found.log).partition(f"{_END}\n")
            return (found.exit_code, words) if found.state is ContainerState.EXITED and end else None

        return eventually(status)

    def run(self, name: str, script: str, *mounts: HostMount, **environment: str) -> tuple[int, str]:
        return self.ended(self.start(name, script, *mounts, **environment))

    def first_process(self, name: str, script: str) -> str:
        """Start a container whose first process is the script itself, and wait until that says `up`."""
        spec = ContainerSpec(name, self.reference, command=("/bin/sh", "-c", f"{script}; echo up; {_FOREVER}"))
        container = self.cluster.kubelet.create_container(self.pod, spec)
        self.cluster.kubelet.start_container(container)
        log = self.cluster.kubelet.container_status(container).log
        eventually(lambda: "up\n" in spoken(log))
        return container


def spoken(log: Path) -> str:
    """The words of a CRI log file: `time stream tag words`."""
    return "".join(f"{line.split(' ', 3)[3]}\n" for line in log.read_text().splitlines())


@pytest.fixture
def node(cluster: Cluster, reference: str, tmp_path: Path) -> Iterator[Node]:
    pod = cluster.kubelet.run_pod("volumes")
    try:
        yield Node(cluster, reference, pod, tmp_path / "pods" / pod.config.metadata.uid)
    finally:
        cluster.remove(pod.id)


def config_map(folder: Path, stamp: str, values: dict[str, str]) -> Path:
    """As a kubelet writes one, the first time or again."""
    newest = folder / f"..{stamp}"
    newest.mkdir()
    for name, value in values.items():
        (newest / name).write_text(value)
        if not (folder / name).is_symlink():
            (folder / name).symlink_to(f"..data/{name}")
    (folder / "..data_tmp").symlink_to(newest.name)
    (folder / "..data_tmp").rename(folder / "..data")
    return folder


def test_a_config_map_is_what_it_was_at_the_start_and_its_digest_is_a_signed_fact(node: Node) -> None:
    settings = config_map(node.volume("configmap", "app"), "2026_11_23", {"level": "info"})
    mount = HostMount(settings, "/etc/app", read_only=True)
    script = "cat /etc/app/level; ls -A /etc/app; (echo > /etc/app/x) 2>/dev/null || echo read-only; sleep 600"
    container = node.start("reads", script, mount)
    log = node.cluster.kubelet.container_status(container).log
    eventually(lambda: "read-only" in spoken(log))
    assert spoken(log) == "infolevel\nread-only\n"
    config_map(settings, "2026_11_24", {"level": "debug"})
    assert node.cluster.kubelet.exec(container, ("/bin/sh", "-c", "cat /etc/app/level"))[1] == b"info"
    assert node.run("again", "cat /etc/app/level; echo", mount) == (0, "debug\n")
    launch = node.cluster.launch_of(node.pod.id)
    assert launch.ignored == ()
    first, second = (found.delivered.host_data for found in launch.containers.values() if found.delivered)
    assert first[0].startswith("/etc/app@sha256:")
    assert first != second
    words = ["show", node.pod.id, "--config", str(node.cluster.layout.client_config)]
    shown = CliRunner().invoke(enclave_cc, words)
    assert first[0].rpartition(":")[2][:40] in shown.output.replace("\n", "")
    told = json.loads(CliRunner().invoke(enclave_cc, [*words, "--json"]).output)
    assert [entry["host_data"] for entry in told["launch"]["containers"]] == [[*first], [*second]]


def test_a_config_map_that_is_not_the_owners_keeps_the_workload_from_starting(cluster: Cluster, node: Node) -> None:
    settings = config_map(node.volume("configmap", "app"), "2026_11_23", {"level": "info"})
    (settings / "..data/level").unlink()
    (settings / "..data/level").symlink_to("/etc/passwd")
    container = node.create("refused", "true", HostMount(settings, "/etc/app", read_only=True))
    with pytest.raises(Permanent, match=Code.CONFIG_HOST_DATA):
        cluster.kubelet.start_container(container)


def test_an_empty_dir_is_shared_by_a_pods_containers_kept_for_the_next_and_ciphertext_on_the_host(node: Node) -> None:
    scratch, mark = node.volume("empty-dir", "exchange"), Mark()
    first = f"echo {mark} content > /out/{mark}-name && /bin/busybox ln -s {mark}-name /out/link && mkdir /out/queue"
    assert node.run("init", first, HostMount(scratch, "/out")) == (0, "")
    main = node.start(
        "main", "while ! [ -e /in/queue/done ]; do sleep 0.1; done; cat /in/link", HostMount(scratch, "/in")
    )
    side = "cat /cache/link; echo appended >> /cache/link; echo x > /cache/new"
    side += "; /bin/busybox mv /cache/new /cache/queue/done"
    assert node.run("side", side, HostMount(scratch, "/cache")) == (0, f"{mark} content\n")
    assert node.ended(main) == (0, f"{mark} content\nappended\n")
    again = node.run("main-again", "cat /in/link; id -u", HostMount(scratch, "/in"))
    assert again == (0, f"{mark} content\nappended\n0\n")
    seen = Search(mark).folders("the emptyDir", [scratch])
    assert seen.bytes > 0
    assert seen.found == []
    assert not any(str(mark) in str(path) for path in scratch.rglob("*"))


def test_another_pod_opens_nothing_of_a_volume_but_what_is_under_the_owners_key(
    cluster: Cluster, reference: str, node: Node
) -> None:
    with closing(cluster.owner.admin()) as broker:
        broker.put_resource(ResourceUri("default", "volume", "db"), b"\7" * 32)
    scratch, claim = node.volume("empty-dir", "exchange"), node.volume("csi", "db")
    mounts = HostMount(scratch, "/cache"), HostMount(claim, "/db")
    assert node.run("writes", "echo pod > /cache/a && echo owner > /db/a", *mounts) == (0, "")
    pod = cluster.kubelet.run_pod("another")
    try:
        other = Node(cluster, reference, pod, node.folder)
        assert other.run("reads", "ls -A /cache; cat /db/a", *mounts) == (0, "owner\n")
    finally:
        cluster.remove(pod.id)


@pytest.mark.parametrize("kind", ["empty-dir", "csi", "host-path"])
def test_a_mount_that_no_rule_names_is_refused_with_its_destination(node: Node, kind: str) -> None:
    container = node.create("refused", "true", HostMount(node.volume(kind, "data"), "/data"))
    with pytest.raises(Permanent, match=Code.CONFIG_PROCESS_DENIED) as raised:
        node.cluster.kubelet.start_container(container)
    assert "/data" in str(raised.value)


def test_hosts_and_resolv_conf_and_the_service_account_are_left_out_unless_admitted(node: Node) -> None:
    token = node.volume("projected", "kube-api-access")
    (token / "token").write_text("a token")
    where = "/var/run/secrets/kubernetes.io/serviceaccount"
    status, words = node.run("plain", f"ls {where} 2>/dev/null; echo done", HostMount(token, where, read_only=True))
    assert (status, words) == (0, "done\n")
    (container,) = node.cluster.launch_of(node.pod.id).containers.values()
    assert container.delivered is not None
    assert "serviceaccount" in container.delivered.verdict
    assert container.delivered.host_data == ()


def test_the_pods_name_reaches_a_container_as_host_name_variable_and_file(node: Node) -> None:
    labels = config_map(node.volume("downward-api", "podinfo"), "2026_11_23", {"labels": 'app="shop"'})
    script = "hostname; echo $POD_NAME; cat /etc/app/labels; echo"
    mount = HostMount(labels, "/etc/app", read_only=True)
    assert node.run("facts", script, mount, POD_NAME="volumes") == (0, 'volumes\nvolumes\napp="shop"\n')


def test_a_container_is_probed_told_to_end_and_killed_after_its_grace(node: Node) -> None:
    kubelet = node.cluster.kubelet
    probe = ("/bin/sh", "-c", "test -e /ready")
    polite = node.first_process("polite", "trap 'ls /drained; exit 3' TERM")
    assert kubelet.exec(polite, probe)[0] == 1
    assert kubelet.exec(polite, ("/bin/sh", "-c", "echo > /ready"))[0] == 0
    assert kubelet.exec(polite, probe)[0] == 0
    assert kubelet.exec(polite, ("/bin/sh", "-c", "echo > /drained"))[0] == 0  # as a preStop hook does
    kubelet.stop_container(polite, grace_seconds=60)
    status = kubelet.container_status(polite)
    assert status.exit_code == 3
    eventually(lambda: "/drained\n" in spoken(status.log))
    stubborn = node.first_process("stubborn", "trap '' TERM")
    kubelet.stop_container(stubborn, grace_seconds=1)
    assert kubelet.container_status(stubborn).exit_code == 137


def test_the_file_system_of_images_is_one_that_a_kubelet_can_measure(cluster: Cluster) -> None:
    calls = Calls(cluster.layout.containerd)
    try:
        (told,) = calls("ImageFsInfo").image_filesystems
    finally:
        calls.close()
    assert Path(told.fs_id.mountpoint).samefile(cluster.layout.snapshots)
