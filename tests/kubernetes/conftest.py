"""A control plane, for whoever asks for it."""

from __future__ import annotations

from collections.abc import Iterator

import pytest

from tests.kubernetes import control_plane as planes
from tests.kubernetes.control_plane import ControlPlane


@pytest.fixture(scope="module")
def control_plane(tmp_path_factory: pytest.TempPathFactory) -> Iterator[ControlPlane]:
    """etcd, API server and controller manager, running."""
    with planes.running(tmp_path_factory.mktemp("control-plane")) as plane:
        yield plane
