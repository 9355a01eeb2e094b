"""One cluster for the whole run; and a control plane alone, for whoever asks for it."""

from __future__ import annotations

from collections.abc import Iterator

import pytest

from tests.kubernetes import control_plane as planes
from tests.kubernetes import histories
from tests.kubernetes.control_plane import ControlPlane
from tests.kubernetes.site import Own, Site, own, somebody_elses


@pytest.fixture(scope="session")
def site() -> Iterator[Site]:
    """The cluster under test: KUBECONFIG's, or one of our own."""
    with somebody_elses() as found:
        if found is not None:
            yield found
            return
    with own() as made:
        yield made


@pytest.fixture
def node(site: Site) -> Own:
    """What is seen on the node: the tests that ask for it are left out of somebody else's cluster."""
    if site.own is None:
        pytest.skip("this is seen on the node, and the cluster is somebody else's")
    return site.own


@pytest.fixture(scope="module")
def control_plane(tmp_path_factory: pytest.TempPathFactory) -> Iterator[ControlPlane]:
    """etcd, API server and controller manager, running."""
    with planes.running(tmp_path_factory.mktemp("control-plane")) as plane:
        yield plane


@pytest.fixture(autouse=True)
def _every_launch_is_verified(request: pytest.FixtureRequest) -> Iterator[None]:
    """Whatever a test launched has a history that holds, attestation included, and nothing of it was ignored."""
    if "site" not in request.fixturenames:
        yield
        return
    site: Site = request.getfixturevalue("site")
    if site.own is None:
        yield
        return
    cluster = site.own.cluster
    before = set(histories.launches(cluster, site.kubectl.namespace))
    yield
    made = histories.launches(cluster, site.kubectl.namespace)
    for uid in made.keys() - before:
        assert made[uid].ignored == ()
        assert "proved" in histories.verify(cluster, made[uid])
