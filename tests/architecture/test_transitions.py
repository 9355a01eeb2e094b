"""Each row of the lifecycle has one file, in its zone; each file that executes a step has a row."""

from __future__ import annotations

import ast
from pathlib import Path

import pytest

from orchestrator.lifecycle import BY_NAME, HOST_HALF, TEARDOWN, TRANSITIONS

ROWS = (*TRANSITIONS, HOST_HALF, TEARDOWN)


def steps(module: Path) -> list[str]:
    """The classes of a module that take a command and a launch: what a worker executes."""
    return [
        node.name
        for node in ast.parse(module.read_text()).body
        if isinstance(node, ast.ClassDef)
        for part in node.body
        if isinstance(part, ast.AsyncFunctionDef)
        and part.name == "__call__"
        and [argument.arg for argument in part.args.args] == ["self", "command", "launch"]
    ]


@pytest.mark.parametrize("row", ROWS, ids=lambda row: row.name)
def test_a_transition_is_one_class_in_one_file_of_its_zone(repository: Path, row: object) -> None:
    module = repository / f"workers/{row.zone}/{row.name}.py"  # type: ignore[attr-defined]
    assert steps(module) == ["".join(word.title() for word in row.name.split("_"))]  # type: ignore[attr-defined]


def test_every_file_that_executes_a_step_has_a_row(repository: Path) -> None:
    executing = {
        (zone, path.stem)
        for zone in ("host", "enclave")
        for path in (repository / "workers" / zone).rglob("*.py")
        if steps(path)
    }
    assert executing == {(row.zone, row.name) for row in ROWS}
    assert {name for _, name in executing} == set(BY_NAME)
