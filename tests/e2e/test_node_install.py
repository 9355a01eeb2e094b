"""`enclave-cc node` on a node with Debian's containerd and pods. Later containerds: `just e2e-node`."""

from __future__ import annotations

from pathlib import Path

import pytest

from tests.e2e.cluster import Cluster
from tests.e2e.node_host import node_host
from tests.e2e.node_story import story
from tests.payload import make_payload

pytestmark = pytest.mark.e2e


def test_installed_launched_upgraded_rolled_back_and_gone(cluster: Cluster, tmp_path: Path) -> None:
    payloads = make_payload(tmp_path / "one", "1"), make_payload(tmp_path / "two", "2")
    with node_host(cluster) as node:
        story(node, payloads, "1.6.")
