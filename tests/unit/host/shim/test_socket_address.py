from __future__ import annotations

import json
import socket
import stat
from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

import pytest

from workers.host.shim.socket_address import MAX_PATH, listen, remove_dead, sandbox_of, socket_path


def test_a_containers_pod_is_its_sandbox_and_a_bundle_without_one_is_its_own(
    bundle: Callable[..., Path], tmp_path: Path
) -> None:
    assert sandbox_of(str(bundle("c1", sandbox_id="p1")), "c1") == "p1"
    assert sandbox_of(str(bundle("c2")), "c2") == "c2"
    assert sandbox_of(str(tmp_path / "gone"), "c3") == "c3"


@pytest.mark.parametrize("separators", [(",", ":"), (", ", ": ")], ids=["as containerd writes it", "spaced"])
def test_only_an_annotation_names_the_pod_and_no_text_that_looks_like_one(
    tmp_path: Path, separators: tuple[str, str]
) -> None:
    name = "io.kubernetes.cri.sandbox-id"
    document: dict[str, object] = {"process": {"env": [f'X={{"{name}":"forged"}}']}, "annotations": {name: "p1"}}
    (tmp_path / "config.json").write_text(json.dumps(document, separators=separators))
    assert sandbox_of(str(tmp_path), "c1") == "p1"
    document = {"linux": {"sysctl": {name: "p2"}}, **document}
    (tmp_path / "config.json").write_text(json.dumps(document, separators=separators))
    assert sandbox_of(str(tmp_path), "c1") == "p1"


def test_one_pod_has_one_path_and_no_two_pods_share_one() -> None:
    paths = {
        socket_path(containerd, namespace, sandbox)
        for containerd in ("/run/a/c.sock", "/run/a/d.sock")
        for namespace in ("k8s.io", "moby")
        for sandbox in ("p1", "p2")
    }
    assert len(paths) == 8
    assert all(len(path) <= MAX_PATH and path.startswith("/run/a/enclave-cc/") for path in paths)
    assert socket_path("/run/a/c.sock", "k8s.io", "p1") in paths


def test_a_path_that_does_not_fit_an_address_is_refused() -> None:
    with pytest.raises(ValueError, match="longer than"):
        socket_path(f"/{'x' * 90}/c.sock", "k8s.io", "p1")


def test_the_first_listens_the_second_finds_it_and_a_dead_ones_socket_is_replaced(short: Path) -> None:
    path = str(short / "enclave-cc" / "pod")
    first = listen(path)
    assert first is not None
    assert listen(path) is None
    assert not remove_dead(path)
    first.close()
    second = listen(path)
    assert second is not None
    second.close()
    assert remove_dead(path)
    assert remove_dead(path)
    assert not Path(path).exists()


def test_only_root_reaches_the_socket(short: Path) -> None:
    path = short / "enclave-cc" / "pod"
    listener = listen(str(path))
    assert listener is not None
    assert stat.S_IMODE(path.stat().st_mode) == 0o600
    assert stat.S_IMODE(path.parent.stat().st_mode) == 0o700
    listener.close()


def test_of_many_starts_at_once_one_listens(short: Path) -> None:
    path = str(short / "enclave-cc" / "pod")
    dead = listen(path)
    assert dead is not None
    dead.close()
    with ThreadPoolExecutor(16) as pool:
        made = [listener for listener in pool.map(listen, [path] * 64) if listener is not None]
    assert len(made) == 1
    with socket.socket(socket.AF_UNIX) as probe:
        probe.connect(path)
    made[0].close()
