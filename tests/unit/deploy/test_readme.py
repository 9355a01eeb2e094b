"""What the README and the operators' pages tell a person to type exists."""

from __future__ import annotations

import re
import subprocess
import sys
from pathlib import Path

import click
import pytest

from deploy.cli import enclave_cc

BIN = Path(sys.executable).parent


def typed(repository: Path, page: str = "README.md") -> list[list[str]]:
    """Commands of a page: indented lines, fenced lines after `$ `, without comments."""
    text = (repository / page).read_text()
    lines = re.findall(
        r"^(?: {4}|\$ )((?:sudo )?(?:sh deploy/setup\.sh|\.venv/bin/just|just|enclave-cc)\b.*)$", text, re.MULTILINE
    )
    return [line.removeprefix("sudo ").partition("#")[0].split() for line in lines]


def test_the_readme_has_commands(repository: Path) -> None:
    assert ["sh", "deploy/setup.sh", "demo"] in typed(repository)


def test_every_recipe_in_the_readme_exists(repository: Path) -> None:
    listed = subprocess.run([BIN / "just", "--summary"], cwd=repository, capture_output=True, text=True, check=True)
    recipes = set(listed.stdout.split())
    asked = {words[1] for words in typed(repository) if words[0].endswith("just") and len(words) > 1}
    asked |= {words[2] for words in typed(repository) if words[:2] == ["sh", "deploy/setup.sh"] and len(words) > 2}
    assert asked <= recipes


PAGES = (
    "README.md",
    *(f"docs/operations/{page}.md" for page in ("node", "operator", "output", "payload", "replay")),
)


@pytest.mark.parametrize("page", PAGES)
def test_every_subcommand_and_option_of_a_page_exists(repository: Path, page: str) -> None:
    for words in typed(repository, page):
        if words[0] != "enclave-cc":
            continue
        command: click.Command = enclave_cc
        rest = words[1:]
        while isinstance(command, click.Group) and rest and not rest[0].startswith("-"):
            found = command.get_command(click.Context(command), rest.pop(0))
            assert found is not None, words
            command = found
        known = {option for parameter in command.params for option in parameter.opts}
        known |= set(command.get_help_option_names(click.Context(command)))
        assert {word.partition("=")[0] for word in rest if word.startswith("--")} <= known, words
