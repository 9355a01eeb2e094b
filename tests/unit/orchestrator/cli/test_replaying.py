"""describe, diff, replay, export and import as a person meets them: against a real bus, and without one."""

from __future__ import annotations

import json
from pathlib import Path

import pytest

from orchestrator.replay import bundle
from tests.simulators.stored import store
from tests.unit.orchestrator.cli.conftest import BOOTED, BROKEN, FORGED, REFUSED, booted
from tests.unit.orchestrator.cli.conftest import InProcess as Terminal
from tests.unit.orchestrator.cli.conftest import Terminal as Processes

AGAIN = "a4" * 32


@pytest.fixture
def terminal(terminal: Processes) -> Terminal:
    return Terminal(terminal)


@pytest.fixture
async def whole(terminal: Terminal) -> Terminal:
    """One launch more that went right, without a late fact."""
    made = booted(AGAIN)
    made.raw.pop()
    async with await terminal.server.connect() as bus:
        await store(bus, made)
    return terminal


async def test_describe_says_verdict_check_and_next_action(terminal: Terminal) -> None:
    shown = await terminal.run("describe", REFUSED[:6])
    assert shown.code == 0
    lines = shown.out.splitlines()
    assert lines[0] == f"payments/redis-0  pod {REFUSED}"
    assert lines[1].startswith(
        "verdict   failed after attested, in decrypt_image (attempt 2) of container redis: E-RUN"
    )
    assert "failed    decrypt_image of container redis, enclave zone, attempt 2 of 5; it had reached attested" in lines
    assert "expected  success" in lines
    assert "got       something else" in lines
    assert "next      look at the worker's log" in lines
    assert lines[-1].startswith("told by   host-worker/node-a in fact 7, 2026-01-01T00:00:00.070000")
    assert lines[-1].endswith("the host's word")


async def test_describe_goes_back_to_a_moment(terminal: Terminal) -> None:
    shown = await terminal.run("describe", REFUSED[:6], "--at", "4")
    assert "verdict   attested" in shown.out
    assert "nothing of it has failed" in shown.out
    assert (await terminal.run("describe", REFUSED[:6], "--at", "99")).code == 2


async def test_show_goes_back_to_a_moment_and_reads_exported_files(terminal: Terminal, tmp_path: Path) -> None:
    then = (await terminal.run("show", REFUSED[:6], "--at", "4", "--json")).document["launch"]
    assert (then["state"], then["reached"], then["failures"], then["containers"]) == ("attested", "attested", [], [])
    first = await terminal.run("show", REFUSED[:6], "--at", "+10ms")
    assert first.out.count("not reached") + first.out.count("awaited") >= 2
    assert "E-RUNTIME-001" not in first.out
    for wrong in ("99", "0", "yesterday"):
        assert (await terminal.run("show", REFUSED[:6], "--at", wrong)).code == 2
    file = tmp_path / "failed.jsonl"
    assert (await terminal.run("export", REFUSED, "-o", str(file))).code == 0
    shown = await terminal.run("show", str(file), ENCLAVE_CC_CONFIG="/nonexistent")
    assert "E-RUNTIME-001" in shown.out


async def test_describe_of_a_forged_and_of_a_broken_history(terminal: Terminal) -> None:
    assert "E-FACT-001" in (await terminal.run("describe", FORGED)).out
    shown = await terminal.run("describe", BROKEN)
    assert "its history cannot be believed any further" in shown.out
    assert "E-BUS-003" in shown.out
    document = (await terminal.run("describe", BROKEN, "--json")).document
    assert document["broken"]["code"] == "E-BUS-003"


async def test_describe_of_a_code_needs_no_launch(terminal: Terminal) -> None:
    shown = await terminal.run("describe", "E-AUDIT-005")
    assert shown.out.startswith("code      E-AUDIT-005: the log was shown in two versions")
    assert (await terminal.run("describe", "E-AUDIT-005", "--json")).document["next"].startswith("Keep both")


async def test_diff_says_where_two_launches_part(terminal: Terminal) -> None:
    shown = await terminal.run("diff", REFUSED, BOOTED)
    assert shown.code == 0
    assert "part at decrypt_image of redis: failed: E-RUNTIME-001" in shown.out
    document = (await terminal.run("diff", REFUSED, BOOTED, "--json")).document
    assert document["comparison"]["parts_at"]["what"] == "decrypt_image"


async def test_replay_names_the_fact_that_todays_code_would_not_await(terminal: Terminal) -> None:
    shown = await terminal.run("replay", BOOTED)
    assert shown.code == 1
    assert "first at fact 12 (sandbox-created, message" in shown.out
    assert "then   create_sandbox attempt 1 was awaited" in shown.out


async def test_replay_over_a_fleet_counts_and_names_what_differs(whole: Terminal) -> None:
    shown = await whole.run("replay", "--all")
    assert shown.code == 1
    assert BOOTED[:12] in shown.out
    assert AGAIN[:12] not in shown.out
    assert shown.out.splitlines()[-1] == "1 decided otherwise, 3 decided the same, 1 broken"
    failed = await whole.run("replay", "--all", "--failed-at", "attested", "--code", "E-RUNTIME-001", "--json")
    assert [one["pod"] for one in failed.document["replayed"]] == [REFUSED]
    assert failed.code == 0
    assert (await whole.run("replay", "--all", "--since", "1h", "--json")).document["replayed"] == []
    assert (await whole.run("replay")).code == 2
    assert (await whole.run("replay", AGAIN, "--all")).code == 2


async def test_replay_before_another_policy_says_what_would_change(whole: Terminal, tmp_path: Path) -> None:
    policy = tmp_path / "image.json"
    policy.write_text(json.dumps({"default": [{"type": "reject"}]}))
    shown = await whole.run("replay", AGAIN, "--policy", str(policy))
    assert shown.code == 1
    assert "image 127.0.0.1:5000/redis:7: now denied" in shown.out
    policy.write_text(json.dumps({"default": [{"type": "insecureAcceptAnything"}]}))
    assert (await whole.run("replay", AGAIN, "--policy", str(policy))).code == 0


async def test_an_exported_launch_is_described_compared_and_replayed_without_a_bus(
    whole: Terminal, tmp_path: Path
) -> None:
    failed, good = tmp_path / "failed.jsonl", tmp_path / "good.jsonl"
    for pod, file in ((REFUSED, failed), (AGAIN, good)):
        shown = await whole.run("export", pod, "-o", str(file))
        assert shown.code == 0, shown.err
    nowhere = {"ENCLAVE_CC_CONFIG": "/nonexistent", "XDG_DATA_HOME": str(tmp_path / "home")}
    kept = await whole.run("import", str(failed), **nowhere)
    assert kept.code == 0, kept.err
    assert f"kept as imported:{REFUSED[:12]}" in kept.out
    assert "today's code decides every message as it was decided" in kept.out
    assert "E-RUNTIME-001" in (await whole.run("describe", f"imported:{REFUSED[:6]}", **nowhere)).out
    assert "part at decrypt_image" in (await whole.run("diff", str(failed), str(good), **nowhere)).out
    replayed = await whole.run("replay", str(good), f"imported:{REFUSED[:6]}", **nowhere)
    assert replayed.code == 0, replayed.out
    assert (await whole.run("describe", "imported:ff", **nowhere)).code == 3


async def test_a_part_of_a_history_can_be_exported_and_names_taken_out(whole: Terminal, tmp_path: Path) -> None:
    file = tmp_path / "part.jsonl"
    assert (await whole.run("export", AGAIN, "--at", "4", "-o", str(file))).code == 0
    assert len(bundle.decode(file.read_bytes()).items) == 4
    shown = await whole.run("export", AGAIN, "--redact", "names", "-o", str(file))
    assert "without the contents of pod-requested" in shown.out
    assert b"payments" not in file.read_bytes()
    imported = await whole.run("import", "--check-only", str(file))
    assert imported.code == 0
    assert "not checked: the contents of pod-requested" in imported.out
    assert (await whole.run("replay", str(file))).code == 1
    assert (await whole.run("export", AGAIN, "-o", "-")).out.startswith('{"format":"enclave-cc/launch","v":1,')


async def test_a_damaged_file_is_told_as_that(terminal: Terminal, tmp_path: Path) -> None:
    file = tmp_path / "damaged.jsonl"
    assert (await terminal.run("export", REFUSED, "-o", str(file))).code == 0
    file.write_bytes(file.read_bytes()[:-200])
    for command in ("import", "describe", "replay"):
        shown = await terminal.run(command, str(file))
        assert shown.code == 1
        assert shown.err.startswith("E-REPLAY-001: ")
