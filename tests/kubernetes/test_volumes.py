"""What a pod mounts: config maps, a projected service account token, an emptyDir."""

from __future__ import annotations

import base64
import json
from pathlib import Path
from typing import Any

import pytest

from tests.kubernetes import histories, workloads
from tests.kubernetes.site import Own, Site
from tests.kubernetes.workloads import TOKENS, shell
from tests.waiting import eventually

pytestmark = [pytest.mark.e2e, pytest.mark.timeout(600)]
AUDIENCE = "enclave-cc-test"
SECRET = "what the host must not read"


def config_map(name: str, mode: str) -> dict[str, Any]:
    data = {"app.conf": f"mode = {mode}\n"}
    return {"apiVersion": "v1", "kind": "ConfigMap", "metadata": {"name": name}, "data": data}


def mounting(name: str, image: str, volume: dict[str, Any], path: str) -> dict[str, Any]:
    """A pod of one container beside one volume, which runs until it has a file /tmp/crash."""
    mounts = [{"name": "one", "mountPath": path}]
    script = "trap 'exit 0' TERM; while [ ! -e /tmp/crash ]; do sleep 0.1; done; exit 1"
    return workloads.pod(name, shell(image, script, volumeMounts=mounts), volumes=[{"name": "one", **volume}])


def inside(site: Site, pod: str, script: str) -> str:
    return site.kubectl("exec", pod, "--", "/bin/sh", "-c", script)


def restarted(site: Site, pod: str) -> bool:
    return site.restarts(pod) == 1 and bool(site.statuses(pod)[0]["ready"])


def kubelets(node: Own, pod: dict[str, Any], kind: str, volume: str) -> Path:
    """Where the kubelet keeps a pod's volume."""
    return node.plane.folder / "kubelet/pods" / pod["metadata"]["uid"] / f"volumes/kubernetes.io~{kind}" / volume


def test_a_config_map_is_what_it_was_at_the_containers_start_whatever_the_host_has_since(site: Site, node: Own) -> None:
    site.kubectl.apply(config_map("settings", "one"))
    spec = mounting("settled", site.image("shell"), {"configMap": {"name": "settings"}}, "/etc/app")
    with site.running(spec) as pod:
        assert inside(site, "settled", "cat /etc/app/app.conf") == "mode = one\n"
        site.kubectl.apply(config_map("settings", "two"))
        hosts = kubelets(node, pod, "configmap", "one") / "app.conf"
        assert eventually(lambda: hosts.read_text() == "mode = two\n", 120)
        assert inside(site, "settled", "cat /etc/app/app.conf") == "mode = one\n"
        site.touch("settled", "/tmp/crash")
        assert eventually(lambda: restarted(site, "settled"), 120)
        assert inside(site, "settled", "cat /etc/app/app.conf") == "mode = two\n"
        digests = [
            each.delivered.host_data for each in histories.starts(histories.of(node.cluster, pod)) if each.delivered
        ]
    assert [[told.split("@")[0] for told in each] for each in digests] == [["/etc/app"], ["/etc/app"]]
    assert digests[0] != digests[1]


def test_a_projected_token_is_a_pods_own_and_the_api_server_knows_it(site: Site) -> None:
    token = {"serviceAccountToken": {"path": "api", "audience": AUDIENCE, "expirationSeconds": 600}}
    spec = mounting("known", site.image("shell"), {"projected": {"sources": [token]}}, TOKENS)
    with site.running(spec) as pod:
        held = inside(site, "known", f"cat {TOKENS}/api")
        review = {
            "apiVersion": "authentication.k8s.io/v1",
            "kind": "TokenReview",
            "spec": {"token": held, "audiences": [AUDIENCE]},
        }
        path = "/apis/authentication.k8s.io/v1/tokenreviews"
        answer = json.loads(site.kubectl("create", "--raw", path, "-f", "-", stdin=json.dumps(review)))
        assert answer["status"]["authenticated"]
        assert answer["status"]["user"]["extra"]["authentication.kubernetes.io/pod-uid"] == [pod["metadata"]["uid"]]
        claims = json.loads(base64.urlsafe_b64decode(held.split(".")[1] + "=="))
        assert claims["exp"] - claims["iat"] <= 3600


def test_the_token_that_kubernetes_mounts_unasked_is_left_out_of_the_enclave(site: Site) -> None:
    spec = workloads.pod("tokenless", shell(site.image("shell"), "trap 'exit 0' TERM; while :; do sleep 0.1; done"))
    with site.running(spec) as pod:
        mounts = [each["mountPath"] for each in pod["spec"]["containers"][0]["volumeMounts"]]
        assert mounts == ["/var/run/secrets/kubernetes.io/serviceaccount"]
        assert inside(site, "tokenless", f"[ -e {mounts[0]} ] || echo none") == "none\n"


def test_an_empty_dir_outlasts_a_container_and_the_host_reads_none_of_it(site: Site, node: Own) -> None:
    spec = mounting("cached", site.image("shell"), {"emptyDir": {}}, "/cache")
    with site.running(spec) as pod:
        inside(site, "cached", f"echo '{SECRET}' > /cache/note")
        site.touch("cached", "/tmp/crash")
        assert eventually(lambda: restarted(site, "cached"), 120)
        assert inside(site, "cached", "cat /cache/note") == f"{SECRET}\n"
        files = [path for path in kubelets(node, pod, "empty-dir", "one").rglob("*") if path.is_file()]
        assert files
        assert not any(SECRET.encode() in path.read_bytes() or "note" in path.name for path in files)


def test_what_an_init_container_wrote_is_there_for_the_others_of_its_pod(site: Site) -> None:
    mounts = [{"name": "one", "mountPath": "/cache"}]
    first = shell(site.image("shell"), f"echo '{SECRET}' > /cache/note", volumeMounts=mounts)
    spec = mounting("prepared", site.image("shell"), {"emptyDir": {}}, "/cache")
    spec["spec"]["initContainers"] = [{"name": "first", **first}]
    spec["spec"]["containers"].append({**spec["spec"]["containers"][0], "name": "second"})
    with site.running(spec):
        for container in ("main", "second"):
            said = site.kubectl("exec", "prepared", "-c", container, "--", "/bin/sh", "-c", "cat /cache/note")
            assert said == f"{SECRET}\n"


def test_a_volume_that_no_rule_names_is_refused_by_its_destination(site: Site) -> None:
    site.kubectl.apply(mounting("elsewhere", site.image("shell"), {"emptyDir": {}}, "/elsewhere"))
    assert eventually(lambda: "E-CONFIG-001" in (said := site.events("elsewhere")) and "/elsewhere" in said, 120)
    site.remove("pod", "elsewhere")
