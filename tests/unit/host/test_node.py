"""`node.toml`: what it says is read as it stands, and nothing else is taken for it."""

from __future__ import annotations

import os
import subprocess
import sys
from contextlib import suppress
from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import strategies as st

from orchestrator.faults import Code, Permanent
from workers.host import node as configuration
from workers.host.node import Node

WHOLE = """
node = "node-a"
run_dir = "/run/ecc"
state_dir = "/var/lib/ecc"
runc = "/usr/sbin/runc"
[bus]
url = "tls://127.0.0.1:4222"
ca = "/etc/ca.pem"
[credentials]
worker = "/etc/worker.creds"
agent_signer = "/etc/agents.json"
[enclave]
agent_bundle = "/a.erofs"
boot_bundle = "/b.erofs"
libos = "sim"
socket = "/sgx.sock"
control = "/control.sock"
init_data = "/init-data.toml"
reachable = ["127.0.0.1:5000", "registry.example:443"]
"""


def load(folder: Path, text: str | bytes) -> Node:
    file = folder / "node.toml"
    file.write_bytes(text.encode() if isinstance(text, str) else text)
    return configuration.load(file)


def refused(folder: Path, text: str | bytes) -> Permanent:
    with pytest.raises(Permanent) as raised:
        load(folder, text)
    assert raised.value.code is Code.INPUT
    assert raised.value.diagnosis.expected
    assert raised.value.diagnosis.advice
    return raised.value


def test_a_whole_file_is_read(tmp_path: Path) -> None:
    node = load(tmp_path, WHOLE)
    assert (node.name, node.runc, node.bus_url) == ("node-a", "/usr/sbin/runc", "tls://127.0.0.1:4222")
    assert node.credentials == {"worker": Path("/etc/worker.creds"), "agent_signer": Path("/etc/agents.json")}
    assert node.enclaves.agent_bundle == Path("/a.erofs")
    assert node.enclaves.reachable == {"127.0.0.1:5000", "registry.example:443"}
    assert not node.enclaves.debug
    assert load(tmp_path, WHOLE + "debug = true\n").enclaves.debug


def test_a_pods_places_lie_below_the_nodes(tmp_path: Path) -> None:
    node = load(tmp_path, WHOLE)
    assert node.pod_dir("p") == Path("/run/ecc/pods/p")
    assert node.agent_log("p") == Path("/var/lib/ecc/agent-logs/p.log")
    assert node.store_dir("p") == Path("/var/lib/ecc/stores/p")


@pytest.mark.parametrize("line", [line for line in WHOLE.splitlines() if "=" in line and "reachable" not in line])
def test_nothing_but_what_may_be_reached_can_be_left_out(tmp_path: Path, line: str) -> None:
    name = line.partition(" ")[0]
    if line.startswith(("worker", "agent_signer")):
        assert name not in load(tmp_path, WHOLE.replace(line, "")).credentials
        return
    assert name in str(refused(tmp_path, WHOLE.replace(f"\n{line}\n", "\n")))


@pytest.mark.parametrize("table", ["bus", "credentials", "enclave"])
def test_every_table_is_needed(tmp_path: Path, table: str) -> None:
    assert table in str(refused(tmp_path, WHOLE.replace(f"[{table}]", f"[{table}.deeper]")))


@pytest.mark.parametrize(
    ("was", "is_"),
    [
        ('node = "node-a"', "node = 7"),
        ('node = "node-a"', 'node = "node.a"'),
        ('node = "node-a"', 'node = ""'),
        ('run_dir = "/run/ecc"', 'run_dir = "run/ecc"'),
        ('run_dir = "/run/ecc"', 'run_dir = "/run/\\u0000"'),
        ('worker = "/etc/worker.creds"', "worker = 1"),
        ('libos = "sim"', 'libos = "gramine"'),
        ('libos = "sim"', 'libos = "sim"\ndebug = "true"'),
        ('libos = "sim"', 'libos = "sim"\ndebug = 1'),
        ('["127.0.0.1:5000", "registry.example:443"]', '"127.0.0.1:5000"'),
        ('["127.0.0.1:5000", "registry.example:443"]', "5000"),
        ('["127.0.0.1:5000", "registry.example:443"]', '["127.0.0.1"]'),
        ('["127.0.0.1:5000", "registry.example:443"]', '["127.0.0.1:99999"]'),
        ('["127.0.0.1:5000", "registry.example:443"]', '["*:443"]'),
        ('["127.0.0.1:5000", "registry.example:443"]', "[5000]"),
        ("reachable =", "reachble ="),
        ("[bus]", '[bus]\npassword = "x"'),
    ],
)
def test_a_wrong_member_is_told_and_never_taken_for_something_else(tmp_path: Path, was: str, is_: str) -> None:
    assert was in WHOLE
    refused(tmp_path, WHOLE.replace(was, is_))


@pytest.mark.parametrize(
    "text", [b"", b"\xff\xfe", b"node = ", b"node = " + b"[" * 100_000, b"node = " + b"9" * 10_000, b"\0"]
)
def test_what_is_no_toml_is_a_fault(tmp_path: Path, text: bytes) -> None:
    refused(tmp_path, text)


@given(st.binary() | st.text().map(lambda text: (WHOLE + text).encode("utf-8", "replace")))
def test_any_file_is_read_or_refused(tmp_path_factory: pytest.TempPathFactory, text: bytes) -> None:
    with suppress(Permanent):
        load(tmp_path_factory.getbasetemp(), text)


def test_a_file_that_is_not_there_is_a_fault_that_says_where_it_was_looked_for(tmp_path: Path) -> None:
    with pytest.raises(Permanent) as raised:
        configuration.load(tmp_path / "none.toml")
    assert "none.toml" in str(raised.value)
    assert configuration.ENVIRONMENT in raised.value.diagnosis.advice


def test_the_environment_says_which_file(tmp_path: Path) -> None:
    load(tmp_path, WHOLE)
    environment = {**os.environ, configuration.ENVIRONMENT: str(tmp_path / "node.toml")}
    program = "from workers.host.node import load; print(load().name)"
    line = [sys.executable, "-c", program]
    done = subprocess.run(line, env=environment, capture_output=True, text=True, check=True)
    assert done.stdout == "node-a\n"


def test_a_role_enters_the_bus_with_its_own_file_and_the_buss_authority(tmp_path: Path) -> None:
    (tmp_path / "ca.pem").write_text("PEM")
    node = load(tmp_path, WHOLE.replace("/etc/ca.pem", f"{tmp_path}/ca.pem"))
    credentials = node.credentials_of("worker")
    assert (credentials.ca_pem, credentials.file, credentials.inbox) == ("PEM", "/etc/worker.creds", "_INBOX_worker")
    with pytest.raises(Permanent) as raised:
        node.credentials_of("admin")
    assert "credentials.admin" in str(raised.value)
    (tmp_path / "ca.pem").unlink()
    with pytest.raises(Permanent) as raised:
        node.credentials_of("worker")
    assert raised.value.code is Code.INPUT


def test_a_pod_keeps_the_boot_bundle_of_the_payload_that_its_agent_came_from(tmp_path: Path) -> None:
    node = load(tmp_path, WHOLE.replace('"/run/ecc"', f'"{tmp_path}/run"'))
    assert node.boot_bundle("pod-a") == Path("/b.erofs")
    earlier = tmp_path / "earlier.erofs"
    earlier.touch()
    pinned = node.pinned_boot_bundle("pod-a")
    pinned.parent.mkdir(parents=True)
    pinned.symlink_to(earlier)
    assert (node.boot_bundle("pod-a"), node.boot_bundle("pod-b")) == (earlier, Path("/b.erofs"))
