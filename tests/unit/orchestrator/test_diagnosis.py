"""Every fault code has a meaning, causes and an action; of each failed launch `describe` names the planted cause."""

from __future__ import annotations

import re
from collections.abc import Callable
from pathlib import Path
from typing import Final

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
WITHOUT_A_LAUNCH: Final = {
    **{code: "said of the audit log" for code in Code if code.name.startswith("AUDIT_")},
    **{code: "said of a node, by whoever changes it" for code in Code if code.name.startswith("NODE_")},
    **{code: "said of a payload's inputs" for code in Code if code.name.startswith("PAYLOAD_")},
    **{code: "said of a signed document, by its owner's tools" for code in Code if code.name.startswith("REFERENCES_")},
    **{code: "of a command beside a workload; the launch goes on" for code in Code if code.name.startswith("EXEC_")},
    **{code: "said of a log" for code in Code if code.name.startswith("OUTPUT_")},
    Code.INPUT: "said to whoever asked wrongly, before anything is done",
    Code.NOT_FOUND: "said to whoever asked for what is not there",
    Code.NOT_ALLOWED: "said to whoever ordered what they may not; the launch takes no note of it",
    Code.NOT_HERE: "said to whoever asked a node for more than a node's own",
    Code.REPLAY_EXPORT: "said of an exported file",
    Code.REPLAY_RESUME: "said to whoever ordered it; the launch failed before, with a code of its own",
    Code.REPLAY_FORK: "said to whoever ordered it; no launch was made",
}
"""Codes that no launch ends with, and why. `describe` explains them by their code."""


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
    assert set(codes) == set(Code) - WITHOUT_A_LAUNCH.keys()


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
    assert not page["next"].endswith("?"), "an action, not a question"
    if case.told is not None:
        assert page["failed"].startswith(f"{case.transition} of ")
        assert page["check"] == case.told.message
        assert page["expected"] == (case.told.expected or "-")
        assert page["got"] == (case.told.got or "-")
    for column, cell in (("what was done", case.planted), ("diagnosis", page["check"]), ("action", page["next"])):
        record_property(TABLE, ("describe", case.code.value, column, cell))


def test_the_page_of_all_codes_is_what_the_program_says(repository: Path) -> None:
    page = (repository / "docs/operations/faults.md").read_text()
    assert code_table() in page
