"""start_app: boot init, measured, in the pod's namespaces, with what the CRI offers at places of its own."""

from __future__ import annotations

import asyncio
import json
import os
import signal
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest

from orchestrator.faults import Code, Permanent
from orchestrator.lifecycle import State
from schemas.places import CONTAINER_FILE, STORE, offered_at
from tests.simulators.enclaves import CpuProcess
from tests.unit.host.pods import HostPod, seen_inside
from workers.host.conmon import Streams
from workers.host.runc import Held, Role, Runc
from workers.host.start_app import offered_binds, read_proposal


def offering(*mounts: dict[str, object]) -> Any:
    """A change of a bundle: these mounts besides."""

    def change(document: dict[str, Any]) -> None:
        document["mounts"].extend(mounts)

    return change


async def test_boot_init_runs_measured_in_the_pods_namespaces(pod: HostPod, cpu: CpuProcess) -> None:
    id_ = pod.container("app", store="app.1")
    fact = await pod.start_app()(pod.command("start_app", id_), pod.launch)
    assert fact.runc_id == id_
    assert await pod.runc.state(id_) == ("running", fact.pid)
    assert pod.runc.held() == [Held(id_, pod.id, id_, Role.APP, 1)]
    enclaves = {enclave.pid: enclave.mrenclave for enclave in (await cpu.libos.status()).enclaves}
    assert enclaves[fact.pid] == fact.measurement
    own = Path("/proc/self/ns")
    for kind in ("net", "ipc", "uts"):  # the sandbox's process is this one, for the test
        assert Path(f"/proc/{fact.pid}/ns/{kind}").stat().st_ino == (own / kind).stat().st_ino
    assert Path(f"/proc/{fact.pid}/ns/pid").stat().st_ino != (own / "pid").stat().st_ino


async def test_it_is_told_which_container_it_is_and_gets_its_store_and_the_offered_mounts(
    pod: HostPod, tmp_path: Path
) -> None:
    for name in ("hosts", "data"):
        (tmp_path / name).write_text(f"the node's {name}")
    id_ = pod.container(
        "app",
        offering(
            {
                "destination": "/etc/hosts",
                "type": "bind",
                "source": str(tmp_path / "hosts"),
                "options": ["rbind", "ro"],
            },
            {"destination": "/data", "type": "none", "source": str(tmp_path / "data"), "options": ["rbind", "rw"]},
        ),
        store="app.1",
    )
    fact = await pod.start_app()(pod.command("start_app", id_, attempt=1), pod.launch)
    assert json.loads(seen_inside(fact.pid, CONTAINER_FILE)) == {"container": id_, "attempt": 1}
    assert seen_inside(fact.pid, STORE) == "sealed store of app"
    assert seen_inside(fact.pid, offered_at("/etc/hosts")) == "the node's hosts"
    access = {
        line.split()[4]: line.split()[5].split(",")[0]
        for line in Path(f"/proc/{fact.pid}/mountinfo").read_text().splitlines()
    }
    assert access[STORE] == access[CONTAINER_FILE] == access[offered_at("/etc/hosts")] == "ro"
    assert access[offered_at("/data")] == "rw"


async def test_its_streams_are_containerds(pod: HostPod, tmp_path: Path) -> None:
    out = tmp_path / "out"
    os.mkfifo(out)
    id_ = pod.container("app", store="app.1")
    asked = pod.launch.containers[id_]
    asked = replace(asked, requested=replace(asked.requested, stdout=str(out)))
    launch = replace(pod.launch, containers={id_: asked})
    await pod.start_app()(pod.command("start_app", id_), launch)
    reader = os.open(out, os.O_RDWR)
    assert os.read(reader, 100) == b"boot init is up\n"
    os.close(reader)


async def test_asked_again_it_finds_what_it_started_and_makes_again_what_did_not_get_so_far(pod: HostPod) -> None:
    id_ = pod.container("app", store="app.1")
    _, bundle = pod.bundles.bundle("app-created")
    await pod.runc.create(Held(id_, pod.id, id_, Role.APP, 1), bundle, Streams())
    first = await pod.start_app()(pod.command("start_app", id_), pod.launch)
    assert await pod.start_app()(pod.command("start_app", id_), pod.launch) == first
    os.kill(first.pid, signal.SIGKILL)
    while pod.runc.exit_of(id_) is None:
        await asyncio.sleep(0.01)
    second = await pod.start_app()(pod.command("start_app", id_), pod.launch)
    assert second.pid != first.pid
    assert await pod.runc.state(id_) == ("running", second.pid)


async def test_a_store_that_is_replaced_by_a_link_while_it_is_mounted_stops_the_start(
    pod: HostPod, tmp_path: Path
) -> None:
    """The agent writes that directory. Here it does so between our look and runc's mount."""
    (tmp_path / "secret").write_text("the host's")
    id_ = pod.container("app", store="app.1")
    store = pod.node.store_dir(pod.id) / "app.1"
    racing = tmp_path / "racing-runc"
    racing.write_text(
        f'#!/bin/sh\ncase " $* " in *" create "*) ln -sf {tmp_path}/secret {store} ;; esac\nexec /usr/sbin/runc "$@"\n'
    )
    racing.chmod(0o755)
    pod.runc = Runc(str(racing), pod.node.run_dir)
    with pytest.raises(Permanent) as raised:
        await pod.start_app()(pod.command("start_app", id_), pod.launch)
    assert raised.value.code is Code.RUNTIME
    assert "replaced" in raised.value.diagnosis.got
    assert (await pod.runc.state(id_))[0] == "created", "it never had a first instruction"


async def test_a_container_whose_store_is_not_sealed_is_not_started(pod: HostPod) -> None:
    id_ = pod.container("app")
    assert pod.launch.containers[id_].progress.state is State.REQUESTED
    with pytest.raises(Permanent) as raised:
        await pod.start_app()(pod.command("start_app", id_), pod.launch)
    assert raised.value.code is Code.RUNTIME
    assert pod.runc.held() == []


async def test_an_offered_mount_whose_source_is_gone_is_told_in_runcs_words(pod: HostPod) -> None:
    mount = {"destination": "/data", "type": "bind", "source": "/no/such/volume", "options": ["rbind"]}
    id_ = pod.container("app", offering(mount), store="app.1")
    with pytest.raises(Permanent) as raised:
        await pod.start_app()(pod.command("start_app", id_), pod.launch)
    assert raised.value.code is Code.RUNTIME
    assert "/no/such/volume" in raised.value.diagnosis.got
    assert pod.runc.held() == []


def test_what_is_bound_from_the_node_is_found_by_type_or_by_option() -> None:
    proposed = {
        "mounts": [
            {"destination": "/proc", "type": "proc", "source": "proc"},
            {"destination": "/a", "type": "bind", "source": "/1"},
            {"destination": "/b", "type": "none", "source": "/2", "options": ["rbind", "ro"]},
            {"destination": "/c", "source": "/3", "options": ["bind", "rw"]},
            {"destination": "/d", "type": "tmpfs", "options": ["ro"]},
        ]
    }
    assert offered_binds(proposed) == [
        ("/a", Path("/1"), True),
        ("/b", Path("/2"), False),
        ("/c", Path("/3"), True),
    ]
    assert offered_binds({}) == []


@pytest.mark.parametrize(
    "text",
    [
        "",
        "[]",
        '{"linux": []}',
        '{"process": 1}',
        '{"process": {"capabilities": []}}',
        '{"process": {"capabilities": {"bounding": 1}}}',
        '{"mounts": {}}',
        '{"mounts": [1]}',
        "[" * 100_000,
    ],
)
def test_a_proposal_in_another_form_is_refused(tmp_path: Path, text: str) -> None:
    (tmp_path / "config.json").write_text(text)
    with pytest.raises(Permanent) as raised:
        read_proposal(tmp_path)
    assert raised.value.code is Code.RUNTIME
