"""`just e2e-node`: the story on later containerds; commands killed on a real node, and run again."""

from __future__ import annotations

import signal
import subprocess
from pathlib import Path

import pytest

from tests.e2e import next_containerd
from tests.e2e.cluster import Cluster
from tests.e2e.node_host import KEPT, NodeHost, node_host
from tests.e2e.node_story import story
from tests.payload import make_payload
from tests.trees import tree_hash

pytestmark = [pytest.mark.e2e, pytest.mark.timeout(600)]


@pytest.fixture(scope="module")
def payloads(tmp_path_factory: pytest.TempPathFactory) -> tuple[Path, Path]:
    folder = tmp_path_factory.mktemp("payloads")
    return make_payload(folder / "one", "1"), make_payload(folder / "two", "2")


def programs(release: str) -> str:
    if release == "1.6":
        return ""
    try:
        return str(next_containerd.binaries(release))
    except next_containerd.Unavailable as reason:
        pytest.skip(f"containerd {release}: {reason}")


@pytest.mark.parametrize("release", ["1.7", "2.1"])
def test_installed_launched_upgraded_rolled_back_and_gone(
    cluster: Cluster, payloads: tuple[Path, Path], release: str
) -> None:
    with node_host(cluster, programs(release)) as node:
        story(node, payloads, f"{release}.")


def killed(node: NodeHost, number: int, *arguments: str | Path) -> bool:
    """Run the command and kill it when it has told its line of that number; False when it came to its end before."""
    began = subprocess.Popen(node.command(*arguments), stderr=subprocess.PIPE, stdout=subprocess.DEVNULL, text=True)
    assert began.stderr is not None
    for count, _ in enumerate(began.stderr, 1):
        if count == number:
            began.send_signal(signal.SIGKILL)
            break
    began.stderr.close()
    return began.wait() == -signal.SIGKILL


@pytest.mark.parametrize("release", ["1.6", "2.1"])
def test_killed_at_every_third_line_on_a_real_node_and_run_again(
    cluster: Cluster, payloads: tuple[Path, Path], release: str
) -> None:
    with node_host(cluster, programs(release)) as node:
        before = tree_hash(node.root, KEPT)
        verbs: tuple[tuple[tuple[str | Path, ...], str], ...] = (
            (("install", "--payload", payloads[0]), "installed"),
            (("upgrade", "--payload", payloads[1]), "upgraded"),
            (("rollback",), "rolled-back"),
            (("uninstall",), "uninstalled"),
        )
        for offset in range(2, 5):
            for arguments, phase in verbs:
                for number in range(offset, 100, 3):
                    if not killed(node, number, *arguments):
                        break
                assert node.run(*arguments)["phase"] == phase
            assert tree_hash(node.root, KEPT) == before
