"""What docs/command-line.md promises of the JSON is what the program prints."""

from __future__ import annotations

import json
import re
from collections.abc import Iterable
from dataclasses import fields
from pathlib import Path
from typing import Any

from orchestrator.replay.diverge import Divergence
from orchestrator.replay.whatif import Judged
from tests.unit.orchestrator.cli.conftest import BOOTED, FORGED, REFUSED, Terminal


def members(document: dict[str, Any], *without: Iterable[str]) -> set[str]:
    return set(document).difference(*without)


async def test_the_members_are_those_that_the_page_names(terminal: Terminal, promised: dict[str, set[str]]) -> None:
    async def document(*arguments: str) -> dict[str, Any]:
        return (await terminal.run(*arguments, "--json")).document

    launches = await document("launches")
    assert members(launches) == promised["launches"]
    summary = members(launches["launches"][0])
    assert summary == promised["a summary"]
    show = await document("show", REFUSED)
    assert members(show) | members(show["launch"], summary) == promised["show"]
    assert members(show["launch"]["states"][0]) == promised["one of states"]
    assert members(show["launch"]["failures"][0]) == promised["one of failures"]
    events = await document("events", BOOTED)
    assert members(events) == promised["events"]
    assert members(events["events"][0]) == promised["one of events"]
    followed = await terminal.run("follow", BOOTED, "--until-settled", "--json")
    assert members(json.loads(followed.out.splitlines()[0])) == promised["a line of follow"]
    assert members(await document("describe", REFUSED)) == promised["describe LAUNCH"]
    assert members(await document("describe", "E-KEY-002")) == promised["describe CODE"]
    compared = await document("diff", REFUSED, BOOTED)
    assert members(compared) == promised["diff"]
    assert members(compared["comparison"]) == promised["a comparison"]
    assert members(compared["comparison"]["parts_at"]) == promised["a difference"]
    replayed = await document("replay", REFUSED)
    assert members(replayed) == promised["replay"]
    assert members(replayed["replayed"][0]) == promised["one of replayed"]
    assert {field.name for field in fields(Divergence)} == promised["divergence"]
    assert {field.name for field in fields(Judged)} == promised["one of judged"]
    assert members(await document("verify", BOOTED)) == promised["verify"]
    assert members(await document("verify", FORGED)) == promised["verify, where it does not hold"]


async def test_the_exit_codes_are_those_that_the_page_names(terminal: Terminal, repository: Path) -> None:
    page = (repository / "docs/command-line.md").read_text()
    table = page.partition("| code | meaning |")[2].partition("\n\n")[0]
    assert re.findall(r"^\| (\d+) \|", table, re.MULTILINE) == ["0", "1", "2", "3", "4", "75", "130"]
    assert (await terminal.run("show", BOOTED)).code == 0
    assert (await terminal.run("follow", REFUSED, "--until-settled")).code == 1
