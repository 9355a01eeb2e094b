"""Nothing of an encrypted image and no secret of the key broker is anywhere on the host, while the pod runs with both
and writes both to its standard streams, which are sealed.

What is searched: see `places`. Left out are exactly the places where a secret belongs: the memory of the enclaves and
of the owner (its key broker and this test, which is the publisher here), the owner's own folder, and the workload's
environment, which on the simulated CPU is memory of a process like any other.
"""

from __future__ import annotations

import asyncio
import base64
import gzip
import io
import json
import os
import shutil
import subprocess
import sys
import tarfile
import urllib.error
import urllib.request
from collections.abc import Iterable, Iterator, Sequence
from contextlib import ExitStack, contextmanager
from dataclasses import dataclass
from pathlib import Path
from tempfile import TemporaryDirectory

import pytest
from click.testing import CliRunner

from deploy.cli import enclave_cc
from deploy.local import images, node, residue
from orchestrator.bus import connect, subjects
from orchestrator.faults import Fault
from orchestrator.fold import fold
from orchestrator.launch import Launch
from orchestrator.lifecycle import State
from orchestrator.output.recipient import RecipientKey
from tests.e2e.cluster import Cluster, Launched
from tests.e2e.searching import Mark, Search, Searched, all_pids, forms, pid_namespaces
from tests.e2e.unpacking import zstd
from tests.waiting import eventually
from workers.enclave.kbs import ResourceUri
from workers.host.libos.sim.measurement import measure_image

pytestmark = pytest.mark.e2e

FILE, VARIABLE = ResourceUri("default", "canary", "file"), ResourceUri("default", "canary", "variable")
SERVED = """cat /www/index.html
cat /run/secrets/token >&2
echo "$TOKEN"
printf %s "$TOKEN" > /www/variable
/bin/busybox cp /run/secrets/token /www/secret
exec /bin/busybox httpd -f -p 8080 -h /www"""


@dataclass(frozen=True, slots=True)
class Canaries:
    """One mark, and the texts with it: two in the image (a third is a file's name), two at the key broker."""

    mark: Mark

    @property
    def page(self) -> str:
        return f"{self.mark} in a page"

    @property
    def settings(self) -> str:
        return f"PASSWORD={self.mark}-in-settings\n"

    @property
    def name(self) -> str:
        return f"{self.mark}-as-a-name"

    @property
    def secret(self) -> str:
        return f"{self.mark} in a secret file\n"

    @property
    def variable(self) -> str:
        return f"{self.mark}-in-a-secret-variable"


@pytest.fixture
def canaries() -> Canaries:
    return Canaries(Mark())


def publish(cluster: Cluster, canaries: Canaries, name: str, command: Sequence[str], scratch: Path) -> str:
    """An image and secrets with canaries, published by its owner, who keeps no plain copy."""
    folder = scratch / "plain"
    files = {
        "www/index.html": canaries.page.encode(),
        "etc/settings.env": canaries.settings.encode(),
        f"www/{canaries.name}": b"",
    }
    layout = images.busybox(files, command=command, cache=folder)
    repository = cluster.reference(name).rpartition(":")[0]
    policy = cluster.owner.policies.launch_policy
    document = json.loads(policy.read_text())
    document["secrets"] += [
        {"image": repository, "uri": str(FILE), "path": "/run/secrets/token"},
        {"image": repository, "uri": str(VARIABLE), "env": "TOKEN"},
    ]
    policy.write_text(json.dumps(document))
    broker = cluster.owner.admin()
    try:
        broker.put_resource(FILE, canaries.secret.encode())
        broker.put_resource(VARIABLE, canaries.variable.encode())
    finally:
        broker.close()
    cluster.owner.publish(str(layout), name)
    # Its private half is in nobody's hands from here on.
    cluster.amend(name.partition(":")[0], output={"sealed_for": [RecipientKey.generate().public.jwk()]})
    shutil.rmtree(folder)
    return cluster.reference(name)


def places(cluster: Cluster, canaries: Canaries) -> list[Searched]:
    """The whole host, place by place, for one mark."""
    layout, search = cluster.layout, Search(canaries.mark)
    root, run, owner = layout.root, layout.run, cluster.owner.home
    named = {
        "the bus's files": [root / "jetstream"],
        "the registry's files": [root / "registry"],
        "containerd's files": [root / "containerd", run / "containerd"],
        "the snapshots": [root / "snapshots"],
        "the sealed stores": [root / "state/stores"],
        "the logs": [root / "logs", root / "state/agent-logs"],
        "the pods' run-time files": [run / "pods"],
    }
    known = [owner, *(top for tops in named.values() for top in tops)]
    machine = [Path(top) for top in ("/run", "/tmp", "/var/tmp", "/var/log", "/dev/shm", "/var/lib/enclave-cc")]
    machine.append(images.CACHE.parent)
    launches = [fold(pod, history) for pod, history in cluster.histories().items()]
    hosts = host_processes(cluster, launches)
    readable = set(all_pids()) - workloads(launches)
    return [
        *(search.folders(place, tops) for place, tops in named.items()),
        search.folders("the rest of the stack's files", [root, run], but=known),
        search.changed_files("the machine's files", machine, but=[root, run]),
        search.processes("command lines", "cmdline", readable),
        search.processes("environments", "environ", readable),
        search.memory("the memory of the host's processes", hosts),
        asyncio.run(messages(cluster, search)),
        exports(cluster, search),
    ]


async def messages(cluster: Cluster, search: Search) -> Searched:
    async with await connect(cluster.stack.credentials("orchestrator"), "tests") as bus:
        names = json.loads(await bus.request("$JS.API.STREAM.NAMES", b"", 5))["streams"]
        assert {subjects.EVENTS, subjects.COMMANDS, subjects.DEAD_LETTERS} <= set(names)
        return await search.messages("the bus's messages", bus, names)


def exports(cluster: Cluster, search: Search) -> Searched:
    """What `enclave-cc export` gives away of every launch: a file that is meant to leave the machine."""
    with TemporaryDirectory() as folder:
        for pod in cluster.histories():
            words = ["export", pod, "-o", f"{folder}/{pod}", "--config", str(cluster.layout.client_config)]
            written = CliRunner().invoke(enclave_cc, words)
            assert written.exit_code == 0, written.output
        return search.folders("the exported launches", [Path(folder)])


def namespaces_of(pids: Iterable[int]) -> set[int]:
    """The pid namespaces of processes that have one of their own."""
    return {inode for pid in pids for inode in pid_namespaces(pid)[:1]} - set(pid_namespaces(os.getpid()))


def workloads(launches: Sequence[Launch]) -> set[int]:
    """The processes of workloads: in a pid namespace made within a boot init's. Boot init itself is none."""
    boots = namespaces_of(boot_inits(launches))
    return {pid for pid in all_pids() if boots & set(pid_namespaces(pid)[1:])}


def boot_inits(launches: Sequence[Launch]) -> list[int]:
    return [app.started.pid for launch in launches for app in launch.containers.values() if app.started]


def host_processes(cluster: Cluster, launches: Sequence[Launch]) -> set[int]:
    """The stack's processes outside the enclaves, but for the owner's key broker."""
    agents = [launch.agent.pid for launch in launches if launch.agent]
    enclaves = namespaces_of([*agents, *boot_inits(launches)])
    found = set(residue.of(cluster.layout).processes()) - {cluster.pid("kbs")}
    return {pid for pid in found if not enclaves & set(pid_namespaces(pid))}


def looked_everywhere(searched: list[Searched]) -> None:
    for place in searched:
        assert place.items > 0, f"nothing was read in {place.place}"
        assert place.bytes > 0, f"nothing was read in {place.place}"
        assert place.unread == [], place.place


def answer(cluster: Cluster, launched: Launched, path: str) -> str:
    """What the workload serves, once it does."""
    address = cluster.kubelet.pod_status(launched.pod).ip

    def ask() -> list[str]:
        try:
            with urllib.request.urlopen(f"http://{address}:8080/{path}", timeout=10) as reply:
                return [reply.read().decode()]
        except urllib.error.URLError as error:
            if isinstance(error.reason, ConnectionRefusedError):
                return []
            raise

    return eventually(ask)[0]


def test_a_running_pods_image_and_secrets_are_nowhere_on_the_host(
    cluster: Cluster, canaries: Canaries, tmp_path: Path
) -> None:
    reference = publish(cluster, canaries, "canary:1", ("/bin/sh", "-c", SERVED), tmp_path)
    with cluster.launched(reference) as launched:
        got = [answer(cluster, launched, path) for path in ("", "secret", "variable", canaries.name)]
        assert got == [canaries.page, canaries.secret, canaries.variable, ""]
        log = cluster.kubelet.container_status(launched.containers[0]).log
        eventually(lambda: all(f".{stream}.text." in log.read_text() for stream in ("stdout", "stderr")))
        searched = places(cluster, canaries)
        looked_everywhere(searched)
        assert [found for place in searched for found in place.found] == []
        # They were there to be found, where they belong.
        search = Search(canaries.mark)
        assert search.processes("the workload", "environ", workloads([cluster.launch_of(launched.pod.id)])).found
        assert search.folders("the owner's folder", [cluster.owner.home]).found


def test_a_launch_that_fails_with_its_secrets_in_hand_tells_none_of_them(
    cluster: Cluster, canaries: Canaries, tmp_path: Path
) -> None:
    reference = publish(cluster, canaries, "canary-fails:1", ("/bin/absent",), tmp_path)
    with pytest.raises(Fault):
        cluster.launch(reference, "fails")
    launch = cluster.newest_launch()
    assert launch.failure is not None
    assert launch.failure.transition == "boot_app"
    assert launch.failure.state is State.CONFIG_DELIVERED
    searched = places(cluster, canaries)
    cluster.remove(launch.pod)
    looked_everywhere([place for place in searched if place.place != "the sealed stores"])
    assert [found for place in searched for found in place.found] == []


def test_enclaves_leave_no_core_and_have_the_measured_environment(cluster: Cluster) -> None:
    with cluster.launched(cluster.publish_web("core:1")) as launched:
        launch = cluster.launch_of(launched.pod.id)
        boot = launch.containers[launched.containers[0]].started
        assert boot is not None
        assert launch.agent is not None
        enclaves = {boot.pid, launch.agent.pid, *workloads([launch])}
        assert len(enclaves) >= 3
        for pid in enclaves:
            limits = Path(f"/proc/{pid}/limits").read_text().splitlines()
            core = next(line.split()[4:6] for line in limits if line.startswith("Max core file size"))
            # 0 would leave dumps on where core_pattern pipes them to a program; 1 is too little for a file.
            assert core == ["1", "1"], (pid, core)
        for pid, bundle in (
            (boot.pid, node.boot_bundle(cluster.layout)),
            (launch.agent.pid, node.agent_bundle(cluster.layout)),
        ):
            environment = Path(f"/proc/{pid}/environ").read_bytes().removesuffix(b"\0").split(b"\0")
            assert sorted(environment) == list(measure_image(bundle).entry.environ())


@contextmanager
def planted(cluster: Cluster, canaries: Canaries) -> Iterator[None]:
    """The mark, once in each place that `places` looks through, and taken out again."""
    layout = cluster.layout
    folders = ["jetstream", "registry", "containerd/lib", "snapshots", "state/stores", "logs", "state"]
    files = [layout.root / folder / "planted" for folder in folders]
    files += [layout.run / "pods/planted", Path("/dev/shm") / f"planted-{os.getpid()}"]
    with ExitStack() as undo:
        for file in files:
            file.parent.mkdir(parents=True, exist_ok=True)
            undo.callback(file.unlink)
            file.write_text(canaries.page)
        program = "import sys; text = bytearray(sys.stdin.buffer.readline()); print(flush=True); sys.stdin.read()"
        # The stack's mark makes it one of the stack's processes.
        process = subprocess.Popen(
            [sys.executable, "-c", program, canaries.name],
            env={"PLANTED": canaries.variable, "ENCLAVE_CC_STACK": str(layout.run)},
            stdin=subprocess.PIPE,
            stdout=subprocess.PIPE,
        )
        assert process.stdin is not None
        assert process.stdout is not None
        undo.callback(process.wait)
        undo.callback(process.stdin.close)
        process.stdin.write(f"{canaries.secret}\n".encode())
        process.stdin.flush()
        process.stdout.readline()
        asyncio.run(publish_planted(cluster, canaries))
        yield


async def publish_planted(cluster: Cluster, canaries: Canaries) -> None:
    async with await connect(cluster.stack.credentials("orchestrator"), "tests") as bus:
        await bus.stream.publish(subjects.host_command("nowhere", "plant", "pod"), canaries.page.encode())
        await bus.stream.publish(subjects.history("planted"), canaries.page.encode())


def test_a_canary_planted_in_any_place_is_found_there(cluster: Cluster, canaries: Canaries) -> None:
    with cluster.launched(cluster.publish_web("planted:1")), planted(cluster, canaries):
        searched = places(cluster, canaries)
    looked_everywhere(searched)
    assert [place.place for place in searched if not place.found] == []
    streams = next(place.found for place in searched if place.place == "the bus's messages")
    assert {found.where.split()[0] for found in streams} == {subjects.EVENTS, subjects.COMMANDS}


def test_a_canary_is_found_however_it_is_written(canaries: Canaries, tmp_path: Path) -> None:
    raw = canaries.page.encode()
    inner = gzip.compress(b"before" + raw)
    packed = io.BytesIO()
    with tarfile.open(fileobj=packed, mode="w") as archive:
        entry = tarfile.TarInfo("layer")
        entry.size = len(inner)
        archive.addfile(entry, io.BytesIO(inner))
    written = {
        "plain": b"x" * ((4 << 20) - 20) + raw,  # across the edge of two pieces
        "hex": raw.hex().encode(),
        "HEX": raw.hex().upper().encode(),
        "UTF-16": canaries.page.encode("utf-16-le"),
        "UTF-16, the other way": canaries.page.encode("utf-16-be"),
        "base64+0": base64.b64encode(raw),
        "base64+1": base64.b64encode(b"1" + raw + b"after"),
        "base64+2": base64.urlsafe_b64encode(b"12" + raw + b"after"),
        "plain, packed": os.urandom(5 << 20) + packed.getvalue(),
        "plain, packed by zstd": b"before" + zstd(os.urandom(1 << 20) + gzip.compress(raw)),
    }
    assert set(forms(canaries.mark.text).values()) <= set(written)
    for form, content in written.items():
        file = tmp_path / "planted"
        file.write_bytes(content)
        found = Search(canaries.mark).folders("one folder", [tmp_path]).found
        assert {each.form for each in found} == {form.partition(",")[0]}
    file.unlink()
    (tmp_path / f"named-{canaries.mark}").touch()
    assert Search(canaries.mark).folders("one folder", [tmp_path]).found


def test_a_search_without_a_canary_finds_nothing_and_says_how_much_it_read(tmp_path: Path) -> None:
    (tmp_path / "file").write_bytes(b"nothing here")
    searched = Search(Mark()).folders("one folder", [tmp_path])
    assert (searched.items, searched.found, searched.unread) == (1, [], [])
    assert searched.bytes == len("nothing here") + len("file")
