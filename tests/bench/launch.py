"""How long a confidential launch takes beside a plain one of the same image: `just bench launch [--n 20]`.

One stack, one containerd. Plain pods (runc) and confidential ones take turns, so that whatever else the machine does
meets both. Each is timed from the kubelet's RunPodSandbox to the workload's first answer over HTTP, and removed before
the next begins. Both images are at the node as a second launch finds them: the plain one pulled and unpacked by
containerd; of the confidential one containerd has a manifest, and every pod's agent pulls and decrypts it anew.

The confidential launch is then cut at the facts of its history: a waterfall with each state's share of the time. The
store of facts is synced to the disk for every fact, as in production.

Writes tests/bench/results/launch.json. Ends with status 1, and writes nothing, if a launch failed or left a trace.
No goal is set yet.
"""

from __future__ import annotations

import argparse
import dataclasses
import http.client
import json
import secrets
import signal
import sys
import time
from collections.abc import Sequence
from datetime import UTC, datetime
from pathlib import Path

from rich.console import Console
from rich.table import Table

from deploy.local import images, registry
from deploy.local.cri import ContainerSpec, Kubelet
from deploy.local.stack import Stack
from orchestrator.faults import Fault
from tests.bench import machine
from tests.bench.waterfall import Calls, Row, Summary, by_call, cut, ratios, rows
from tests.e2e.cluster import WEB, Cluster

RESULT = Path(__file__).parent / "results/launch.json"
WARM_UP = 2
"""Launches of each kind before the first that counts: files are read, snapshots made, bundles mounted once."""

ANSWERS_WITHIN = 10.0
BODY = b"hello\n"
BAR = 40


def main() -> int:
    """0 when every launch succeeded."""
    parser = argparse.ArgumentParser(prog="just bench launch", description=__doc__.partition("\n")[0])
    parser.add_argument("--n", type=int, default=20, help="launches of each kind that count (default 20)")
    parser.add_argument("--output", type=Path, default=RESULT)
    wanted = parser.parse_args()
    facts = machine.facts()
    # Told to end, it still takes its stack away.
    signal.signal(signal.SIGTERM, lambda *_: sys.exit(128 + signal.SIGTERM))
    stack = Stack.create(f"bench-{secrets.token_hex(3)}")
    try:
        stack.up()
        plain, confidential, falls = _launches(Cluster(stack), wanted.n)
    except (Fault, TimeoutError, AssertionError) as failure:
        print(f"a launch failed: {failure}", file=sys.stderr)
        return 1
    finally:
        left = stack.down()
        print(*left, sep="\n", end="\n" if left else "", file=sys.stderr)
    if left:
        return 1
    calls = {"plain": by_call(plain), "confidential": by_call(confidential)}
    waterfall = rows(falls)
    _show(calls, waterfall)
    wanted.output.parent.mkdir(exist_ok=True)
    wanted.output.write_text(json.dumps(_document(facts, wanted.n, calls, waterfall), indent=1) + "\n")
    return 0


def _launches(cluster: Cluster, n: int) -> tuple[list[Calls], list[Calls], list[list[int]]]:
    """`n` plain launches, `n` confidential ones and their steps."""
    sealed = cluster.publish_web("sealed:1", BODY)
    plain = registry.push(cluster.layout, images.busybox({"www/index.html": BODY}, command=WEB), "plain:1")
    runc = Kubelet(cluster.layout.containerd, handler="runc", log_directory=cluster.layout.logs / "pods")
    plains, confidentials, pods = [], [], []
    try:
        for kubelet, image in ((runc, plain), (cluster.kubelet, sealed)):
            kubelet.pull(image)
        for number in range(WARM_UP + n):
            (_, one), (pod, other) = _launch(runc, plain, number), _launch(cluster.kubelet, sealed, number)
            if number >= WARM_UP:
                plains.append(one)
                confidentials.append(other)
                pods.append(pod)
    finally:
        runc.close()
    histories = cluster.histories()
    falls = [cut(c, histories[p], cluster.launch_of(p)) for c, p in zip(confidentials, pods, strict=True)]
    return plains, confidentials, falls


def _launch(kubelet: Kubelet, image: str, number: int) -> tuple[str, Calls]:
    """One pod from its request to its first answer, and away; its id and its times."""
    begun = time.time_ns()
    pod = kubelet.run_pod(f"bench-{number}")
    try:
        ran = time.time_ns()
        container = kubelet.create_container(pod, ContainerSpec("web", image))
        created = time.time_ns()
        kubelet.start_container(container)
        started = time.time_ns()
        # Asking for the address is this bench's own; it is part of no launch.
        address = kubelet.pod_status(pod).ip
        asked = time.time_ns()
        _first_answer(address)
        return pod.id, Calls(begun, (ran, created, started, started + time.time_ns() - asked))
    finally:
        kubelet.stop_pod(pod.id)
        kubelet.remove_pod(pod.id)


def _first_answer(address: str) -> None:
    """Ask until the workload answers. Raises TimeoutError."""
    ends = time.monotonic() + ANSWERS_WITHIN
    while time.monotonic() < ends:
        connection = http.client.HTTPConnection(address, 8080, timeout=ANSWERS_WITHIN)
        try:
            connection.request("GET", "/")
            body = connection.getresponse().read()
        except OSError:
            time.sleep(0.001)
        else:
            assert body == BODY, body
            return
        finally:
            connection.close()
    raise TimeoutError(f"no answer from {address} within {ANSWERS_WITHIN:g} s")


def _show(calls: dict[str, dict[str, Summary]], waterfall: Sequence[Row]) -> None:
    console = Console(width=120)
    times = Table("call", title="From the kubelet's call, ms: median (p90)", title_justify="left")
    for heading in ("plain", "confidential", "times longer"):
        times.add_column(heading, justify="right")
    for call, ratio in ratios(calls["confidential"], calls["plain"]).items():
        both = (f"{s.median:.1f} ({s.p90:.1f})" for s in (calls[kind][call] for kind in ("plain", "confidential")))
        times.add_row(call, *both, f"{ratio:.1f}")
    console.print(times)
    fall = Table("call", "step", title="The confidential launch", title_justify="left")
    for heading in ("median ms", "p90 ms", "share"):
        fall.add_column(heading, justify="right")
    fall.add_column("", no_wrap=True)
    scale = BAR / (waterfall[-1].start_ms + waterfall[-1].summary.median)
    for row in waterfall:
        before, length = round(row.start_ms * scale), max(1, round(row.summary.median * scale))
        name = f"[bold]{row.step.name}[/bold]" if row.step.state else row.step.name
        bar = " " * before + "█" * length
        fall.add_row(
            row.step.call, name, f"{row.summary.median:.1f}", f"{row.summary.p90:.1f}", f"{row.share:.1%}", bar
        )
    console.print(fall)


def _document(
    facts: dict[str, str | int | float], n: int, calls: dict[str, dict[str, Summary]], waterfall: Sequence[Row]
) -> dict[str, object]:
    """The result: milliseconds, shares of the whole as fractions of one."""
    return {
        "bench": "launch",
        "measured": datetime.now(UTC).isoformat(timespec="seconds"),
        "machine": facts,
        "n": n,
        "unit": "ms",
        **{kind: {call: _rounded(summary) for call, summary in of.items()} for kind, of in calls.items()},
        "ratio": {call: round(r, 2) for call, r in ratios(calls["confidential"], calls["plain"]).items()},
        "waterfall": [
            {**dataclasses.asdict(row.step), **_rounded(row.summary), "share": round(row.share, 4)} for row in waterfall
        ],
    }


def _rounded(summary: Summary) -> dict[str, float]:
    return {name: round(value, 2) for name, value in dataclasses.asdict(summary).items()}


if __name__ == "__main__":
    sys.exit(main())
