"""The shim beside containerd's own, in one run under one containerd: `just bench shim [--pods 100]`.

1. `start`: the command that containerd runs for a pod, by itself; and until its shim answers.
2. A pod's life without image work and without an enclave: RunPodSandbox, CreateContainer, StartContainer,
   StopPodSandbox, RemovePodSandbox, with the bus, the orchestrator and the worker's loop in ours (see plain_node). What
   an enclave adds to that is `just bench launch`'s.
3. Memory a pod, 20 and then `--pods` running: resident, and the share of it that is a pod's own (PSS). Ours counts the
   zygote's share too, divided among its pods.
4. State, Pids and Stats of a running container, over the shim's own socket.
5. A command beside a workload, through the CRI: here with an enclave, whose agent judges and whose boot init runs it.

Kinds take turns, so that what the machine does besides meets both. Writes tests/bench/results/shim.json. Ends with
status 1 if a goal was missed.
"""

from __future__ import annotations

import argparse
import asyncio
import json
import os
import secrets
import subprocess
import sys
import tempfile
import time
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import asdict, dataclass
from datetime import UTC, datetime
from itertools import pairwise
from pathlib import Path
from statistics import median
from typing import Any

from deploy.local import images, registry
from deploy.local.cri import ContainerSpec, Kubelet, Pod
from deploy.local.stack import Stack
from schemas.containerd import task_pb2 as pb
from tests.bench import machine, shims
from tests.bench.waterfall import Summary, summary
from tests.e2e.cluster import Cluster
from tests.e2e.containerd import Containerd, Settings
from tests.e2e.images import busybox, image, plain, write_archive
from tests.e2e.test_exec import admit
from tests.simulators import guarded_bus
from tests.waiting import eventually
from workers.host.node import ENVIRONMENT as NODE_CONFIG
from workers.host.shim.serve import TTRPC_ADDRESS
from workers.host.shim.start import ZYGOTE

RESULT = Path(__file__).parent / "results/shim.json"
IMAGE = "localhost/enclave-cc/bench:1"
GO, OURS = "containerd-shim-runc-v2", "containerd-shim-enclave-cc-v2"
HANDLERS = {"runc": GO, "enclave-cc": OURS}
STARTS, LIVES, CALLS, COMMANDS = 40, 20, 2_000, 20
WARM_UP = 3
NOTHING = ("/bin/true",)
SLEEP = ("/bin/sleep", "100000")


@dataclass(frozen=True, slots=True)
class Goal:
    """At most `limit` times what the Go shim takes."""

    name: str
    ratio: float
    limit: float

    @property
    def met(self) -> bool:
        return self.ratio <= self.limit

    def line(self) -> str:
        return f"GOAL {self.name} {self.ratio:.2f} {self.limit:g} {'met' if self.met else 'missed'}"


class Bench:
    """A containerd with both runtimes, and everything behind ours."""

    def __init__(self, containerd: Containerd, environment: dict[str, str], zygote: int) -> None:
        self.containerd = containerd
        self.environment = environment
        self.zygote = zygote
        self.kubelets = {handler: containerd.kubelet(handler) for handler in HANDLERS}
        self._count = 0

    def run_pod(self, handler: str) -> tuple[Pod, str]:
        """A pod with one container that sleeps; its container's id."""
        self._count += 1
        kubelet = self.kubelets[handler]
        pod = kubelet.run_pod(f"bench-{self._count}")
        container = kubelet.create_container(pod, ContainerSpec("main", IMAGE, SLEEP))
        kubelet.start_container(container)
        return pod, container

    def address(self, id_: str) -> str:
        """Of the shim that serves a task."""
        return (self.containerd.root / f"run/io.containerd.runtime.v2.task/k8s.io/{id_}/address").read_text()

    # --- what is measured, each a table by handler --------------------------------------------------------------------

    def starts(self) -> dict[str, dict[str, Summary]]:
        """Milliseconds of `start`, and until the shim answers."""
        times: dict[str, list[tuple[float, float]]] = {handler: [] for handler in HANDLERS}
        for number in range(STARTS + WARM_UP):
            for handler, program in HANDLERS.items():
                bundle = self.containerd.root / f"start{number}{handler.replace('-', '')}"
                bundle.mkdir()
                annotations = {"io.kubernetes.cri.sandbox-id": bundle.name}
                config = json.dumps({"annotations": annotations}, separators=(",", ":"))  # as containerd writes it
                (bundle / "config.json").write_text(config)
                took = shims.start(program, bundle, self.containerd.address, self.environment)
                times[handler].append(took)
        columns = {handler: list(zip(*taken[WARM_UP:], strict=True)) for handler, taken in times.items()}
        return {
            name: {handler: _milliseconds(of[place]) for handler, of in columns.items()}
            for place, name in enumerate(("start", "start and first answer"))
        }

    def lives(self) -> dict[str, dict[str, Summary]]:
        """Milliseconds of a pod's calls and of all of them together."""
        names = ("RunPodSandbox", "CreateContainer", "StartContainer", "StopPodSandbox", "RemovePodSandbox")
        times: dict[str, list[list[float]]] = {handler: [] for handler in HANDLERS}
        for _ in range(LIVES + WARM_UP):
            for handler in HANDLERS:
                times[handler].append(self._life(self.kubelets[handler]))
        kept = {handler: taken[WARM_UP:] for handler, taken in times.items()}
        table = {
            name: {handler: _milliseconds([calls[place] for calls in taken]) for handler, taken in kept.items()}
            for place, name in enumerate(names)
        }
        return table | {"lifecycle": {handler: _milliseconds(map(sum, taken)) for handler, taken in kept.items()}}

    def _life(self, kubelet: Kubelet) -> list[float]:
        self._count += 1
        edges = [time.perf_counter()]

        def over() -> None:
            edges.append(time.perf_counter())

        pod = kubelet.run_pod(f"bench-{self._count}")
        over()
        container = kubelet.create_container(pod, ContainerSpec("main", IMAGE, SLEEP))
        over()
        kubelet.start_container(container)
        over()
        kubelet.stop_pod(pod.id)
        over()
        kubelet.remove_pod(pod.id)
        over()
        return [end - begin for begin, end in pairwise(edges)]

    def memory(self, ids: dict[str, list[str]]) -> dict[str, dict[str, float]]:
        """KiB a pod."""
        weights = {
            handler: [shims.weigh(shims.pid_of(self.address(id_), id_)) for id_ in pods]
            for handler, pods in ids.items()
        }
        count = len(ids["runc"])
        zygote = shims.weigh(self.zygote).pss / count
        table = {
            "RSS": {handler: median(weight.rss for weight in found) for handler, found in weights.items()},
            "PSS": {handler: sum(weight.pss for weight in found) / count for handler, found in weights.items()},
        }
        table["PSS"]["enclave-cc"] += zygote
        return {f"{name} a pod of {count}": of for name, of in table.items()}

    def calls(self, ids: dict[str, str]) -> dict[str, dict[str, Summary]]:
        """Milliseconds of one call to the shim of a running container."""
        requests = {"State": pb.StateRequest, "Pids": pb.PidsRequest, "Stats": pb.StatsRequest}
        times = {name: {handler: [] for handler in HANDLERS} for name in requests}
        callers = {handler: shims.Caller(self.address(id_)) for handler, id_ in ids.items()}
        for turn in range(20):
            for name, request in requests.items():
                for handler, caller in callers.items():
                    for _ in range(CALLS // 20):
                        took = caller.took(caller.prepare(name, request(id=ids[handler])))
                        times[name][handler] += [took] * (turn > 0)
        for caller in callers.values():
            caller.close()
        return {name: {handler: _milliseconds(taken) for handler, taken in of.items()} for name, of in times.items()}


def commands() -> dict[str, Summary]:
    """Milliseconds of `true` beside a workload through the CRI; in an enclave, admitted by its launch policy."""
    stack = Stack.create(f"bench-{secrets.token_hex(3)}")
    try:
        stack.up()
        cluster = Cluster(stack)
        runc = Kubelet(stack.layout.containerd, handler="runc", log_directory=stack.layout.logs / "pods")
        image = images.busybox({}, command=SLEEP)
        cluster.owner.publish(str(image), "exec:1")
        admit(cluster, "exec", [{"name": "nothing", "args": list(NOTHING)}])
        made = {}
        for handler, kubelet, reference in (
            ("runc", runc, registry.push(stack.layout, image, "plain:1")),
            ("enclave-cc", cluster.kubelet, cluster.reference("exec:1")),
        ):
            kubelet.pull(reference)
            pod = kubelet.run_pod(f"exec-{handler}")
            made[handler] = (kubelet, kubelet.create_container(pod, ContainerSpec("main", reference)))
            kubelet.start_container(made[handler][1])
        times: dict[str, list[float]] = {handler: [] for handler in made}
        for _ in range(COMMANDS + WARM_UP):
            for handler, (kubelet, container) in made.items():
                began = time.perf_counter()
                code, _, _ = kubelet.exec(container, NOTHING)
                times[handler].append(time.perf_counter() - began)
                assert code == 0
        runc.close()
    finally:
        left = stack.down()
    assert left == []
    return {handler: _milliseconds(taken[WARM_UP:]) for handler, taken in times.items()}


def _milliseconds(seconds: Any) -> Summary:
    return summary([round(value * 1e9) for value in seconds])


@contextmanager
def _process(*words: str, environment: dict[str, str], log: Path) -> Iterator[int]:
    with log.open("ab") as file:
        process = subprocess.Popen(words, env=environment, stdout=file, stderr=file)
    try:
        yield process.pid
    finally:
        process.terminate()
        process.wait(20)


@contextmanager
def _behind(folder: Path, url: str) -> Iterator[tuple[dict[str, str], int]]:
    """The orchestrator, the node, the zygote; the environment of whoever runs a shim, and the zygote's pid."""
    rootfs = folder / "rootfs"
    rootfs.mkdir()
    archive = folder / "root.tar"
    archive.write_bytes(busybox())
    subprocess.run(["tar", "-xf", archive, "-C", rootfs], check=True)
    for name in ("dev", "proc", "sys", "etc", "run"):
        (rootfs / name).mkdir()
    (folder / "url").write_text(url)
    zygote = folder / "zygote.sock"
    environment = {**os.environ, ZYGOTE: str(zygote), NODE_CONFIG: str(folder / "node.toml")}
    python, ca, credentials = sys.executable, str(folder / "tls/ca.pem"), str(folder / "bus/orchestrator.creds")
    orchestrator = (python, "-m", "orchestrator", "--bus", url, "--ca", ca, "--credentials", credentials)
    node = (python, "-m", "tests.bench.plain_node", str(folder), str(rootfs))
    forker = (python, "-m", "workers.host.shim.zygote", "--address", str(zygote))
    with (
        _process(*orchestrator, environment=environment, log=folder / "orchestrator.log"),
        _process(*node, environment=environment, log=folder / "node.log"),
        _process(*forker, environment=environment, log=folder / "zygote.log") as pid,
    ):
        eventually(zygote.exists)
        yield environment, pid


def measure(folder: Path, url: str, pods: int) -> dict[str, dict[str, Any]]:
    """Everything, by what was measured and by handler."""
    with (
        _behind(folder, url) as (environment, zygote),
        Containerd(Settings(snapshotter=False, environment=environment)) as running,
    ):
        write_archive(folder / "image.tar", image([plain(busybox())], {"Entrypoint": ["/bin/sh"]}), IMAGE)
        running.ctr("images", "import", str(folder / "image.tar"))
        environment["PATH"] = f"{running.root / 'bin'}:{environment['PATH']}"
        environment[TTRPC_ADDRESS] = f"{running.address}.ttrpc"
        bench = Bench(running, environment, zygote)
        found: dict[str, dict[str, Any]] = {**bench.starts(), **bench.lives()}
        made: dict[str, list[tuple[Pod, str]]] = {handler: [] for handler in HANDLERS}
        for count in sorted({min(20, pods), pods}):
            for _ in range(count - len(made["runc"])):
                for handler, those in made.items():
                    those.append(bench.run_pod(handler))
            found |= bench.memory({handler: [pod.id for pod, _ in those] for handler, those in made.items()})
        containers = {handler: those[-1][1] for handler, those in made.items()}
        found |= bench.calls(containers)
        running.cri.remove_everything()
    return found


def goals(found: dict[str, dict[str, Any]]) -> list[Goal]:
    """What the shim is held to."""

    def ratio(name: str) -> float:
        ours, go = (getattr(found[name][handler], "median", found[name][handler]) for handler in ("enclave-cc", "runc"))
        return float(ours / go)

    largest = [name for name in found if name.startswith("PSS")]
    limits = {"start": 1.3, **dict.fromkeys(largest, 1.0), "State": 1.2, "lifecycle": 1.25}
    return [Goal(name.replace(" ", "-"), ratio(name), limit) for name, limit in limits.items()]


def main() -> int:
    """0 when every goal was met."""
    parser = argparse.ArgumentParser(prog="just bench shim", description=__doc__.partition("\n")[0])
    parser.add_argument("--pods", type=int, default=100, help="pods of each kind that run at once (default 100)")
    parser.add_argument("--output", type=Path, default=RESULT)
    wanted = parser.parse_args()
    facts = machine.facts()

    async def whole() -> dict[str, dict[str, Any]]:
        with tempfile.TemporaryDirectory(prefix="ecc-") as temporary:
            async with guarded_bus.running(Path(temporary)) as bus:
                return await asyncio.to_thread(measure, Path(temporary), bus.url, wanted.pods)

    found = asyncio.run(whole()) | {"exec": commands()}
    for name, of in found.items():
        print(f"{name:28} " + "  ".join(f"{handler} {_shown(value)}" for handler, value in of.items()))
    judged = goals(found)
    for goal in judged:
        print(goal.line())
    document = {
        "bench": "shim",
        "measured": datetime.now(UTC).isoformat(timespec="seconds"),
        "machine": facts,
        "unit": {"times": "ms", "memory": "KiB"},
        "found": {name: {handler: _plain(value) for handler, value in of.items()} for name, of in found.items()},
        "goals": [asdict(goal) | {"met": goal.met} for goal in judged],
    }
    wanted.output.write_text(json.dumps(document, indent=1) + "\n")
    return 0 if all(goal.met for goal in judged) else 1


def _shown(value: object) -> str:
    return f"{value.median:9.3f} (p90 {value.p90:.3f})" if isinstance(value, Summary) else f"{value:>9}"


def _plain(value: object) -> object:
    if isinstance(value, Summary):
        return {name: round(part, 3) for name, part in asdict(value).items()}
    return round(value, 1) if isinstance(value, float) else value


if __name__ == "__main__":
    sys.exit(main())
