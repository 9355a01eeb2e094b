"""A confidential pod from `publish` to its first answer, and away again."""

from __future__ import annotations

import pytest

from deploy.local.cri import ContainerState
from orchestrator.lifecycle import LAUNCH_STATES, State
from tests.e2e.cluster import Cluster, fetch
from tests.waiting import eventually

pytestmark = pytest.mark.e2e


def test_a_pod_reaches_the_seven_states_in_order_and_its_workload_answers(cluster: Cluster) -> None:
    reference = cluster.publish_web("web:1", b"sealed\n")
    with cluster.launched(reference) as launched:
        launch = cluster.launch_of(launched.pod.id)
        container = launch.containers[launched.containers[0]]
        assert (
            *(p.state for p in launch.progress.passed),
            *(p.state for p in container.progress.passed),
        ) == LAUNCH_STATES
        address = cluster.kubelet.pod_status(launched.pod).ip
        assert eventually(lambda: fetch(f"http://{address}:8080/")) == b"sealed\n"
        assert cluster.kubelet.container_status(container.id).state is ContainerState.RUNNING
    assert cluster.launch_of(launched.pod.id).progress.state is State.GONE
    assert cluster.traces(launched.pod.id) == []


def test_exit_codes_and_output_come_back_through_the_cri(cluster: Cluster) -> None:
    reference = cluster.publish_web("talk:1")
    with cluster.launched(reference) as launched:
        container = launched.containers[0]
        cluster.kubelet.stop_container(container, grace_seconds=2)
        status = cluster.kubelet.container_status(container)
        assert (status.state, status.exit_code) in {(ContainerState.EXITED, 143), (ContainerState.EXITED, 137)}
