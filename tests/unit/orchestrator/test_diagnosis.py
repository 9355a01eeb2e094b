"""Every fault code has a meaning, causes and an action; of each failed launch `describe` names the planted cause."""

from __future__ import annotations

import re
from collections.abc import Callable
from pathlib import Path

import pytest
from click.testing import CliRunner, Result

from deploy.cli import enclave_cc
from orchestrator.cli.describe import code_table
from orchestrator.diagnosis import REMEDIES
from orchestrator.faults import Code
from orchestrator.story.causes import _CAUSES
from tests.golden.failures import corpus
from tests.golden.failures.corpus import Case
from tests.tables import TABLE

CASES = corpus.cases()
WITHOUT_A_LAUNCH = {
    *(code for code in Code if code.name.startswith(("AUDIT_", "REPLAY_", "EXEC_"))),
    Code.INPUT,
    Code.NOT_FOUND,
    Code.NOT_ALLOWED,
    Code.STOPPED,
    Code.BUS_HISTORY,
}
"""Codes that no step of a launch ends with; `describe` explains them by their code."""


def run(*arguments: str) -> Result:
    return CliRunner().invoke(enclave_cc, arguments)


@pytest.mark.parametrize("code", Code)
def test_every_code_has_a_meaning_causes_and_a_next_action(code: Code) -> None:
    remedy = REMEDIES[code]
    assert remedy.meaning
    assert remedy.meaning[-1] not in ".;"
    assert re.fullmatch(r"[A-Z].*\.", remedy.action)
    assert _CAUSES[code]
    shown = run("describe", code.value)
    assert shown.exit_code == 0
    assert remedy.action in shown.output
    assert _CAUSES[code][0][0] in shown.output


def test_there_is_one_failed_launch_for_each_code_that_a_launch_can_meet() -> None:
    codes = [case.code for case in CASES]
    assert len(set(codes)) == len(codes)
    assert set(codes) == set(Code) - WITHOUT_A_LAUNCH


@pytest.mark.parametrize("case", CASES, ids=lambda case: case.code.value)
def test_describe_names_the_planted_cause_and_the_next_action(
    case: Case, tmp_path: Path, record_property: Callable[[str, object], None]
) -> None:
    file = tmp_path / "failed.launch.jsonl"
    file.write_bytes(corpus.exported(case))
    shown = run("describe", str(file))
    assert shown.exit_code == 0, shown.output
    page = dict(
        re.findall(r"^(verdict|failed|code|check|expected|got|next|cause 1) +(.*)$", shown.output, re.MULTILINE)
    )
    assert page["code"].startswith(f"{case.code}: ")
    assert case.cause in page["cause 1"]
    assert ("as this launch shows" in page["cause 1"]) is case.evident
    assert len(page["next"]) > len("report it")
    if case.told is not None:
        assert page["failed"].startswith(f"{case.transition} of ")
        assert page["check"] == case.told.message
        assert page["expected"] == (case.told.expected or "-")
        assert page["got"] == (case.told.got or "-")
    for column, cell in (("what was done", case.planted), ("diagnosis", page["check"]), ("action", page["next"])):
        record_property(TABLE, ("describe", case.code.value, column, cell))


def test_a_launch_whose_history_was_edited_is_described_as_far_as_it_can_be_believed(tmp_path: Path) -> None:
    made = corpus.play(CASES[-1])
    made.raw[2] = made.raw[2].replace(b"sim", b"SIM")
    file = tmp_path / "edited.launch.jsonl"
    stored = list(enumerate(made.raw, 1))
    file.write_bytes(corpus.bundle.encode(corpus.bundle.export(made.pod, f"ev.0.{made.pod}", "", stored, "now")))
    shown = run("describe", str(file))
    assert "verdict   sandbox" not in shown.output
    assert f"code      {Code.BUS_HISTORY}" in shown.output
    assert REMEDIES[Code.BUS_HISTORY].meaning in shown.output


def test_the_page_of_all_codes_is_what_the_program_says(repository: Path) -> None:
    page = (repository / "docs/operations/faults.md").read_text()
    assert code_table() in page
