"""Configurations of the enclaves' containers: what of them is the host's to say, and that nothing else gets in."""

from __future__ import annotations

import json
import stat
from pathlib import Path
from typing import Any

import pytest

from workers.host import spec
from workers.host.libos.backend import Bind, ContainerExtras, Device, MountedBundle
from workers.host.libos.entry import Entry

ENTRY = Entry(argv=("/usr/bin/python3.11", "-m", "agent"), env=(("HOME", "/"), ("LANG", "C.UTF-8")), cwd="/")
BUNDLE = MountedBundle(Path("/mnt/bundle"), "ab" * 32, b"m" * 32, ENTRY)
EXTRAS = ContainerExtras(
    binds=(Bind(Path("/run/sgx.sock"), "/dev/enclave-cc/sgx.sock", ("bind", "ro")),),
    devices=(Device("/dev/sgx_enclave", 10, 125, 0o666),),
)
MOUNT = spec.Mount(Path("/run/pod.json"), "/run/enclave-cc/pod.json")
HOSTILE: dict[str, Any] = {
    "root": {"path": "/", "readonly": False},
    "process": {
        "args": ["/bin/evil"],
        "env": ["LD_PRELOAD=/evil.so"],
        "cwd": "/evil",
        "user": {"uid": 7},
        "capabilities": {"effective": ["CAP_SYS_MODULE"]},
        "noNewPrivileges": True,
        "rlimits": [
            {"type": "RLIMIT_NOFILE", "soft": 64, "hard": 64},
            {"type": "RLIMIT_CORE", "soft": 1 << 40, "hard": 1 << 40},
        ],
    },
    "mounts": [{"destination": "/usr", "type": "bind", "source": "/evil", "options": ["bind"]}],
    "hooks": {"prestart": [{"path": "/evil"}]},
    "linux": {
        "cgroupsPath": "/kubepods/pod/app",
        "namespaces": [{"type": "pid", "path": "/proc/1/ns/pid"}],
        "devices": [{"path": "/dev/mem", "type": "c", "major": 1, "minor": 1}],
        "resources": {
            "memory": {"limit": 1 << 28},
            "cpu": {"shares": 512},
            "devices": [{"allow": True, "access": "rwm"}],
        },
    },
}


def made(kind: str) -> dict[str, Any]:
    if kind == "agent":
        return spec.agent(BUNDLE, EXTRAS, [MOUNT], "/run/netns/pod", "/kubepods/pod/p-agent")
    return spec.boot(BUNDLE, EXTRAS, [MOUNT], HOSTILE, 4001)


@pytest.mark.parametrize("kind", ["agent", "boot"])
def test_the_process_and_the_root_are_the_measured_bundles(kind: str) -> None:
    document = made(kind)
    assert document["root"] == {"path": "/mnt/bundle", "readonly": True}
    process = document["process"]
    assert process["args"] == list(ENTRY.argv)
    assert process["env"] == ["HOME=/", "LANG=C.UTF-8"]
    assert (process["cwd"], process["user"], process["terminal"]) == ("/", {"uid": 0, "gid": 0}, False)
    assert "evil" not in json.dumps(document)
    assert "hooks" not in document


@pytest.mark.parametrize("kind", ["agent", "boot"])
def test_an_enclaves_memory_never_becomes_a_core_file(kind: str) -> None:
    limits = [limit for limit in made(kind)["process"]["rlimits"] if limit["type"] == "RLIMIT_CORE"]
    assert limits == [{"type": "RLIMIT_CORE", "hard": 1, "soft": 1}], "one byte: not even to a program that takes cores"


@pytest.mark.parametrize("kind", ["agent", "boot"])
def test_it_has_pids_and_mounts_of_its_own_and_the_pods_network(kind: str) -> None:
    namespaces = made(kind)["linux"]["namespaces"]
    kinds = {entry["type"]: entry.get("path") for entry in namespaces}
    assert len(kinds) == len(namespaces)
    assert kinds["pid"] is kinds["mount"] is None
    if kind == "agent":
        assert (kinds["network"], kinds["ipc"], kinds["uts"]) == ("/run/netns/pod", None, None)
    else:
        assert {kinds[name] for name in ("network", "ipc", "uts")} == {
            f"/proc/4001/ns/{name}" for name in ("net", "ipc", "uts")
        }


@pytest.mark.parametrize("kind", ["agent", "boot"])
def test_every_device_is_denied_but_those_that_the_enclave_needs(kind: str) -> None:
    document = made(kind)["linux"]
    rules = document["resources"]["devices"]
    assert rules[0] == {"allow": False, "access": "rwm"}
    allowed = {(rule["major"], rule["minor"]) for rule in rules[1:]}
    expected = {(10, 125)} if kind == "agent" else {(10, 125), (10, 229)}
    assert allowed == {(d["major"], d["minor"]) for d in document["devices"]} == expected


def test_the_agent_has_no_capability_and_gains_none() -> None:
    process = made("agent")["process"]
    assert not any(process["capabilities"].values())
    assert process["noNewPrivileges"] is True
    assert made("agent")["linux"]["cgroupsPath"] == "/kubepods/pod/p-agent"


def test_boot_init_can_give_a_workload_the_usual_capabilities_and_the_cris_limits_hold_for_it() -> None:
    document = made("boot")
    granted = document["process"]["capabilities"]
    assert set(granted) == {"bounding", "effective", "permitted", "inheritable"}
    assert all(set(names) == set(spec.BOOT_CAPABILITIES) for names in granted.values())
    assert not {"CAP_SYS_MODULE", "CAP_SYS_RAWIO"} & set(spec.BOOT_CAPABILITIES)
    assert "CAP_SYS_PTRACE" in spec.BOOT_CAPABILITIES, "no command could be started beside a workload that is not root"
    assert document["linux"]["cgroupsPath"] == "/kubepods/pod/app"
    resources = document["linux"]["resources"]
    assert (resources["memory"], resources["cpu"]) == ({"limit": 1 << 28}, {"shares": 512})
    assert {"type": "RLIMIT_NOFILE", "soft": 64, "hard": 64} in document["process"]["rlimits"]


def test_what_acts_on_the_pod_alone_is_given_where_it_is_asked_for_and_what_acts_on_the_machine_never_is() -> None:
    asked = {"bounding": ["CAP_NET_ADMIN", "CAP_SYS_TIME"], "permitted": ["CAP_NET_ADMIN", "CAP_BPF"], "ambient": []}
    document = spec.boot(BUNDLE, EXTRAS, [], {"process": {"capabilities": asked}}, 1)
    for names in document["process"]["capabilities"].values():
        assert set(names) - set(spec.BOOT_CAPABILITIES) == {"CAP_NET_ADMIN"}
    machine = {
        "SYS_MODULE",
        "SYS_RAWIO",
        "SYS_BOOT",
        "SYS_TIME",
        "SYSLOG",
        "MAC_ADMIN",
        "MAC_OVERRIDE",
        "BPF",
        "PERFMON",
    }
    assert not {f"CAP_{name}" for name in machine} & (spec.GRANTABLE | set(spec.BOOT_CAPABILITIES))


def test_a_bare_proposal_is_enough() -> None:
    document = spec.boot(BUNDLE, ContainerExtras(), [], {}, 1)
    assert "cgroupsPath" not in document["linux"]
    assert [limit["type"] for limit in document["process"]["rlimits"]] == ["RLIMIT_CORE"]


def test_two_configurations_share_nothing() -> None:
    before = json.dumps(HOSTILE)
    first, second = made("boot"), made("boot")
    first["linux"]["resources"]["devices"].clear()
    first["process"]["capabilities"]["bounding"].clear()
    assert second == made("boot")
    assert json.dumps(HOSTILE) == before


@pytest.mark.parametrize("writable", [False, True])
def test_what_the_host_mounts_is_read_only_unless_it_says_so(writable: bool) -> None:
    entry = spec.Mount(Path("/a"), "/b", writable=writable).entry()
    assert (entry["source"], entry["destination"], entry["type"]) == ("/a", "/b", "bind")
    assert ("rw" if writable else "ro") in entry["options"]
    assert {"nosuid", "nodev", "private"} < set(entry["options"])


@pytest.mark.parametrize("kind", ["agent", "boot"])
def test_nothing_is_mounted_over_the_bundles_own_files(kind: str) -> None:
    """The simulated CPU refuses an enclave that has: only these places are for mounts."""
    tops = {"/" + mount["destination"].split("/")[1] for mount in made(kind)["mounts"]}
    assert tops <= {"/proc", "/dev", "/sys", "/run", "/tmp"}


def test_a_written_configuration_is_for_root_only(tmp_path: Path) -> None:
    spec.write(made("agent"), tmp_path / "a/b")
    spec.write(made("boot"), tmp_path / "a/b")
    assert json.loads((tmp_path / "a/b/config.json").read_text()) == made("boot")
    assert stat.S_IMODE((tmp_path / "a/b").stat().st_mode) == 0o700
