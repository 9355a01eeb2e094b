"""How containers end: by themselves, asked to, and made to; and what the kubelet and the history say of it."""

from __future__ import annotations

import time
from typing import Any

import pytest

from orchestrator.launch import Container
from tests.kubernetes import histories, workloads
from tests.kubernetes.site import Own, Site
from tests.kubernetes.timing import Record, took
from tests.kubernetes.workloads import shell
from tests.waiting import eventually

pytestmark = [pytest.mark.e2e, pytest.mark.timeout(600)]


def test_a_crashed_container_starts_again_in_the_same_pod(site: Site, record_property: Record) -> None:
    container = shell(site.image("shell"), "echo started; while [ ! -e /tmp/crash ]; do sleep 0.1; done; exit 9")
    with site.running(workloads.pod("crash", container)) as before:
        began = time.monotonic()
        site.touch("crash", "/tmp/crash")
        assert eventually(lambda: site.restarts("crash") == 1 and site.statuses("crash")[0]["ready"], 120)
        took(record_property, "a crashed container, until it is ready again", began)
        after = site.pod("crash")
        assert after["status"]["podIP"] == before["status"]["podIP"]
        assert after["status"]["containerStatuses"][0]["lastState"]["terminated"]["exitCode"] == 9
        assert site.kubectl("logs", "--previous", "crash") == "started\n"
        if site.own is not None:
            first, second = histories.starts(histories.of(site.own.cluster, after))
            assert first.progress.exit is not None
            assert first.progress.exit.code == 9
            assert second.decrypted is not None
            assert second.decrypted.bytes == 0


def test_a_command_runs_after_the_start_and_another_to_its_end_before_the_workload_is_told_to_stop(
    site: Site, node: Own
) -> None:
    script = "trap 'echo told; exit 0' TERM; while :; do sleep 0.1; done"
    hooks = {
        "postStart": {"exec": {"command": ["/bin/sh", "-c", "echo began > /proc/1/fd/1"]}},
        "preStop": {"exec": {"command": ["/bin/sh", "-c", "sleep 1; echo asked > /proc/1/fd/1"]}},
    }
    container = shell(site.image("shell"), script, lifecycle=hooks)
    spec = workloads.pod("hooked", container, terminationGracePeriodSeconds=30)
    site.kubectl.apply(spec)
    pod = site.ready("hooked")
    follower = site.follow("hooked")
    site.remove("pod", "hooked")
    # This kubelet may end a stream that it follows by saying that the container is gone by now.
    assert follower.communicate(timeout=60)[0].splitlines()[:3] == ["began", "asked", "told"]
    (last,) = ended(node, pod)
    assert last.progress.exit is not None
    assert last.progress.exit.code == 0


@pytest.mark.parametrize(("trap", "code"), [("trap 'exit 7' TERM", 7), ("trap '' TERM", 137)], ids=["heeds", "deaf"])
def test_a_workload_has_its_grace_and_is_killed_after_it(
    site: Site, node: Own, record_property: Record, trap: str, code: int
) -> None:
    name = f"grace-{code}"
    script = f"{trap}; while :; do sleep 0.1; done"
    site.kubectl.apply(workloads.pod(name, shell(site.image("shell"), script), terminationGracePeriodSeconds=3))
    pod = site.ready(name)
    began = time.monotonic()
    site.remove("pod", name)
    (container,) = ended(node, pod)
    took(record_property, f"a container with a grace of 3 s, from delete until it ended with {code}", began)
    assert container.progress.exit is not None
    assert container.progress.exit.code == code


def test_nothing_of_a_deleted_pod_is_left_on_its_node(site: Site, node: Own, record_property: Record) -> None:
    with site.running(workloads.pod("traceless", {"image": site.image("web")})) as pod:
        launch = histories.of(node.cluster, pod)
        assert site.left_of(launch)
        began = time.monotonic()
    assert eventually(lambda: site.left_of(launch) == [], 180)
    took(record_property, "a pod with a grace of 5 s, from delete until the node has nothing of it", began)


def test_pods_that_are_deleted_while_they_start_leave_nothing(site: Site, node: Own) -> None:
    """Each a little later than the one before it: wherever its launch was by then."""
    names = [f"brief-{number}" for number in range(5)]
    for number, name in enumerate(names):
        site.kubectl.apply(workloads.pod(name, {"image": site.image("web")}, terminationGracePeriodSeconds=1))
        eventually(lambda name=name: site.statuses(name))
        time.sleep(0.4 * number)
        site.remove("pod", name)
    mine = histories.launches(node.cluster, site.kubectl.namespace).values()
    briefly = [launch for launch in mine if launch.requested is not None and launch.requested.name in names]
    assert eventually(lambda: site.left_of(*briefly) == [], 180)


def ended(node: Own, pod: dict[str, Any]) -> list[Container]:
    """The pod's containers, once the history has the end of each."""

    def look() -> list[Container]:
        found = list(histories.of(node.cluster, pod).containers.values())
        return found if all(each.progress.exit is not None for each in found) else []

    return eventually(look)
