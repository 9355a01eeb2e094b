"""helm takes the chart, refuses wrong values with a sentence, and kustomize builds what is rendered."""

from __future__ import annotations

import re
import shutil
from pathlib import Path

import pytest
import yaml

from tests.helm import CHART, NAMESPACE, REPOSITORY, run
from tests.unit.deploy.chart.conftest import DIGEST, IMAGES, MATRIX, TRUSTEE

OPENID = "console.oidc.issuer=https://sso.example,console.oidc.client=c"
WRONG = {
    "a tag": (("image.digest=v1.2",), "image"),
    "a tag in the repository": (("image.repository=enclave-cc:latest",), "image"),
    "no digest": (("image.digest=",), "image.digest is needed: sha256:"),
    "no digest of the bus": (("bus.image.digest=",), "bus.image.digest is needed: sha256:"),
    "two servers": (("bus.servers=2",), "bus"),
    "a password": (("bus.password=hunter2",), "password"),
    "a misspelt value": (("consol.enabled=true",), "consol"),
    "a plain key broker": (("keyBroker.trustee.url=http://trustee.example",), "url"),
    "no key broker": (("keyBroker.trustee.url=",), "keyBroker.trustee.url is needed"),
    "a trial without a root": (("keyBroker.mode=trial",), "keyBroker.trial.simulatedRoots is needed"),
    "hardware without collateral": (
        ("keyBroker.mode=trial,keyBroker.trial.enclaves=hardware",),
        "keyBroker.trial.collateralConfigMap is needed",
    ),
    "nodes from nowhere": (("networkPolicies.nodes.cidrs=null",), "nodes"),
    "no network": (("networkPolicies.nodes.cidrs={all}",), "cidrs"),
    "one namespace for both": ((f"nodes.namespace={NAMESPACE}",), "nodes.namespace must be another"),
    "a provider that admits nobody": ((f"{OPENID},console.url=https://console.example",), "who may enter"),
    "a provider that cannot send back": ((f"{OPENID},console.oidc.readers={{ops}}",), "console.url is needed"),
}


@pytest.mark.parametrize("case", sorted(WRONG))
def test_refused_with_the_values_name(case: str) -> None:
    values, said = WRONG[case]
    done = run("helm", "template", "e", CHART, "-n", NAMESPACE, *TRUSTEE, *(w for v in values for w in ("--set", v)))
    assert done.returncode != 0
    assert said in done.stderr


def test_helm_finds_nothing_wrong() -> None:
    done = run("helm", "lint", "--strict", CHART, *MATRIX["3-sim-all"])
    assert done.returncode == 0, done.stdout


def test_no_value_is_a_secret_and_no_default_an_image_that_anybody_could_move() -> None:
    values = yaml.safe_load((CHART / "values.yaml").read_text())
    assert values["image"]["digest"] == values["bus"]["image"]["digest"] == ""
    words = ("password", "token", "privateKey", "seed")

    def keys(value: object) -> list[str]:
        return [k for key, inner in value.items() for k in (key, *keys(inner))] if isinstance(value, dict) else []

    assert [key for key in keys(values) if any(word.lower() in key.lower() for word in words)] == []


def test_an_overlay_of_the_rendered_chart_takes_every_image_from_a_mirror(tmp_path: Path) -> None:
    shutil.copytree(REPOSITORY / "deploy/chart/kustomize", tmp_path / "kustomize")
    rendered = run("helm", "template", "enclave-cc", CHART, "--no-hooks", "-n", NAMESPACE, *TRUSTEE)
    (tmp_path / "kustomize/base/rendered.yaml").write_text(rendered.stdout)
    built = run("kubectl", "kustomize", tmp_path / "kustomize/mirror")
    assert built.returncode == 0, built.stderr
    images = set(re.findall(r"^[ -]*image: (.+)$", built.stdout, re.MULTILINE))
    assert images == {f"mirror.example/{name}@{DIGEST}" for name in ("enclave-cc/control-plane", "nats")}
    (labels,) = [
        manifest["metadata"]["labels"]
        for manifest in yaml.safe_load_all(built.stdout)
        if manifest["kind"] == "Namespace" and manifest["metadata"]["name"] == NAMESPACE
    ]
    assert labels["pod-security.kubernetes.io/enforce"] == "restricted"


def test_what_is_packaged_is_rendered_alike(tmp_path: Path) -> None:
    assert run("helm", "package", CHART, "--destination", tmp_path).returncode == 0
    (package,) = tmp_path.glob("enclave-cc-*.tgz")
    from_folder, from_package = (
        run(
            "helm", "template", "e", chart, "-n", NAMESPACE, *IMAGES, "--set", "keyBroker.trustee.url=https://t.example"
        )
        for chart in (CHART, package)
    )
    assert from_package.stdout == from_folder.stdout != ""
