"""Upstream's CcRuntime, as far as it maps; the rest is told."""

from __future__ import annotations

import pytest

from deploy.operator.ccruntime import converted
from deploy.operator.desired import parse_desired
from orchestrator.faults import Permanent
from tests.unit.deploy.operator.conftest import A

SAMPLE = {
    "apiVersion": "confidentialcontainers.org/v1beta1",
    "kind": "CcRuntime",
    "metadata": {"name": "ccruntime-sample"},
    "spec": {
        "runtimeName": "enclave-cc",
        "ccNodeSelector": {"matchLabels": {"node.kubernetes.io/worker": ""}},
        "config": {
            "installType": "bundle",
            "payloadImage": A,
            "installCmd": ["/opt/enclave-cc-artifacts/scripts/enclave-cc-deploy.sh", "install"],
            "runtimeClasses": [{"name": "enclave-cc", "snapshotter": "", "pulltype": ""}, {"name": "other"}],
        },
    },
}


def test_what_maps_is_an_enclave_runtime_and_the_rest_is_named() -> None:
    made, left = converted(SAMPLE)
    desired = parse_desired(made)
    assert desired.payload == A
    assert desired.selector.selects({"node.kubernetes.io/worker": ""})
    assert not desired.selector.selects({})
    assert left == ("spec.config.installCmd", "spec.config.installType", "spec.config.runtimeClasses[1]")


@pytest.mark.parametrize("image", ["quay.test/payload:latest", "", None])
def test_a_payload_that_is_not_by_digest_is_refused(image: str | None) -> None:
    config = {**SAMPLE["spec"]["config"], "payloadImage": image}
    with pytest.raises(Permanent):
        converted({**SAMPLE, "spec": {**SAMPLE["spec"], "config": config}})


def test_a_runtime_of_virtual_machines_is_refused() -> None:
    with pytest.raises(Permanent):
        converted({**SAMPLE, "spec": {**SAMPLE["spec"], "runtimeName": "kata"}})
