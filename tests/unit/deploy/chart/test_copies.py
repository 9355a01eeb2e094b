"""What the chart has from deploy/operator is rendered as it is there."""

from __future__ import annotations

import runpy
from typing import Any

import yaml

from tests.helm import CHART, REPOSITORY, render
from tests.unit.deploy.chart.conftest import TRUSTEE

SOURCE = REPOSITORY / "deploy/operator/crd.yaml"


def definitions(*options: str) -> list[dict[str, Any]]:
    return render(*TRUSTEE, *options).of_kind("CustomResourceDefinition")


def test_no_copy_is_outdated() -> None:
    generator = runpy.run_path(str(REPOSITORY / "deploy/chart/generate.py"))
    assert generator["stale"]() == []
    assert generator["FILES"] == CHART / "files"


def test_the_definition_is_the_operators_and_stays_when_the_release_goes() -> None:
    (rendered,) = definitions()
    metadata = rendered.pop("metadata")
    source = yaml.safe_load(SOURCE.read_text())
    assert metadata["name"] == source.pop("metadata")["name"]
    assert metadata["annotations"] == {"helm.sh/resource-policy": "keep"}
    assert rendered == source


def test_without_the_operator_or_where_somebody_else_brings_it_there_is_no_definition() -> None:
    assert definitions("--set", "operator.enabled=false") == []
    assert definitions("--set", "operator.createDefinition=false") == []
