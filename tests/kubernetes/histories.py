"""The launches behind a site's pods, as an auditor reads them: folded, and verified by `enclave-cc verify`."""

from __future__ import annotations

from collections.abc import Iterator
from typing import Any

from click.testing import CliRunner

from deploy.cli import enclave_cc
from orchestrator import events
from orchestrator.events import Recorded
from orchestrator.fold import fold
from orchestrator.launch import Container, Launch
from tests.e2e.cluster import Cluster


def launches(cluster: Cluster, namespace: str) -> dict[str, Launch]:
    """The launches of a namespace's pods, by the pod's uid, the newest of each."""
    folded = (fold(pod, history) for pod, history in cluster.histories().items())
    found = ((launch.requested, launch) for launch in folded)
    return {asked.uid: launch for asked, launch in found if asked is not None and asked.namespace == namespace}


def of(cluster: Cluster, pod: dict[str, Any]) -> Launch:
    """The launch of one pod."""
    return launches(cluster, pod["metadata"]["namespace"])[pod["metadata"]["uid"]]


def starts(launch: Launch, name: str = "main") -> list[Container]:
    """The containers that were made under one name, in their order: a restart is a new one in the same launch."""
    return [each for each in launch.containers.values() if each.requested.name == name]


def told(cluster: Cluster, launch: Launch, *kinds: type) -> Iterator[events.Body]:
    """The bodies of these kinds in a launch's history."""
    for message in cluster.histories()[launch.pod]:
        if isinstance(message, Recorded) and isinstance(message.fact.body, kinds):
            yield message.fact.body


def verify(cluster: Cluster, launch: Launch) -> str:
    """`enclave-cc verify`, the quote included: chain, signatures, attestation. Returns what it says that is proved."""
    pki = cluster.layout.root / "cpu/pki"
    words = ["verify", launch.pod, "--config", str(cluster.layout.client_config)]
    words += ["--root", str(pki / "root.der"), "--collateral", str(pki / "collateral.json")]
    done = CliRunner().invoke(enclave_cc, words)
    assert done.exit_code == 0, done.output
    return done.output
