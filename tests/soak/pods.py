"""Many confidential pods on one node at once: `just soak-pods [--pods 100] [--at-once 16]`.

Every pod is launched with a workload that answers, and all of them answer while all of them run; then they are stopped
and removed, so many at a time, and neither a pod's traces nor anything of the stack is left. Needs root, and some 80 MB
of memory a pod.
"""

from __future__ import annotations

import argparse
import secrets
import signal
import sys
import time
from collections.abc import Callable, Iterable
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

from deploy.local.stack import Stack
from orchestrator.faults import Fault
from tests.e2e.cluster import Cluster, Launched, fetch
from tests.waiting import eventually

BODY = b"one of many\n"


def main() -> int:
    """0 when every pod answered and nothing is left."""
    parser = argparse.ArgumentParser(prog="just soak-pods", description=__doc__.partition("\n")[0])
    parser.add_argument("--pods", type=int, default=100, help="that run at once (default 100)")
    parser.add_argument("--at-once", type=int, default=16, help="that are started, or stopped, at a time (default 16)")
    wanted = parser.parse_args()
    # Told to end, it still takes its stack away.
    signal.signal(signal.SIGTERM, lambda *_: sys.exit(128 + signal.SIGTERM))
    stack = Stack.create(f"soak-{secrets.token_hex(3)}")
    try:
        stack.up()
        wrong = soak(Cluster(stack), wanted.pods, wanted.at_once)
    except Fault as fault:
        wrong = [fault.diagnostics()]
    finally:
        left = stack.down()
    print(*wrong, *left, sep="\n", file=sys.stderr)
    return 1 if wrong or left else 0


def soak(cluster: Cluster, pods: int, at_once: int) -> list[str]:
    """What is wrong. Raises Fault for a launch that fails."""
    reference = cluster.publish_web("many:1", BODY)
    cluster.kubelet.pull(reference)

    def stage(name: str, do: Callable[[Launched], object], these: Iterable[Launched]) -> None:
        began = time.monotonic()
        done = list(workers.map(do, these))
        print(f"{len(done)} {name} in {time.monotonic() - began:.0f} s", flush=True)

    with ThreadPoolExecutor(at_once) as workers:
        began = time.monotonic()
        launched = list(workers.map(lambda n: cluster.launch(reference, f"many-{n}"), range(pods)))
        print(f"{pods} launched in {time.monotonic() - began:.0f} s; {_memory()} MB are free", flush=True)
        stage("answer", lambda one: _answers(cluster, one), launched)
        stage("stopped", lambda one: cluster.kubelet.stop_pod(one.pod.id), launched)
        stage("removed", lambda one: cluster.kubelet.remove_pod(one.pod.id), launched)
    left = [f"{one.pod.name}: {trace}" for one in launched for trace in cluster.traces(one.pod.id)]
    return left + [f"containerd still has {id_}" for id_ in cluster.kubelet.pods()]


def _answers(cluster: Cluster, one: Launched) -> None:
    address = cluster.kubelet.pod_status(one.pod).ip
    assert eventually(lambda: fetch(f"http://{address}:8080/")) == BODY


def _memory() -> int:
    lines = Path("/proc/meminfo").read_text().splitlines()
    return next(int(line.split()[1]) >> 10 for line in lines if line.startswith("MemAvailable"))


if __name__ == "__main__":
    sys.exit(main())
