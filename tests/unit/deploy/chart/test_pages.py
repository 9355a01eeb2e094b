"""What the pages about a cluster tell a person to type exists: programs, subcommands, options, values, files."""

from __future__ import annotations

import re
import shlex
from functools import cache

import click
import pytest

from deploy.cli import enclave_cc
from tests.helm import CHART, NAMESPACE, REPOSITORY, render, run
from tests.unit.deploy.chart.conftest import DIGEST, TRUSTEE

PAGES = (
    "docs/operations/cluster.md",
    "docs/operations/hardening.md",
    "docs/operations/from-upstream.md",
    "docs/threat-model.md",
)


def typed(page: str, program: str) -> list[list[str]]:
    """Commands of a page: indented, or in backquotes; continued lines are one."""
    text = (REPOSITORY / page).read_text()
    lines = re.sub(r" \\\n +", " ", text).splitlines()
    found = [line.strip() for line in lines if re.match(rf" {{4,}}{program} ", line)]
    found += re.findall(rf"`({program} [^`]+)`", re.sub(r"\n +", " ", text))
    return [shlex.split(line.partition(" > ")[0], comments=True) for line in found]


@cache
def helped(*words: str) -> str:
    return run(words[0], *words[1:], "--help").stdout + run("kubectl", "options").stdout


@pytest.mark.parametrize("page", PAGES)
def test_every_command_of_ours_exists(page: str) -> None:
    for words in typed(page, "enclave-cc"):
        command: click.Command = enclave_cc
        rest = words[1:]
        while isinstance(command, click.Group) and rest and not rest[0].startswith("-"):
            found = command.get_command(click.Context(command), rest[0])
            assert found is not None, words
            command = found
            rest.pop(0)
        known = {option for parameter in command.params for option in parameter.opts}
        assert {word.partition("=")[0] for word in rest if word.startswith("--")} <= known, words


@pytest.mark.parametrize("page", PAGES)
def test_every_command_of_helm_and_kubectl_exists(page: str) -> None:
    for program in ("helm", "kubectl"):
        for words in typed(page, program):
            verbs = [word for word in words if not word.startswith("-") and "/" not in word and word != NAMESPACE]
            options = {word.partition("=")[0] for word in words if word.startswith("--")}
            depth = 4 if verbs[1:3] == ["create", "secret"] else 3 if verbs[1] in {"create", "rollout"} else 2
            help_text = helped(*verbs[:depth])
            assert "Usage:" in help_text, words
            for option in options:
                assert re.search(rf"{option}\b", help_text), (words, option)


def test_the_values_of_the_installing_command_are_the_charts() -> None:
    (command,) = [words for words in typed("docs/operations/cluster.md", "helm") if words[1] == "install"]
    sets = [command[place + 1] for place, word in enumerate(command) if word == "--set"]
    options = [word.replace("REGISTRY", "registry.example").replace("sha256:...", DIGEST) for word in sets]
    rendered = render(*(word for value in options for word in ("--set", value)))
    assert rendered.one("Service", "enclave-cc-bus")["spec"]["clusterIP"] == "10.96.0.42"


def test_every_value_that_a_page_names_is_one_of_the_charts() -> None:
    values = (CHART / "values.schema.json").read_text()
    for page in PAGES:
        for name in re.findall(
            r"`((?:image|bus|keyBroker|networkPolicies|console|audit|nodes)(?:\.\w+)+)", (REPOSITORY / page).read_text()
        ):
            for part in name.split("."):
                assert f'"{part}"' in values, (page, name)


def test_the_list_of_images_is_what_the_pages_sed_prints() -> None:
    rendered = render(*TRUSTEE, "--no-hooks")
    listed = set(re.findall(r"^ *image: (.*)$", rendered.text, re.MULTILINE))
    assert listed == {f"enclave-cc/control-plane@{DIGEST}", f"nats@{DIGEST}"}


@pytest.mark.parametrize("page", PAGES)
def test_every_page_that_is_linked_is_there(page: str) -> None:
    place = REPOSITORY / page
    for target in re.findall(r"\]\(([^)#:]+)\)", place.read_text()):
        assert (place.parent / target).exists(), target
