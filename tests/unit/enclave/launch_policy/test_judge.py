"""What the host proposes against what the owner admits: one test a field and way around it."""

from __future__ import annotations

import copy
import dataclasses
import json

import pytest

from orchestrator.faults import Code, Permanent
from tests.unit.enclave.launch_policy.conftest import (
    CONFIG,
    DIGEST,
    IMAGE,
    PROPOSED,
    REPOSITORY,
    policy,
    proposal,
    with_mount,
)
from workers.enclave.image.manifest import ImageConfig
from workers.enclave.image.reference import parse_reference
from workers.enclave.launch_policy.approved import ApprovedMount, ApprovedProcess
from workers.enclave.launch_policy.judge import judge_process
from workers.enclave.launch_policy.proposal import Rlimit

NO_CORE = Rlimit("RLIMIT_CORE", 1, 1)
SECRET = {"image": REPOSITORY, "uri": "kbs:///default/secret/db", "path": "/run/secrets/db"}


class TestTheImagesOwnProcess:
    def test_is_admitted_by_a_rule_that_only_names_the_image(self, judge) -> None:
        approved = judge()
        assert approved.argv == ("/app", "serve")
        assert approved.env == ("PATH=/bin", "MODE=fast")
        assert (approved.cwd, approved.user, approved.uid, approved.gid) == ("/srv", "1000", 1000, None)
        assert approved.additional_gids == ()
        assert approved.capabilities.effective == ("CAP_CHOWN",)
        assert approved.rlimits == (NO_CORE,)
        assert approved.mounts == ()
        assert not approved.terminal
        assert approved.rule == "web"

    def test_the_verdict_tells_what_kubernetes_added_and_was_left_out(self, judge) -> None:
        assert judge().verdict == (
            f"admitted by rule web for {REPOSITORY}; left out: env HOSTNAME, env KUBERNETES_SERVICE_HOST, "
            "env WEB_PORT_80_TCP_ADDR, mount /etc/hosts, mount /etc/resolv.conf"
        )

    def test_has_a_path_even_if_the_image_has_none(self, judge) -> None:
        bare = ImageConfig("amd64", "linux", (), entrypoint=("/app", "serve"), working_dir="/srv", user="1000")
        path = "PATH=/usr/local/sbin:/usr/local/bin:/usr/sbin:/usr/bin:/sbin:/bin"
        assert judge(proposal(env=[path]), config=bare).env == (path,)

    def test_keeps_the_images_variables_that_the_host_leaves_out(self, judge) -> None:
        assert judge(proposal(env=[])).env == ("PATH=/bin", "MODE=fast")

    def test_has_the_same_digest_for_the_same_approval_and_another_for_another(self, judge) -> None:
        assert judge().digest == judge().digest
        assert judge().digest != judge(proposal(noNewPrivileges=True)).digest

    def test_survives_its_encoding(self, judge) -> None:
        approved = judge(with_mount("/data"), mounts=["/data"], secrets=[SECRET])
        assert ApprovedProcess.decode(approved.encode()) == approved


class TestImage:
    def test_no_rule_for_the_image_denies(self, denied) -> None:
        fault = denied(image=parse_reference(f"registry.example/shop/other@{DIGEST}"))
        assert fault.diagnosis.expected == REPOSITORY
        assert fault.diagnosis.got == f"registry.example/shop/other@{DIGEST}"

    def test_a_policy_without_rules_denies(self) -> None:
        with pytest.raises(Permanent) as raised:
            judge_process(policy(), IMAGE, CONFIG, PROPOSED)
        assert raised.value.code is Code.CONFIG_PROCESS_DENIED

    @pytest.mark.parametrize("image", [DIGEST, f"{REPOSITORY}@{DIGEST}"])
    def test_a_rule_may_name_a_digest(self, judge, image) -> None:
        assert judge(image=IMAGE) == judge()
        assert judge_process(policy({"image": image}), IMAGE, CONFIG, PROPOSED).argv == ("/app", "serve")

    def test_a_rule_for_another_digest_denies(self) -> None:
        other = f"{REPOSITORY}@sha256:" + "00" * 32
        with pytest.raises(Permanent):
            judge_process(policy({"image": other}), IMAGE, CONFIG, PROPOSED)

    def test_an_image_that_is_not_pinned_cannot_be_judged(self, judge) -> None:
        with pytest.raises(ValueError, match="pinned"):
            judge(image=parse_reference(f"{REPOSITORY}:v1"))

    def test_rules_for_one_image_are_alternatives_and_a_denial_tells_of_each(self) -> None:
        two = policy(
            {"name": "serve", "image": REPOSITORY},
            {"name": "migrate", "image": REPOSITORY, "args": ["/app", "migrate"]},
        )
        assert judge_process(two, IMAGE, CONFIG, proposal(args=["/app", "migrate"])).rule == "migrate"
        with pytest.raises(Permanent) as raised:
            judge_process(two, IMAGE, CONFIG, proposal(args=["/bin/sh"]))
        assert "serve:" in raised.value.diagnosis.expected
        assert "migrate: ['/app', 'migrate']" in raised.value.diagnosis.expected


class TestArguments:
    def test_others_than_the_images_are_denied(self, denied) -> None:
        fault = denied(proposal(args=["/bin/sh", "-c", "cat /run/secrets/db"]))
        assert "process.args" in fault.diagnosis.message
        assert fault.diagnosis.expected == "the image's own ['/app', 'serve']"
        assert fault.diagnosis.got == "['/bin/sh', '-c', 'cat /run/secrets/db']"

    @pytest.mark.parametrize("args", [["/app"], ["/app", "serve", "--debug"], ["/app serve"], []])
    def test_nearly_the_images_are_denied(self, denied, args) -> None:
        denied(proposal(args=args))

    def test_an_image_without_a_command_needs_a_rule_with_one(self, denied) -> None:
        denied(proposal(args=[]), config=ImageConfig("amd64", "linux", (), working_dir="/srv", user="1000"))

    def test_patterns_match_whole_arguments(self, judge, denied) -> None:
        rule = ["/app", {"pattern": "--port=[0-9]{1,5}"}]
        assert judge(proposal(args=["/app", "--port=80"]), args=rule).argv == ("/app", "--port=80")
        denied(proposal(args=["/app", "--port=80 --evil"]), args=rule)
        denied(proposal(args=["/app", "--port=80\n"]), args=rule)
        denied(proposal(args=["/app", "x--port=80"]), args=rule)

    def test_a_last_place_may_repeat(self, judge, denied) -> None:
        rule = ["/app", {"repeat": {"pattern": "[a-z]+"}}]
        assert judge(proposal(args=["/app"]), args=rule)
        assert judge(proposal(args=["/app", "a", "b"]), args=rule)
        denied(proposal(args=["/app", "a", "-b"]), args=rule)

    def test_any_admits_any(self, judge) -> None:
        assert judge(proposal(args=["/app", "\n"]), args=["/app", {"any": True}])

    def test_from_image_says_the_default_aloud(self, judge) -> None:
        assert judge(args={"from_image": True}).argv == ("/app", "serve")


class TestEnvironment:
    def test_an_unknown_variable_is_denied_and_its_value_is_not_told(self, denied) -> None:
        fault = denied(proposal(env=["LD_PRELOAD=/hunter2.so"]))
        assert "process.env LD_PRELOAD" in fault.diagnosis.message
        assert "hunter2" not in fault.diagnostics()

    def test_another_value_for_the_images_variable_is_denied(self, denied) -> None:
        denied(proposal(env=["PATH=/evil"]))

    def test_an_admitted_variable_is_set(self, judge) -> None:
        rule = [
            {"name": "PORT", "value": {"pattern": "[0-9]+"}},
            {"name": {"pattern": "APP_[A-Z]+"}, "value": {"any": True}},
        ]
        approved = judge(proposal(env=["PORT=80", "APP_COLOUR=red", "MODE=fast"]), env=rule)
        assert approved.env == ("PATH=/bin", "MODE=fast", "PORT=80", "APP_COLOUR=red")

    def test_an_admitted_variable_with_another_value_is_denied(self, denied) -> None:
        fault = denied(proposal(env=["PORT=eighty"]), env=[{"name": "PORT", "value": {"pattern": "[0-9]+"}}])
        assert fault.diagnosis.expected == "a text like [0-9]+"

    def test_what_kubernetes_adds_can_be_admitted(self, judge) -> None:
        rule = [{"name": "HOSTNAME", "value": {"any": True}}]
        assert "HOSTNAME=web-0" in judge(env=rule).env

    def test_what_kubernetes_adds_can_be_denied(self, denied) -> None:
        denied(env_dropped=[])

    def test_a_variable_twice_is_denied(self, denied) -> None:
        denied(proposal(env=["MODE=fast", "MODE=fast"]))

    @pytest.mark.parametrize("entry", ["NOVALUE", "=x", "A=\0", ""])
    def test_what_is_no_variable_is_denied(self, denied, entry) -> None:
        denied(proposal(env=[entry]))


class TestDirectoryUserAndGroups:
    def test_another_directory_is_denied(self, denied) -> None:
        denied(proposal(cwd="/tmp"))

    def test_an_admitted_directory_is_set(self, judge, denied) -> None:
        assert judge(proposal(cwd="/tmp"), cwd=["/tmp"]).cwd == "/tmp"
        denied(proposal(cwd="/"), cwd=["/tmp"])

    @pytest.mark.parametrize("cwd", ["srv", "/srv/../etc", "/srv\0", ""])
    def test_a_directory_that_is_relative_or_climbs_is_denied(self, denied, cwd) -> None:
        denied(proposal(cwd=cwd), cwd=[{"any": True}])

    def test_a_closing_slash_changes_nothing(self, judge) -> None:
        slashed = dataclasses.replace(CONFIG, working_dir="/srv//")
        assert judge(proposal(cwd="/srv/"), config=slashed).cwd == "/srv"

    def test_another_user_is_denied(self, denied) -> None:
        fault = denied(proposal(user={"uid": 0, "gid": 0}))
        assert (fault.diagnosis.expected, fault.diagnosis.got) == ("1000", "0:0")

    def test_an_image_without_a_user_is_roots(self, judge, denied) -> None:
        bare = ImageConfig("amd64", "linux", (), env=CONFIG.env, entrypoint=("/app", "serve"), working_dir="/srv")
        assert judge(proposal(user={"uid": 0, "gid": 0}), config=bare).user == "0"
        denied(config=bare)

    def test_an_admitted_user_with_its_group_is_set(self, judge, denied) -> None:
        approved = judge(proposal(user={"uid": 7, "gid": 8}), users=["1000", "7:8"])
        assert (approved.uid, approved.gid) == (7, 8)
        denied(proposal(user={"uid": 7, "gid": 9}), users=["7:8"])

    def test_a_users_name_is_resolved_inside_whatever_the_host_says(self, judge) -> None:
        named = ImageConfig(
            "amd64", "linux", (), env=CONFIG.env, entrypoint=("/app", "serve"), working_dir="/srv", user="app"
        )
        approved = judge(proposal(user={"uid": 0, "gid": 0, "additionalGids": [0]}), config=named)
        assert (approved.user, approved.uid, approved.additional_gids) == ("app", None, ())

    def test_a_group_of_the_hosts_is_denied(self, denied) -> None:
        fault = denied(proposal(user={"uid": 1000, "gid": 0, "additionalGids": [0, 42]}))
        assert fault.diagnosis.got == "42"

    def test_an_admitted_group_is_set(self, judge) -> None:
        proposed = proposal(user={"uid": 1000, "gid": 0, "additionalGids": [0, 2000]})
        assert judge(proposed, additional_gids=[2000]).additional_gids == (2000,)

    @pytest.mark.parametrize("uid", [-1, 1 << 32, (1 << 32) - 1, "0", True, 0.0])
    def test_what_is_no_user_is_denied(self, denied, uid) -> None:
        denied(proposal(user={"uid": uid, "gid": 0}), users=["0", "app"])


class TestPrivileges:
    def test_a_capability_beyond_the_usual_is_denied_in_any_set(self, denied) -> None:
        for name in ("bounding", "effective", "permitted", "inheritable", "ambient"):
            fault = denied(proposal(capabilities={name: ["CAP_SYS_ADMIN"]}))
            assert fault.diagnosis.got == "CAP_SYS_ADMIN"

    def test_an_admitted_capability_is_set(self, judge) -> None:
        proposed = proposal(capabilities={"effective": ["CAP_SYS_PTRACE"]})
        assert judge(proposed, capabilities=["CAP_SYS_PTRACE"]).capabilities.effective == ("CAP_SYS_PTRACE",)

    def test_an_empty_list_of_capabilities_admits_none(self, judge, denied) -> None:
        denied(capabilities=[])
        assert judge(proposal(capabilities=None), capabilities=[]).capabilities.every() == frozenset()

    def test_an_unknown_set_of_capabilities_is_denied(self, denied) -> None:
        denied(proposal(capabilities={"secret": ["CAP_CHOWN"]}))

    def test_no_new_privileges_can_be_forced_and_asked_for_but_not_lifted(self, judge) -> None:
        assert not judge().no_new_privileges
        assert judge(no_new_privileges=True).no_new_privileges
        assert judge(proposal(noNewPrivileges=True)).no_new_privileges

    def test_a_read_only_root_can_be_forced_and_asked_for(self, judge) -> None:
        asked = copy.deepcopy(PROPOSED)
        asked["root"]["readonly"] = True
        assert not judge().read_only_root
        assert judge(asked).read_only_root
        assert judge(read_only_root=True).read_only_root

    def test_core_dumps_are_off_and_cannot_be_switched_on(self, judge, denied) -> None:
        limits = [{"type": "RLIMIT_NOFILE", "soft": 1024, "hard": 4096}]
        assert judge(proposal(rlimits=limits)).rlimits == (
            Rlimit("RLIMIT_NOFILE", 1024, 4096),
            NO_CORE,
        )
        for none in (0, 1):
            asked = proposal(rlimits=[{"type": "RLIMIT_CORE", "soft": 0, "hard": none}])
            assert judge(asked).rlimits == (NO_CORE,)
        denied(proposal(rlimits=[{"type": "RLIMIT_CORE", "soft": 0, "hard": 2}]))

    def test_limits_can_be_narrowed_to_those_named(self, judge, denied) -> None:
        limits = [{"type": "RLIMIT_NOFILE", "soft": 1, "hard": 1}]
        denied(proposal(rlimits=limits), rlimits=["RLIMIT_NPROC"])
        assert judge(proposal(rlimits=limits), rlimits=["RLIMIT_NOFILE"])

    def test_a_device_is_denied(self, denied) -> None:
        proposed = copy.deepcopy(PROPOSED)
        proposed["linux"]["devices"] = [{"path": "/dev/mem", "type": "c", "major": 1, "minor": 1}]
        assert denied(proposed).diagnosis.got == "/dev/mem"

    def test_a_terminal_is_denied_unless_admitted(self, judge, denied) -> None:
        denied(proposal(terminal=True))
        assert judge(proposal(terminal=True), terminal=True).terminal

    def test_a_host_name_that_is_none_is_denied(self, judge, denied) -> None:
        assert judge(PROPOSED | {"hostname": "web-0"}).hostname == "web-0"
        denied(PROPOSED | {"hostname": "web 0; rm"})
        denied(PROPOSED | {"hostname": "web-0"}, hostname="db-0")

    def test_an_unknown_instruction_is_denied(self, denied) -> None:
        assert "newThing" in denied(proposal(newThing=True)).diagnosis.got

    def test_seccomp_apparmor_hooks_and_annotations_of_the_host_change_nothing(self, judge) -> None:
        proposed = PROPOSED | {"hooks": {"prestart": [{"path": "/evil"}]}, "annotations": {"a": "b"}}
        proposed["linux"] = {"seccomp": {"defaultAction": "SCMP_ACT_ERRNO"}, "sysctl": {"a": "b"}}
        assert judge(proposed) == judge()


@pytest.mark.parametrize(
    ("resources", "limit"),
    [
        ({}, 0),
        ({"memory": {}}, 0),
        ({"memory": {"limit": -1}}, 0),
        ({"memory": {"limit": 0}}, 0),
        ({"memory": {"limit": 9223372036854771712}}, 0),
        ({"memory": {"limit": 160 << 20}, "cpu": {"shares": 2}}, 160 << 20),
    ],
    ids=["no-resources", "no-limit", "minus-one", "zero", "the-kernels-largest", "160-mib"],
)
def test_the_memory_limit_is_taken_from_the_host(judge, resources, limit) -> None:
    assert judge(PROPOSED | {"linux": {"resources": resources}}).memory_limit == limit


class TestMounts:
    def test_an_unnamed_mount_is_denied(self, denied) -> None:
        assert "mounts /app" in denied(with_mount("/app")).diagnosis.message

    def test_a_named_mount_is_admitted(self, judge) -> None:
        assert judge(with_mount("/data"), mounts=["/data"]).mounts == (
            ApprovedMount("/data", "bind", "/host/dir", read_only=False),
        )

    def test_a_volume_is_what_the_rule_calls_one_whatever_the_host_has_there(self, judge) -> None:
        rule = [{"destination": "/data", "volume": "cache"}]
        approved = judge(with_mount("/data"), mounts=rule)
        assert approved.volumes == (ApprovedMount("/data", "bind", "/host/dir", read_only=False, volume="cache"),)
        assert approved.host_data == ()
        assert "/data as cache under the key of the pod" in approved.verdict

    def test_a_volumes_key_can_be_the_brokers(self, judge) -> None:
        rule = [{"destination": "/data", "volume": "db", "key": "kbs:///default/volume/db", "read_only": True}]
        (volume,) = judge(with_mount("/data"), mounts=rule).volumes
        assert (volume.key, volume.read_only) == ("kbs:///default/volume/db", True)

    def test_host_data_can_be_pinned(self, judge) -> None:
        rule = [{"destination": "/data", "sha256": "ab" * 32}]
        (data,) = judge(with_mount("/data"), mounts=rule).host_data
        assert data.sha256 == "ab" * 32

    @pytest.mark.parametrize("member", [{"volume": "cache"}, {"sha256": "ab" * 32}])
    def test_a_rule_for_what_the_host_has_admits_no_tmpfs(self, denied, member) -> None:
        proposed = with_mount("/data", options=["nosuid"])
        proposed["mounts"][-1]["type"] = "tmpfs"
        denied(proposed, mounts=[{"destination": "/data", **member}])

    def test_what_was_approved_of_mounts_is_read_as_it_was_written(self, judge) -> None:
        rule = [
            {"destination": "/data", "volume": "db", "key": "kbs:///default/volume/db"},
            {"destination": "/etc/resolv.conf", "sha256": "ab" * 32},
        ]
        approved = judge(with_mount("/data"), mounts=rule)
        assert ApprovedProcess.decode(approved.encode()) == approved

    def test_a_rule_can_force_read_only(self, judge) -> None:
        rule = [{"destination": {"pattern": "/data/[a-z]+"}, "read_only": True}]
        assert judge(with_mount("/data/x"), mounts=rule).mounts[0].read_only

    def test_read_only_of_the_host_stays(self, judge) -> None:
        assert judge(with_mount("/data", options=["rbind", "ro"]), mounts=["/data"]).mounts[0].read_only

    def test_what_kubernetes_mounts_can_be_admitted_and_denied(self, judge, denied) -> None:
        assert [m.destination for m in judge(mounts=["/etc/resolv.conf"]).mounts] == ["/etc/resolv.conf"]
        denied(mounts_dropped=[])

    def test_a_service_account_is_left_out(self, judge) -> None:
        assert judge(with_mount("/var/run/secrets/kubernetes.io/serviceaccount")).mounts == ()

    @pytest.mark.parametrize("where", ["/proc", "/dev", "/sys", "/dev/shm"])
    def test_what_the_boot_init_mounts_itself_is_never_the_hosts(self, judge, where) -> None:
        assert (
            judge(with_mount(where), mounts=[{"any": True}], mounts_dropped=[]).mounts
            == judge(mounts=[{"any": True}]).mounts
        )

    @pytest.mark.parametrize("where", ["/", "/proc/self", "/sys/kernel", "/dev/sgx"])
    def test_no_rule_admits_a_mount_over_the_root_or_the_kernels_own(self, denied, where) -> None:
        denied(with_mount(where), mounts=[{"any": True}])

    @pytest.mark.parametrize("where", ["data", "/data/", "/data/../etc", "//data", "/data/./x", "/da\0ta"])
    def test_a_destination_that_is_not_plain_is_denied(self, denied, where) -> None:
        denied(with_mount(where), mounts=[{"any": True}])

    def test_a_kernel_filesystem_elsewhere_is_denied(self, denied) -> None:
        denied(with_mount("/data", kind="overlay", options=[]), mounts=["/data"])

    @pytest.mark.parametrize(
        "where", ["/run", "/run/secrets", "/run/secrets/db", "/run/secrets/db/x", "/var/run/secrets"]
    )
    def test_a_mount_that_would_hide_or_hold_a_secret_is_denied(self, denied, where) -> None:
        fault = denied(with_mount(where), mounts=[{"any": True}], secrets=[SECRET])
        assert "/run/secrets/db" in fault.diagnosis.expected

    def test_a_mount_beside_a_secret_is_admitted(self, judge) -> None:
        assert judge(with_mount("/run/secrets/dbx"), mounts=["/run/secrets/dbx"], secrets=[SECRET]).mounts


class TestSecrets:
    def test_the_images_secrets_are_approved_with_the_process(self, judge) -> None:
        other = {"image": "registry.example/other", "uri": "kbs:///default/secret/other", "env": "OTHER"}
        token = {"image": DIGEST, "uri": "kbs:///default/secret/token", "env": "TOKEN"}
        approved = judge(secrets=[SECRET, token, other])
        assert approved.secret_uris == ("kbs:///default/secret/db", "kbs:///default/secret/token")
        assert [(s.path, s.mode, s.env) for s in approved.secrets] == [
            ("/run/secrets/db", 0o400, ""),
            ("", 0o400, "TOKEN"),
        ]

    def test_the_host_cannot_set_a_variable_that_is_a_secret(self, denied) -> None:
        token = {"image": REPOSITORY, "uri": "kbs:///default/secret/token", "env": "TOKEN"}
        rule = [{"name": {"any": True}, "value": {"any": True}}]
        denied(proposal(env=["TOKEN=mine"]), env=rule, secrets=[token])

    def test_a_secret_takes_the_place_of_the_images_variable(self, judge) -> None:
        mode = {"image": REPOSITORY, "uri": "kbs:///default/secret/mode", "env": "MODE"}
        assert judge(proposal(env=["PATH=/bin"]), secrets=[mode]).env == ("PATH=/bin",)


@pytest.mark.parametrize("missing", ["process"])
def test_a_proposal_without_a_process_is_denied(denied, missing) -> None:
    proposed = copy.deepcopy(PROPOSED)
    del proposed[missing]
    denied(proposed)


def test_a_proposal_read_from_json_is_judged_alike(judge) -> None:
    assert judge(json.loads(json.dumps(PROPOSED))) == judge()
