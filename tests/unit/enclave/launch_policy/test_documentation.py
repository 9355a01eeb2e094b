"""The examples and defaults of docs/formats/policies.md are the parsers' own."""

from __future__ import annotations

import json
import re
from pathlib import Path

import pytest

from workers.enclave.image.policy import ImagePolicy, Limits
from workers.enclave.launch_policy.document import LaunchPolicy


@pytest.fixture(scope="module")
def examples(repository: Path) -> list[str]:
    page = (repository / "docs/formats/policies.md").read_text()
    return re.findall(r"^```json\n(.*?)^```$", page, re.MULTILINE | re.DOTALL)


def test_both_examples_are_read(examples) -> None:
    image, launch = ImagePolicy.parse(examples[0].encode()), LaunchPolicy.parse(examples[1].encode())
    assert len(image.scopes) == 1
    assert [rule.name for rule in launch.rules] == ["web"]
    assert len(launch.secrets) == 2


def test_the_limits_of_the_example_are_the_defaults_as_it_says(examples) -> None:
    assert ImagePolicy.parse(examples[0].encode()).limits == Limits()


def test_every_member_of_a_rule_is_told(repository) -> None:
    page = (repository / "docs/formats/policies.md").read_text()
    told = set(re.findall(r"^\| (`.*?`) \|", page, re.MULTILINE))
    told = {name for cell in told for name in re.findall(r"`(\w+)`", cell)} | {"name", "image"}
    with pytest.raises(Exception, match="rules") as refused:
        LaunchPolicy.parse(
            json.dumps(
                {"version": 1, "boot_measurements": [], "rules": [{"image": "r.example/app", "unknown": 1}]}
            ).encode()
        )
    known = refused.value.diagnosis.expected.removeprefix("only the members ").split(", ")
    assert set(known) <= told
