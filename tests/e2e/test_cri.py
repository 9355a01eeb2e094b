"""One story told under runc and under enclave-cc, on two releases of containerd: where they differ, and why.

The story has every RPC that a kubelet uses. Each difference stands in cri/differences.toml with its reason; one that
does not stand there fails, and so does one that stands there and is none any more.
"""

from __future__ import annotations

import secrets
import tomllib
from collections.abc import Iterator
from pathlib import Path

import pytest

from deploy.local import images, registry
from deploy.local.stack import Stack
from tests.e2e import next_containerd
from tests.e2e.cluster import WEB, Cluster
from tests.e2e.cri.calls import SERVICES, Calls
from tests.e2e.cri.story import FACTS, Images, Story

pytestmark = pytest.mark.e2e
TABLE = Path(__file__).parent / "cri/differences.toml"
TALK = ("/bin/sh", "-c", "echo end; echo end >&2; exit 7")
SHELL = ("/bin/sh", "-c", 'trap "busybox stty size" WINCH; echo ready; while :; do read line && eval "$line"; done')
COUNT = ("/bin/sh", "-c", "busybox wc -c; exit 3")
RELEASES = ("1.6", "1.7")


@pytest.fixture(scope="module", params=RELEASES)
def containerd(request: pytest.FixtureRequest) -> Iterator[tuple[str, Cluster]]:
    """A stack on that release: Debian's own, or the next suite's, found first on the PATH."""
    with pytest.MonkeyPatch.context() as environment:
        if request.param != "1.6":
            try:
                private = next_containerd.binaries(request.param)
            except next_containerd.Unavailable as reason:
                pytest.skip(f"containerd {request.param}: {reason}")
            environment.setenv("PATH", str(private), prepend=":")
        stack = Stack.create(f"test-{secrets.token_hex(3)}")
        try:
            stack.up()
            cluster = Cluster(stack)
            assert cluster.kubelet.version().startswith(f"{request.param}.")
            yield request.param, cluster
        finally:
            left = stack.down()
        assert left == []


def told(cluster: Cluster, handler: str, folder: Path) -> tuple[dict[str, str], set[str]]:
    """The story under a handler, and the RPCs that it called."""
    made = {
        name: images.busybox({"www/index.html": b"hello\n"}, command=command)
        for name, command in (
            ("web", WEB),
            ("facts", ("/bin/sh", "-c", FACTS)),
            ("talk", TALK),
            ("shell", SHELL),
            ("count", COUNT),
        )
    }
    if handler == "runc":
        references = {name: registry.push(cluster.layout, image, f"plain-{name}:1") for name, image in made.items()}
    else:
        for name, image in made.items():
            cluster.owner.publish(str(image), f"sealed-{name}:1")
        cluster.amend("sealed-shell", terminal=True)
        references = {name: cluster.reference(f"sealed-{name}:1") for name in made}
    calls = Calls(cluster.layout.containerd)
    try:
        return Story(calls, handler, Images(**references), folder).tell(), calls.called
    finally:
        calls.close()


def expected(release: str) -> dict[str, tuple[str, str]]:
    """The table's differences on a release: what runc and what enclave-cc tell."""
    rows = tomllib.loads(TABLE.read_text())["difference"]
    assert [row for row in rows if row["by"] not in {"policy", "nature"} or not row["because"]] == []
    here = [row for row in rows if release in row.get("containerd", RELEASES)]
    assert len({row["at"] for row in here}) == len(here)
    return {row["at"]: (row["runc"], row["enclave-cc"]) for row in here}


def test_every_difference_between_runc_and_enclave_cc_is_explained_and_every_explanation_is_needed(
    containerd: tuple[str, Cluster], tmp_path: Path
) -> None:
    release, cluster = containerd
    stories = {}
    for handler in ("runc", "enclave-cc"):
        folder = tmp_path / handler
        folder.mkdir()
        stories[handler], called = told(cluster, handler, folder)
        assert called == set(SERVICES)
    plain, confidential = stories["runc"], stories["enclave-cc"]
    assert plain.keys() == confidential.keys()
    found = {at: (plain[at], confidential[at]) for at in plain if plain[at] != confidential[at]}
    assert found == expected(release)
