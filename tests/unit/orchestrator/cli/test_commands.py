"""The subcommands against a real bus: what they print, in both forms, and what they end with."""

from __future__ import annotations

import asyncio
import base64
import json
import re
import signal
from pathlib import Path

import pytest

from orchestrator import events
from orchestrator.bus import Histories
from orchestrator.events import Fact
from orchestrator.lifecycle import LAUNCH_STATES, Zone
from tests.simulators.history import APP, History
from tests.simulators.stored import append, store
from tests.unit.orchestrator.cli.conftest import BOOTED, BROKEN, FORGED, REFUSED, Terminal, booted

STATES = [state.value for state in LAUNCH_STATES]


async def test_launches_lists_all_with_state_and_failure(terminal: Terminal) -> None:
    shown = await terminal.run("launches")
    rows = [re.split(r"  +", line) for line in shown.out.splitlines()]
    assert rows[0] == ["pod", "name", "state", "reached", "age", "containers", "failure"]
    assert [(row[0], row[1], row[2], row[6]) for row in rows[1:]] == [
        (BOOTED[:12], "payments/redis-0", "app-booted", "-"),
        (REFUSED[:12], "payments/redis-0", "failed", "E-RUNTIME-001"),
        (FORGED[:12], "payments/redis-0", "failed", "E-FACT-001"),
        (BROKEN[:12], "payments/redis-0", "broken", "E-BUS-003"),
    ]
    assert shown.code == 0
    assert not any(line.endswith(" ") for line in shown.out.splitlines())


async def test_launches_are_filtered_by_state_and_node(terminal: Terminal) -> None:
    failed = await terminal.run("launches", "--state", "failed", "--json")
    assert [entry["pod"] for entry in failed.document["launches"]] == [REFUSED, FORGED]
    nowhere = await terminal.run("launches", "--node", "another", "--json")
    assert nowhere.document == {"version": 1, "launches": []}
    assert (await terminal.run("launches", "--state", "no-such-state")).code == 2


async def test_the_json_of_launches_keeps_its_members(terminal: Terminal) -> None:
    document = (await terminal.run("launches", "--json")).document
    assert document["version"] == 1
    first, *_, last = document["launches"]
    assert first == {
        "pod": BOOTED,
        "namespace": "payments",
        "name": "redis-0",
        "node": "node-a",
        "state": "app-booted",
        "reached": "app-booted",
        "began": "2026-01-01T00:00:00.010000+00:00",
        "changed": "2026-01-01T00:00:01.105000+00:00",
        "containers": [
            {
                "id": APP,
                "name": "redis",
                "image": "127.0.0.1:5000/redis:7",
                "state": "app-booted",
                "reached": "app-booted",
                "exit": None,
                "host_data": [],
            }
        ],
        "failure": None,
        "broken": None,
    }
    assert last["broken"]["code"] == "E-BUS-003"


async def test_show_draws_the_seven_states_with_what_each_took(terminal: Terminal) -> None:
    shown = await terminal.run("show", BOOTED[:6])
    assert shown.code == 0
    timeline = shown.out.partition("timeline\n")[2].partition("\n\n")[0]
    assert re.findall(r"([a-z]+-?[a-z]+) +([0-9.]+ m?s)  (█*)", timeline) == [
        ("sandbox", "10 ms", ""),
        ("agent-up", "10 ms", ""),
        ("attested", "10 ms", ""),
        ("image-decrypted", "850 ms", "█" * 24),
        ("fs-sealed", "120 ms", "███"),
        ("config-delivered", "20 ms", ""),
        ("app-booted", "45 ms", "█"),
    ]
    for said in ("node-a", "UpToDate, simulated", "signed by kbs:///", "was not awaited", "sha256:1212"):
        assert said in shown.out


async def test_show_tells_a_failure_with_its_diagnosis(terminal: Terminal) -> None:
    shown = await terminal.run("show", REFUSED)
    assert shown.code == 0
    expected = (
        "failure of redis\n"
        "  E-RUNTIME-001: decrypt_image did not succeed\n"
        "    expected: success\n"
        "    got: something else\n"
        "    try: look at the worker's log\n"
    )
    assert expected in shown.out
    assert "attempt 2 of 5; E-RUNTIME-001, E-RUNTIME-001" in shown.out


async def test_the_json_of_show_keeps_its_members(terminal: Terminal) -> None:
    document = (await terminal.run("show", BOOTED, "--json")).document
    told = document["launch"]
    assert [entry["state"] for entry in told["states"]] == STATES
    assert told["states"][3] == {"container": APP, "state": "image-decrypted", "ms": 850.0, "attempts": 1}
    assert set(told) >= {"steps", "waiting", "evidence", "verdicts", "failures", "ignored", "verdict", "working_ms"}
    assert told["ignored"] == [
        {"index": 12, "kind": "sandbox-created", "why": "create_sandbox attempt 1 was not awaited"}
    ]
    refused = (await terminal.run("show", REFUSED, "--json")).document["launch"]
    assert refused["failures"][0]["code"] == "E-RUNTIME-001"
    assert set(refused["failures"][0]) >= {"expected", "got", "try", "transition", "attempt", "causes", "next"}


async def test_a_launch_is_meant_by_id_by_its_beginning_or_by_name(terminal: Terminal) -> None:
    for asked in (BOOTED, BOOTED[:3], "payments/redis-0"):
        assert (await terminal.run("show", asked)).code in (0, 1)
    async with await terminal.server.connect() as bus:
        await store(bus, History_of("c3" * 32))
    newest = await terminal.run("show", "payments/redis-0", "--json")
    assert newest.document["launch"]["pod"] == "c3" * 32


def History_of(pod: str) -> History:  # noqa: N802 - reads as what it is
    made = History(pod)
    made.requested()
    return made


async def test_what_is_not_there_ends_with_3_and_what_is_ambiguous_with_2(terminal: Terminal) -> None:
    for command in ("show", "events", "follow", "verify"):
        missing = await terminal.run(command, "ffff")
        assert (missing.code, missing.out) == (3, "")
        assert missing.err.startswith("E-INPUT-002: there is no launch 'ffff'")
        assert (await terminal.run(command, "no/such")).code == 3
        ambiguous = await terminal.run(command, "a")
        assert ambiguous.code == 2
        assert BOOTED[:20] in ambiguous.err


async def test_events_lists_each_message_with_whose_word_it_is(terminal: Terminal) -> None:
    shown = await terminal.run("events", FORGED)
    lines = shown.out.splitlines()
    assert len(lines) == 7
    assert re.search(r"attested +1 +ok +quote 436 bytes", lines[4])
    assert re.search(r"pod-requested +none", lines[1])
    assert re.search(r"image-decrypted +redis +1 +bad +\[forged: ", lines[6])
    assert "10 ms" in lines[2]


async def test_the_json_of_events_has_every_body_whole(terminal: Terminal) -> None:
    document = (await terminal.run("events", BOOTED, "--json")).document
    assert (document["version"], document["pod"]) == (1, BOOTED)
    assert [entry["index"] for entry in document["events"]] == list(range(1, 13))
    attested = document["events"][3]
    assert attested["delta_ms"] == 10.0
    assert (attested["signature"], attested["zone"], attested["attempt"]) == ("ok", "enclave", 1)
    quote = base64.b64decode(attested["body"]["quote"])
    assert len(quote) == 436
    assert document["events"][-1]["effect"] == "create_sandbox attempt 1 was not awaited"


async def test_a_broken_history_is_not_shown_as_if_it_were_whole(terminal: Terminal) -> None:
    for command in ("show", "events", "follow"):
        shown = await terminal.run(command, BROKEN, *(["--until-settled"] if command == "follow" else []))
        assert shown.code == 1
        assert "E-BUS-003" in shown.err


async def test_verify_says_what_is_proved_and_what_is_not(terminal: Terminal) -> None:
    shown = await terminal.run("verify", BOOTED)
    assert shown.code == 0
    assert "proved:     the chain of 12 facts is whole" in shown.out
    assert "proved:     5 facts were signed by one key" in shown.out
    assert "not proved: that the quote comes from a genuine CPU" in shown.out
    document = (await terminal.run("verify", BOOTED, "--json")).document
    assert (document["version"], document["verified"], document["facts"], document["signed"]) == (1, True, 12, 5)
    assert document["quote"] == {"checked": False, "tcb_status": None}


@pytest.mark.parametrize(("pod", "code"), [(FORGED, "E-FACT-001"), (BROKEN, "E-BUS-003")])
async def test_verify_ends_with_4_for_a_history_that_does_not_hold(terminal: Terminal, pod: str, code: str) -> None:
    shown = await terminal.run("verify", pod)
    assert (shown.code, shown.out) == (4, "")
    assert shown.err.startswith(code)
    told = await terminal.run("verify", pod, "--json")
    assert (told.code, told.document["verified"], told.document["fault"]["code"]) == (4, False, code)


async def test_verify_needs_collateral_with_a_root_and_refuses_what_is_neither(
    terminal: Terminal, tmp_path: Path
) -> None:
    junk = tmp_path / "junk"
    junk.write_bytes(b"\xff\xfe")
    assert (await terminal.run("verify", BOOTED, "--root", str(junk))).code == 2
    assert (await terminal.run("verify", BOOTED, "--root", str(junk), "--collateral", str(junk))).code == 2
    assert (await terminal.run("verify", BOOTED, "--root", str(tmp_path / "none"))).code == 2
    text = tmp_path / "text"
    text.write_text("{}")
    shown = await terminal.run("verify", BOOTED, "--collateral", str(text))
    assert shown.code == 4
    assert shown.err.startswith("E-ATTEST-007")


async def test_follow_ends_when_the_launch_is_settled(terminal: Terminal) -> None:
    shown = await terminal.run("follow", BOOTED, "--until-settled")
    assert shown.code == 0
    assert re.findall(r"→ ([a-z-]+) ", shown.out) == STATES
    failed = await terminal.run("follow", REFUSED, "--until-settled")
    assert failed.code == 1
    assert "decrypt_image, attempt 1: E-RUNTIME-001" in failed.out
    assert (await terminal.run("follow", "--until-settled")).code == 2


async def test_follow_tells_what_happens_as_it_happens_one_document_a_line(terminal: Terminal) -> None:
    made = History("d4" * 32)
    made.up_to_attested()
    async with await terminal.server.connect() as bus:
        await store(bus, made)
        process = await terminal.start("follow", "d4", "--json", "--until-settled")
        assert process.stdout is not None
        lines = [json.loads(await asyncio.wait_for(process.stdout.readline(), 20)) for _ in range(4)]
        seen = len(made.raw)
        made.up_to_booted()
        await append(bus, made.pod, made.raw[seen:])
        async with asyncio.timeout(20):
            rest, _ = await process.communicate()
    lines += [json.loads(line) for line in rest.splitlines()]
    assert process.returncode == 0
    assert all(line["version"] == 1 for line in lines)
    assert [entry["state"] for line in lines for entry in line["reached"]] == STATES
    assert lines[-1]["state"] == "app-booted"


async def test_follow_without_a_launch_tells_all_launches_from_now_on(terminal: Terminal) -> None:
    process = await terminal.start("follow", "--json")
    assert process.stdout is not None
    async with await terminal.server.connect() as bus:
        told = asyncio.create_task(process.stdout.readline())
        for number in range(200):  # until the command has connected, what is said is not news to it
            if told.done():
                break
            fact = Fact(f"e5{number:062}", events.StopRequested("x"), Zone.HOST, "test")
            await Histories(bus).append(fact)
            await asyncio.sleep(0.1)
        line = json.loads(await asyncio.wait_for(told, 20))
    assert line["pod"].startswith("e5")
    assert line["event"]["kind"] == "stop-requested"
    process.send_signal(signal.SIGINT)
    async with asyncio.timeout(10):
        await process.communicate()
    assert process.returncode == 130


async def test_what_others_wrote_cannot_move_the_terminal(terminal: Terminal) -> None:
    made = booted("e6" * 32)
    made.stop(reason="\x1b[2J\x1b]0;owned\x07 gone")
    async with await terminal.server.connect() as bus:
        await store(bus, made)
    for command in (["show"], ["events"]):
        shown = await terminal.run(*command, made.pod)
        assert shown.code == 0
        assert "\x1b" not in shown.out
        assert "\x07" not in shown.out


async def test_a_bus_that_does_not_answer_ends_with_75_soon(terminal: Terminal) -> None:
    terminal.server.kill()
    shown = await terminal.run("launches")
    assert (shown.code, shown.out) == (75, "")
    assert shown.err.startswith("E-BUS-001")


async def test_launch_ids_and_names_are_completed(terminal: Terminal) -> None:
    async def complete(words: str) -> list[str]:
        shown = await terminal.run(
            _ENCLAVE_CC_COMPLETE="bash_complete", COMP_WORDS=words, COMP_CWORD=str(len(words.split(" ")) - 1)
        )
        return [line.partition(",")[2] for line in shown.out.splitlines() if line]

    assert await complete("enclave-cc show a") == [BOOTED, REFUSED]
    assert await complete("enclave-cc resume a") == [BOOTED, REFUSED]
    assert await complete("enclave-cc verify payments/") == ["payments/redis-0"]
    terminal.server.kill()
    assert await complete("enclave-cc show a") == []
