"""The CustomResourceDefinition: it can be read, its schema is structural, and it says what the parser says."""

from __future__ import annotations

import re
from collections.abc import Iterator
from pathlib import Path

import celpy
import pytest
import yaml
from celpy.adapter import json_to_cel

from deploy.operator import names
from deploy.operator.desired import Desired, Distribution, Mode, parse_desired
from orchestrator.faults import Permanent
from tests.simulators.nodes import A, World

CRD = yaml.safe_load((Path(__file__).parents[4] / "deploy/operator/crd.yaml").read_text())
VERSION = CRD["spec"]["versions"][0]
SCHEMA = VERSION["schema"]["openAPIV3Schema"]
SPEC = SCHEMA["properties"]["spec"]


def parts(schema: dict) -> Iterator[dict]:
    yield schema
    for below in (*schema.get("properties", {}).values(), schema.get("items"), schema.get("additionalProperties")):
        if isinstance(below, dict):
            yield from parts(below)


def test_it_has_the_names_that_the_operator_uses() -> None:
    assert CRD["metadata"]["name"] == f"{names.PLURAL}.{names.GROUP}"
    assert (CRD["spec"]["names"]["kind"], VERSION["name"], CRD["spec"]["scope"]) == (
        names.KIND,
        names.VERSION,
        "Cluster",
    )


def test_the_schema_is_structural() -> None:
    assert all("type" in part or part.get("x-kubernetes-int-or-string") for part in parts(SCHEMA))


def test_what_may_be_chosen_is_what_the_parser_knows() -> None:
    assert SPEC["properties"]["mode"]["enum"] == list(Mode)
    assert SPEC["properties"]["distribution"]["enum"] == list(Distribution)


@pytest.mark.parametrize("payload", ["registry.test/p:1", "registry.test/p", f"{A}0", "@sha256:" + "a" * 64])
def test_a_payload_by_anything_but_a_digest_is_refused_by_schema_and_parser(payload: str) -> None:
    assert not re.search(SPEC["properties"]["payload"]["pattern"], payload)
    with pytest.raises(Permanent):
        parse_desired({"metadata": {"name": "cc"}, "spec": {"payload": payload}})


def rules(schema: dict) -> Iterator[str]:
    for part in parts(schema):
        yield from (rule["rule"] for rule in part.get("x-kubernetes-validations", ()))


def holds(rule: str, self: dict, old: dict) -> bool:
    environment = celpy.Environment()
    program = environment.program(environment.compile(rule))
    return bool(program.evaluate({"self": json_to_cel(self), "oldSelf": json_to_cel(old)}))


def test_the_runtime_class_and_the_distribution_stay() -> None:
    _, name, distribution = (rule["rule"] for rule in SPEC["x-kubernetes-validations"])
    assert holds(name, {}, {"runtimeClass": {"name": "enclave-cc"}})
    assert not holds(name, {"runtimeClass": {"name": "other"}}, {})
    assert not holds(distribution, {"distribution": "k3s"}, {})


def test_every_rule_is_cel() -> None:
    environment = celpy.Environment()
    assert len([environment.compile(rule) for rule in rules(SCHEMA)]) == 6


def test_a_status_has_only_members_that_the_schema_keeps() -> None:
    world = World(Desired(name="cc", generation=1, payload=A), 1)
    world.calm()
    known = SCHEMA["properties"]["status"]["properties"]
    assert world.status.keys() <= known.keys()
    for list_of in ("nodes", "conditions"):
        assert world.status[list_of][0].keys() <= known[list_of]["items"]["properties"].keys()
