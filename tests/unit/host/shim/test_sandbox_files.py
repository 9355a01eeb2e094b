"""A pod's names and resolver, as containerd would have written and mounted them."""

from __future__ import annotations

import json
import socket
from pathlib import Path
from typing import Any

import pytest

from orchestrator.faults import Code, Permanent
from schemas.containerd import cri_pb2
from workers.host.shim.sandbox_files import FILES, mount_into, write


@pytest.fixture
def sandbox(tmp_path: Path) -> Path:
    folder = tmp_path / "sandbox"
    folder.mkdir()
    (tmp_path / "hosts").write_text("127.0.0.1 localhost\n")
    (tmp_path / "resolv.conf").write_text("nameserver 192.0.2.1\n")
    return folder


def container(tmp_path: Path, **document: Any) -> Path:
    (tmp_path / "config.json").write_text(json.dumps({"process": {"args": ["é"]}, **document}))
    return tmp_path


def mounts(bundle: Path) -> list[dict[str, Any]]:
    found: list[dict[str, Any]] = json.loads((bundle / "config.json").read_text())["mounts"]
    return found


def test_what_the_pod_says_is_written_as_containerd_writes_it(sandbox: Path) -> None:
    dns = cri_pb2.DNSConfig(
        servers=["10.9.9.9", "10.9.9.8"], searches=["a.local", "local"], options=["ndots:5", "edns0"]
    )
    write(sandbox, cri_pb2.PodSandboxConfig(hostname="web", dns_config=dns), sandbox.parent)
    assert (sandbox / "hostname").read_text() == "web\n"
    assert (sandbox / "hosts").read_text() == "127.0.0.1 localhost\n"
    told = "search a.local local\nnameserver 10.9.9.9\nnameserver 10.9.9.8\noptions ndots:5 edns0\n"
    assert (sandbox / "resolv.conf").read_text() == told


def test_what_the_pod_does_not_say_is_the_nodes(sandbox: Path) -> None:
    write(sandbox, cri_pb2.PodSandboxConfig(), sandbox.parent)
    assert (sandbox / "hostname").read_text() == socket.gethostname() + "\n"
    assert (sandbox / "resolv.conf").read_text() == "nameserver 192.0.2.1\n"


def test_a_resolver_that_the_pod_leaves_empty_is_empty(sandbox: Path) -> None:
    write(sandbox, cri_pb2.PodSandboxConfig(dns_config=cri_pb2.DNSConfig()), sandbox.parent)
    assert (sandbox / "resolv.conf").read_text() == ""


def test_each_container_finds_the_files_once_however_often_it_is_completed(sandbox: Path, tmp_path: Path) -> None:
    bundle = container(tmp_path)
    for _ in range(2):
        mount_into(bundle, sandbox)
    assert {mount["destination"]: mount["source"] for mount in mounts(bundle)} == {
        place: str(sandbox / name) for place, name in FILES.items()
    }
    assert len(mounts(bundle)) == len(FILES)
    assert json.loads((bundle / "config.json").read_text())["process"] == {"args": ["é"]}


def test_a_place_that_is_taken_is_left_to_who_took_it(sandbox: Path, tmp_path: Path) -> None:
    own = {"destination": "/etc/hosts", "type": "bind", "source": "/kubelet/hosts", "options": ["rbind"]}
    bundle = container(tmp_path, mounts=[own])
    mount_into(bundle, sandbox)
    assert [mount["destination"] for mount in mounts(bundle)] == ["/etc/hosts", "/etc/hostname", "/etc/resolv.conf"]
    assert mounts(bundle)[0] == own


@pytest.mark.parametrize("text", ["", "[]", "{", '{"mounts": 7}', '{"mounts": [{}]}'])
def test_what_is_no_bundle_is_left_for_its_reader_to_refuse(sandbox: Path, tmp_path: Path, text: str) -> None:
    (tmp_path / "config.json").write_text(text)
    mount_into(tmp_path, sandbox)
    assert (tmp_path / "config.json").read_text() == text
    mount_into(tmp_path / "none", sandbox)


def test_a_specification_that_cannot_be_written_is_told(sandbox: Path, tmp_path: Path) -> None:
    bundle = container(tmp_path)
    (bundle / "config.json.new").mkdir()
    with pytest.raises(Permanent) as refused:
        mount_into(bundle, sandbox)
    assert refused.value.code is Code.RUNTIME
