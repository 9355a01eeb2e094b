"""Pods, a Deployment and a Job with `runtimeClassName: enclave-cc`, through kubectl and a real cluster."""

from __future__ import annotations

import time

import pytest

from deploy.local import images, registry
from orchestrator.lifecycle import State
from tests.e2e.cluster import WEB, fetch
from tests.kubernetes import histories, workloads
from tests.kubernetes.forwarding import forwarded
from tests.kubernetes.kubectl import Refused
from tests.kubernetes.site import Own, Site
from tests.kubernetes.timing import Record, took
from tests.kubernetes.workloads import PAGE, exec_probe, http_probe, shell
from tests.waiting import eventually

pytestmark = [pytest.mark.e2e, pytest.mark.timeout(600)]
REPLICAS = 10


def test_an_applied_pod_passes_its_probes_and_its_workload_answers(site: Site, record_property: Record) -> None:
    probes = {"readinessProbe": http_probe(), "livenessProbe": exec_probe("/bin/true")}
    web = workloads.pod("web", {"image": site.image("web"), **probes})
    began = time.monotonic()
    with site.running(web) as pod:
        took(record_property, "a pod, from apply to ready", began)
        with forwarded(site.kubectl, "web", 8080) as url:
            assert eventually(lambda: fetch(url)) == PAGE.encode()
        assert pod["spec"]["runtimeClassName"] == "enclave-cc"


def test_a_command_runs_where_the_owners_policy_admits_it_and_a_refusal_says_why(site: Site) -> None:
    with site.running(workloads.pod("asked", {"image": site.image("web")})):
        assert site.kubectl("exec", "asked", "--", "/bin/echo", "hello", "you") == "hello you\n"
        with pytest.raises(Refused) as refused:
            site.kubectl("exec", "asked", "--", "/bin/sh", "-c", "id")
    assert "E-EXEC-001: the launch policy does not admit this command" in str(refused.value)
    assert "greet: ['/bin/echo', 'hello', any text]" in str(refused.value)


def test_a_refused_command_stands_in_the_history_under_the_enclaves_key(site: Site, node: Own) -> None:
    with site.running(workloads.pod("told", {"image": site.image("web")})) as pod:
        site.kubectl("exec", "told", "--", "/bin/echo", "hello", "you")
        with pytest.raises(Refused):
            site.kubectl("exec", "told", "--", "/bin/sh")
    launch = histories.of(node.cluster, pod)
    (container,) = histories.starts(launch)
    assert (dict(container.execs), container.execs_refused) == ({"web/greet": 1}, 1)


def test_logs_are_read_while_it_runs_and_to_the_end(site: Site) -> None:
    script = "echo one; echo two >&2; while [ ! -e /tmp/on ]; do sleep 0.1; done; echo three"
    site.kubectl.apply(workloads.pod("logs", shell(site.image("shell"), script), restartPolicy="Never"))
    site.ready("logs")
    # Two streams, in whichever order containerd read them; what follows comes later than both.
    assert eventually(lambda: sorted(site.kubectl("logs", "logs").splitlines()) == ["one", "two"])
    site.touch("logs", "/tmp/on")
    lines = site.kubectl("logs", "--follow", "logs").splitlines()
    assert (sorted(lines[:2]), lines[2:]) == (["one", "two"], ["three"])
    assert eventually(lambda: site.pod("logs")["status"]["phase"] == "Succeeded")
    site.remove("pod", "logs")


def test_a_liveness_probe_that_fails_has_the_container_started_again(site: Site) -> None:
    probe = {**exec_probe("/bin/sh", "-c", "[ ! -e /tmp/ill ]"), "failureThreshold": 2}
    script = "trap 'exit 0' TERM; while :; do sleep 0.1; done"
    with site.running(workloads.pod("ill", shell(site.image("shell"), script, livenessProbe=probe))):
        site.touch("ill", "/tmp/ill")
        assert eventually(lambda: site.restarts("ill") == 1, 120)
        site.ready("ill")


def test_a_probe_that_no_policy_admits_keeps_the_pod_unready_and_says_why(site: Site) -> None:
    probe = exec_probe("/bin/sh", "-c", "true")
    site.kubectl.apply(workloads.pod("denied", {"image": site.image("web"), "readinessProbe": probe}))
    assert eventually(lambda: "E-EXEC-001" in site.events("denied"), 120)
    (status,) = site.pod("denied")["status"]["containerStatuses"]
    assert (status["ready"], status["restartCount"]) == (False, 0)
    site.remove("pod", "denied")


def test_ten_replicas_come_up_together_and_each_answers_from_an_enclave_of_its_own(
    site: Site, record_property: Record
) -> None:
    began = time.monotonic()
    site.kubectl.apply(
        workloads.deployment("many", REPLICAS, {"image": site.image("web"), "readinessProbe": http_probe()})
    )
    site.kubectl("rollout", "status", "deployment/many", "--timeout=240s", seconds=260)
    took(record_property, f"a Deployment of {REPLICAS}, from apply to ready", began)
    pods = site.pods("app=many")
    for pod in pods:
        name = pod["metadata"]["name"]
        assert site.kubectl("exec", name, "--", "/bin/echo", "hello", name) == f"hello {name}\n"
    assert len({pod["status"]["podIP"] for pod in pods}) == REPLICAS
    if site.own is None:
        site.remove("deployment", "many")
        return
    launches = [histories.of(site.own.cluster, pod) for pod in pods]
    assert {launch.state for launch in launches} == {State.APP_BOOTED}
    assert len({launch.attested.event_public_key for launch in launches if launch.attested}) == REPLICAS
    began = time.monotonic()
    site.remove("deployment", "many")
    assert eventually(lambda: site.left_of(*launches) == [], 180)
    took(record_property, f"the {REPLICAS} of them, from delete until the node has nothing of them", began)


def test_plain_pods_run_beside_them_on_the_same_node(site: Site, node: Own, record_property: Record) -> None:
    layout = images.busybox({"www/index.html": PAGE.encode()}, command=WEB)
    plain = workloads.deployment(
        "plain",
        REPLICAS,
        {"image": registry.push(node.cluster.layout, layout, "plain:1"), "readinessProbe": http_probe()},
    )
    del plain["spec"]["template"]["spec"]["runtimeClassName"]
    with site.running(workloads.pod("beside", {"image": site.image("web")})):
        began = time.monotonic()
        site.kubectl.apply(plain)
        site.kubectl("rollout", "status", "deployment/plain", "--timeout=240s", seconds=260)
        took(record_property, f"a Deployment of {REPLICAS}, from apply to ready", began, "runc")
        for pod in (*site.pods("app=plain"), site.pod("beside")):
            assert fetch(f"http://{pod['status']['podIP']}:8080/") == PAGE.encode()
    site.remove("deployment", "plain")


def test_a_job_is_done_once_and_its_output_stays_readable(site: Site, record_property: Record) -> None:
    began = time.monotonic()
    site.kubectl.apply(workloads.job("sum", shell(site.image("shell"), "echo $((6 * 7))")))
    site.wait("job/sum", "condition=complete")
    took(record_property, "a Job, from apply to complete", began)
    assert site.kubectl("logs", "job/sum") == "42\n"
    site.remove("job", "sum")


def test_a_job_whose_container_fails_is_tried_again_in_a_new_pod_and_then_given_up(site: Site) -> None:
    site.kubectl.apply(workloads.job("bad", shell(site.image("shell"), "exit 3"), backoffLimit=1))
    site.wait("job/bad", "condition=failed")
    codes = [
        status["state"]["terminated"]["exitCode"]
        for pod in site.pods("job-name=bad")
        for status in pod["status"]["containerStatuses"]
    ]
    assert codes == [3, 3]
    site.remove("job", "bad")


def test_an_image_that_nobody_admitted_does_not_start_and_the_pods_events_say_why(site: Site, node: Own) -> None:
    plain = registry.push(node.cluster.layout, images.busybox({"etc/plain": b""}), "unsigned:1")
    site.kubectl.apply(workloads.pod("unsigned", shell(plain, "echo never")))
    assert eventually(lambda: "E-SIGN-003" in site.events("unsigned"), 120)
    site.remove("pod", "unsigned")


def test_a_pod_of_the_hosts_network_is_refused_and_its_events_say_why(site: Site) -> None:
    site.kubectl.apply(workloads.pod("hosts", {"image": site.image("web")}, hostNetwork=True))
    assert eventually(lambda: "E-SANDBOX-002" in site.events("hosts"), 120)
    site.remove("pod", "hosts")
