"""A volume's key: the same for every container of a pod, another for every volume, every pod and every resource."""

from __future__ import annotations

import pytest

from orchestrator.faults import Code, Permanent
from workers.enclave.launch_policy.approved import ApprovedMount, ApprovedProcess
from workers.enclave.launch_policy.proposal import Capabilities
from workers.enclave.volume_keys import VolumeKeys, volume_key

URI = "kbs:///default/volume/db"


def process(*mounts: ApprovedMount) -> ApprovedProcess:
    return ApprovedProcess(
        argv=("/bin/app",),
        env=(),
        cwd="/",
        user="0",
        additional_gids=(),
        capabilities=Capabilities(),
        rlimits=(),
        no_new_privileges=True,
        terminal=False,
        mounts=mounts,
        secrets=(),
        hostname="",
        read_only_root=False,
        policy_id="sha256:0",
        rule="rule-0",
        verdict="admitted",
    )


def volume(destination: str, name: str, key: str = "") -> ApprovedMount:
    return ApprovedMount(destination, "bind", "", read_only=False, volume=name, key=key)


def test_a_pods_containers_share_a_volume_by_its_name_wherever_it_is_mounted() -> None:
    pod, other_pod = VolumeKeys(), VolumeKeys()
    first = pod.of(process(volume("/out", "exchange"), volume("/tmp", "scratch")), {})
    second = pod.of(process(volume("/in", "exchange")), {})
    assert first["/out"] == second["/in"]
    assert len({*first.values(), *other_pod.of(process(volume("/in", "exchange")), {}).values()}) == 3
    assert all(len(key) == 32 for key in first.values())


def test_a_resources_key_outlives_the_pod() -> None:
    approved, resources = process(volume("/db", "db", URI)), {URI: b"r" * 32}
    assert VolumeKeys().of(approved, resources) == VolumeKeys().of(approved, resources)
    assert VolumeKeys().of(approved, {URI: b"s" * 32}) != VolumeKeys().of(approved, resources)


def test_the_derivation_is_the_same_for_ever() -> None:
    known = "4b1fdd9fcc494ea23a4064f6e7d867468c957a44fbea2df2963c4095f0ae2674"
    assert volume_key(bytes(range(32)), "db").hex() == known


def test_only_volumes_have_keys() -> None:
    host_data = ApprovedMount("/etc/app", "bind", "", read_only=True)
    assert VolumeKeys().of(process(host_data), {}) == {}


def test_a_resource_that_is_too_short_is_no_key_and_is_not_told() -> None:
    with pytest.raises(Permanent) as raised:
        VolumeKeys().of(process(volume("/db", "db", URI)), {URI: b"hunter2"})
    assert raised.value.code is Code.KEY_MALFORMED
    assert raised.value.diagnosis.got == "7 bytes"
