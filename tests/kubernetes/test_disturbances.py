"""A node's life under its pods: drained, and its kubelet and its containerd restarted."""

from __future__ import annotations

import os
import secrets
import signal
import time
from collections.abc import Iterator
from typing import Any

import pytest

from orchestrator.launch import Launch
from tests.e2e.cluster import fetch
from tests.kubernetes import histories, workloads
from tests.kubernetes.forwarding import forwarded
from tests.kubernetes.kubectl import Refused
from tests.kubernetes.node import NAME
from tests.kubernetes.site import Own, Site
from tests.kubernetes.timing import Record, took
from tests.kubernetes.workloads import PAGE, exec_probe, http_probe
from tests.waiting import eventually

pytestmark = [pytest.mark.e2e, pytest.mark.timeout(600)]


@pytest.fixture
def web(site: Site) -> Iterator[dict[str, Any]]:
    """A pod under both kinds of probe: a lapse of either would be seen."""
    probes = {"readinessProbe": http_probe(), "livenessProbe": {**exec_probe("/bin/true"), "failureThreshold": 10}}
    with site.running(workloads.pod(f"steady-{secrets.token_hex(2)}", {"image": site.image("web"), **probes})) as pod:
        yield pod


def works(site: Site, node: Own, pod: dict[str, Any], launch: Launch) -> None:
    """The pod is what it was: the same containers, not one started again, and it does all that it did."""
    name = pod["metadata"]["name"]
    eventually(lambda: all(status["ready"] for status in site.statuses(name)))
    assert site.restarts(name) == 0
    assert histories.of(node.cluster, pod).containers.keys() == launch.containers.keys()
    assert eventually(lambda: _greets(site, name))
    with forwarded(site.kubectl, name, 8080) as url:
        assert eventually(lambda: fetch(url)) == PAGE.encode()


def _greets(site: Site, name: str) -> bool:
    """Whether a command runs: a kubelet that has just begun may not know the pod yet."""
    try:
        return site.kubectl("exec", name, "--", "/bin/echo", "hello", "again") == "hello again\n"
    except Refused:
        return False


@pytest.mark.parametrize("how", [signal.SIGTERM, signal.SIGKILL], ids=["stopped", "killed"])
def test_pods_run_on_while_their_kubelet_is_restarted(
    site: Site, node: Own, web: dict[str, Any], how: signal.Signals, record_property: Record
) -> None:
    launch = histories.of(node.cluster, web)
    node.node.kubelet.stop(how)
    meanwhile = fetch(f"http://{web['status']['podIP']}:8080/")
    began = time.monotonic()
    node.node.start_kubelet()
    assert meanwhile == PAGE.encode()
    works(site, node, web, launch)
    took(
        record_property,
        f"a kubelet that was {'killed' if how is signal.SIGKILL else 'stopped'}, until its pod works",
        began,
    )


def test_pods_run_on_while_containerd_is_restarted(
    site: Site, node: Own, web: dict[str, Any], record_property: Record
) -> None:
    launch = histories.of(node.cluster, web)
    node.cluster.stop("containerd")
    meanwhile = fetch(f"http://{web['status']['podIP']}:8080/")
    began = time.monotonic()
    node.cluster.start("containerd")
    assert meanwhile == PAGE.encode()
    works(site, node, web, launch)
    took(record_property, "containerd restarted, until its pod works", began)


@pytest.mark.parametrize("victim", ["kubelet", "containerd", "worker"])
def test_a_deployment_comes_up_although_a_process_of_its_node_is_killed_meanwhile(
    site: Site, node: Own, victim: str
) -> None:
    name = f"killed-{victim}"
    site.kubectl.apply(workloads.deployment(name, 3, {"image": site.image("web"), "readinessProbe": http_probe()}))
    namespace = site.kubectl.namespace
    eventually(lambda: any(_of(launch, name) for launch in histories.launches(node.cluster, namespace).values()))
    if victim == "kubelet":
        node.node.kubelet.stop(signal.SIGKILL)
        node.node.start_kubelet()
    else:
        os.kill(node.cluster.pid(victim), signal.SIGKILL)
    site.kubectl("rollout", "status", f"deployment/{name}", "--timeout=240s", seconds=260)
    for pod in site.pods(f"app={name}"):
        assert eventually(lambda pod=pod: _greets(site, pod["metadata"]["name"]))
    made = [launch for launch in histories.launches(node.cluster, namespace).values() if _of(launch, name)]
    site.remove("deployment", name)
    assert eventually(lambda: site.left_of(*made) == [], 180)


def _of(launch: Launch, deployment: str) -> bool:
    return launch.requested is not None and launch.requested.name.startswith(f"{deployment}-")


def test_a_pod_that_is_asked_for_while_the_bus_is_away_starts_when_it_is_back(site: Site, node: Own) -> None:
    node.cluster.stop("bus")
    try:
        site.kubectl.apply(workloads.pod("patient", {"image": site.image("web")}))
        said = eventually(lambda: "E-BUS-001" in site.events("patient"), 120)
    finally:
        node.cluster.start("bus")
    assert said
    site.ready("patient")
    assert _greets(site, "patient")
    site.remove("pod", "patient")


def test_a_drained_node_has_nothing_left_of_its_pods_and_serves_again_after(
    site: Site, node: Own, record_property: Record
) -> None:
    site.kubectl.apply(workloads.deployment("drained", 3, {"image": site.image("web"), "readinessProbe": http_probe()}))
    site.kubectl("rollout", "status", "deployment/drained", "--timeout=120s")
    gone = [histories.of(node.cluster, pod) for pod in site.pods("app=drained")]
    began = time.monotonic()
    site.kubectl(
        "drain", NAME, "--force", "--ignore-daemonsets", "--delete-emptydir-data", "--timeout=180s", seconds=200
    )
    took(record_property, "a drain of three pods", began)
    assert eventually(lambda: not node.cluster.kubelet.pods(), 180)
    assert eventually(lambda: site.left_of(*gone) == [])
    began = time.monotonic()
    site.kubectl("uncordon", NAME)
    site.kubectl("rollout", "status", "deployment/drained", "--timeout=120s")
    took(record_property, "uncordoned, until three pods are ready again", began)
    again = [
        histories.of(node.cluster, pod)
        for pod in site.pods("app=drained")
        if not pod["metadata"].get("deletionTimestamp")
    ]
    assert not {launch.pod for launch in gone} & {launch.pod for launch in again}
    site.remove("deployment", "drained")
