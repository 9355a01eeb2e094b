"""What was found wrong in the upstream operator and its deployment script, each as a test that it is otherwise here."""

from __future__ import annotations

from dataclasses import replace

import pytest

from deploy.operator import actions, manifests
from deploy.operator.desired import Desired, Mode
from deploy.operator.names import RUNTIME_LABEL
from deploy.operator.node_step import Situation, advance
from deploy.operator.observed import Node, Observed
from deploy.operator.permissions import CLUSTER_RULES, NAMESPACE_RULES
from deploy.operator.reconcile import reconcile
from deploy.operator.record import Problem, Record, Step
from deploy.operator.runtime_class import runtime_class
from tests.simulators.nodes import A, B, World

DESIRED = Desired(name="cc", generation=1, payload=A)
START = actions.StartJob("n0", "uid", "ab" * 16, 7, actions.Operation.INSTALL, A)


def test_the_finalizer_is_there_before_the_first_node_is_touched_and_not_after_the_last() -> None:
    assert reconcile(Observed(now=1, finalizer=False, nodes=(Node("n0", "u", "1", {}),)), DESIRED) == (
        actions.AddFinalizer(),
    )


def test_a_resource_that_is_deleted_during_its_install_leaves_nothing_on_nodes() -> None:
    world = World(DESIRED, 2)
    for _ in range(4):
        world.decide()
    world.happen("delete", 0)
    world.calm()
    assert world.gone
    assert world.on_disk == {}


@pytest.mark.parametrize("event", ["join", "leave"])
def test_a_node_that_comes_or_goes_midway_hangs_nothing(event: str) -> None:
    world = World(DESIRED, 2)
    for _ in range(4):
        world.decide()
    world.happen(event, 2 if event == "join" else 0)
    world.calm()
    assert {c["type"]: c["status"] for c in world.status["conditions"]}["Ready"] == "True"


def test_two_resources_do_not_collide_in_the_names_of_what_they_make() -> None:
    other = replace(DESIRED, name="other", runtime_class="other")
    first, second = (manifests.job(START, wanted, "ns")["metadata"]["name"] for wanted in (DESIRED, other))
    assert first != second


def test_a_node_of_another_resource_is_left_alone_and_told() -> None:
    world = World(replace(DESIRED, name="other"), 1)
    world.calm()
    done = reconcile(world.observed(), DESIRED)
    (status,) = [action.status for action in done if isinstance(action, actions.SetStatus)]
    assert "claimed by other" in str(status["conditions"])
    assert not [action for action in done if isinstance(action, actions.PatchNode | actions.StartJob)]


def test_another_payload_is_an_upgrade_and_not_ignored() -> None:
    world = World(DESIRED, 2)
    world.calm()
    world.happen("payload", B)
    world.calm()
    assert set(world.on_disk.values()) == {B}


def test_a_failed_node_is_listed_with_its_error() -> None:
    world = World(DESIRED, 1)
    world.broken = {A}
    world.settle()
    (node,) = world.status["nodes"]
    assert node["phase"] == "Failed"
    assert "containerd does not start" in node["error"]


def test_there_are_conditions_and_the_generation_that_they_judge() -> None:
    world = World(replace(DESIRED, generation=9), 1)
    world.settle()
    assert world.status["observedGeneration"] == 9
    assert [c["type"] for c in world.status["conditions"]] == ["Ready", "Progressing", "Degraded"]
    assert {c["observedGeneration"] for c in world.status["conditions"]} == {9}


def test_what_is_written_to_a_node_rests_on_the_version_that_was_seen() -> None:
    record = Record("cc", Step.SETTLED, 1, payload=A)
    node = Node("n0", "u", "41", {RUNTIME_LABEL: "false"}, record=record)
    (patch,) = advance(Situation(node, record, DESIRED, Observed(1, finalizer=True), stays=True))
    assert isinstance(patch, actions.PatchNode)
    assert patch.version == "41"


def test_what_runs_on_nodes_has_no_token_and_no_privilege() -> None:
    pod = manifests.job(START, DESIRED, "ns")["spec"]["template"]["spec"]
    (container,) = pod["containers"]
    assert pod["automountServiceAccountToken"] is False
    assert not pod.keys() & {"hostPID", "hostNetwork", "hostIPC"}
    assert container["securityContext"]["privileged"] is False
    assert container["securityContext"]["allowPrivilegeEscalation"] is False
    assert container["securityContext"]["readOnlyRootFilesystem"] is True
    assert "SYS_ADMIN" not in container["securityContext"]["capabilities"]["add"]
    paths = {volume["hostPath"]["path"] for volume in pod["volumes"] if "hostPath" in volume}
    assert paths.isdisjoint({"/", "/etc", "/var", "/var/lib", "/run", "/proc", "/sys", "/dev"})


def test_the_operator_may_read_no_secret_and_run_nothing_on_nodes() -> None:
    asked = {
        f"{resource}:{verb}"
        for rule in (*CLUSTER_RULES, *NAMESPACE_RULES)
        for resource in rule.resources
        for verb in rule.verbs
    }
    assert not [right for right in asked if right.startswith(("secrets", "nodes/proxy", "pods/exec")) or "*" in right]


def test_a_decision_keeps_nothing_between_two_calls() -> None:
    world = World(DESIRED, 3)
    world.decide()
    seen = world.observed()
    assert reconcile(seen, DESIRED) == reconcile(seen, DESIRED)


def test_the_runtime_class_outlives_the_first_node_that_is_cleaned() -> None:
    world = World(replace(DESIRED, batch_size=1), 3)
    world.calm()
    world.happen("delete", 0)
    world.calm()
    kinds = [action for action in world.taken if isinstance(action, actions.PatchNode | actions.DeleteRuntimeClass)]
    assert isinstance(kinds[-1], actions.DeleteRuntimeClass)


def test_a_node_is_not_labelled_before_its_kubelet_tells_the_handler() -> None:
    record = Record("cc", Step.VERIFYING, 1, target=A, deadline=100)
    node = Node("n0", "u", "1", {RUNTIME_LABEL: "false"}, handlers=frozenset({"runc"}), record=record)
    here = Situation(node, record, DESIRED, Observed(1, finalizer=True), stays=True)
    assert advance(here) == ()
    (done,) = advance(replace(here, node=replace(node, handlers=frozenset({"runc", "enclave-cc"}))))
    assert isinstance(done, actions.PatchNode)
    assert done.serves


def test_a_payload_image_that_cannot_be_pulled_is_told_and_does_not_hold_the_finalizer_for_ever() -> None:
    world = World(DESIRED, 1)
    for _ in range(3):
        world.decide()
    problem = Problem("E-RUNTIME-001", "the Job's pod waits: ImagePullBackOff")
    world.jobs = {key: replace(job, problem=problem) for key, job in world.jobs.items()}
    world.decide()
    assert "ImagePullBackOff" in world.status["nodes"][0]["error"]
    world.happen("payload", B)
    world.happen("delete", 0)
    world.calm()
    assert world.gone


def test_uninstall_waits_while_pods_run_and_says_whose() -> None:
    world = World(DESIRED, 1)
    world.calm()
    world.happen("guest", 0)
    world.happen("delete", 0)
    world.settle()
    assert world.on_disk == {"n0": A}
    assert world.status["nodes"][0]["phase"] == "WaitingForPods"
    assert "default/n0-0" in world.status["nodes"][0]["error"]
    world.happen("guests-end", 0)
    world.settle()
    assert world.gone


@pytest.mark.parametrize(("mode", "epc"), [("sgx", True), ("sim", False)])
def test_the_runtime_class_has_overhead_and_scheduling(mode: str, epc: bool) -> None:
    document = runtime_class("enclave-cc", replace(DESIRED, mode=Mode(mode)))
    assert ("sgx.intel.com/epc" in document["overhead"]["podFixed"]) is epc
    assert document["scheduling"]["nodeSelector"][RUNTIME_LABEL] == "true"


def test_installing_and_removing_again_and_again_leaves_no_objects() -> None:
    for _ in range(5):
        world = World(DESIRED, 2)
        world.calm()
        world.happen("delete", 0)
        world.calm()
        assert (world.gone, world.classes, world.on_disk, world.pods) == (True, {}, {}, {})
