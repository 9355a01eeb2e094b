"""resume, fork and stop as an operator meets them: orders on a real bus, what they print and end with."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import nkeys
import pytest
from cryptography.hazmat.primitives.serialization import Encoding, NoEncryption, PrivateFormat

from orchestrator.bus import Histories
from orchestrator.bus.settings import BusSettings
from orchestrator.dispatch import Dispatcher
from orchestrator.events import ForkedFrom, Recorded, ResumeRequested
from orchestrator.launch import Launch
from orchestrator.lifecycle import State
from tests.simulators.history import APP, OPERATOR, SIDECAR, EventKey, History
from tests.simulators.stored import store
from tests.unit.orchestrator.cli.conftest import BOOTED, REFUSED, InProcess, Terminal
from tests.unit.orchestrator.test_dispatch import at_work

HELD, HELD_TOO, UNATTESTED = "c1" * 32, "c2" * 32, "c3" * 32
WHY = ("--reason", "the key broker is back", "--by", "alice")


def held(pod: str, code: str = "decrypt_image") -> History:
    """A pod of two containers, one of which failed."""
    made = History(pod)
    made.up_to_attested(hold_seconds=60)
    made.container()
    made.container(SIDECAR)
    made.failed(code, container=APP)
    return made


def unattested() -> History:
    made = History(UNATTESTED)
    made.requested(hold_seconds=60)
    made.sandboxed()
    made.agent_up()
    made.failed("attest")
    return made


def credentials(path: Path, key: EventKey) -> Path:
    """A NATS credentials file; a server without accounts looks at nothing of it."""
    raw = key.private.private_bytes(Encoding.Raw, PrivateFormat.Raw, NoEncryption())
    seed = nkeys.encode_seed(raw, nkeys.PREFIX_BYTE_USER).decode()
    path.write_text(
        "-----BEGIN NATS USER JWT-----\nnone\n------END NATS USER JWT------\n\n"
        f"-----BEGIN USER NKEY SEED-----\n{seed}\n------END USER NKEY SEED------\n"
    )
    return path


@pytest.fixture
async def terminal(terminal: Terminal, tmp_path: Path) -> InProcess:
    """Held launches beside the others, and an operator's settings beside the reader's."""
    async with await terminal.server.connect() as bus:
        await store(bus, held(HELD), held(HELD_TOO), unattested())
    known = credentials(tmp_path / "operator.creds", OPERATOR)
    (tmp_path / "operator.toml").write_text(BusSettings(terminal.server.url, credentials=str(known)).text())
    return InProcess(terminal)


async def launch(terminal: InProcess, pod: str) -> Launch:
    async with await terminal.server.connect() as bus:
        return await Histories(bus).launch(pod)


async def orders(terminal: InProcess) -> list[tuple[str, str, ResumeRequested]]:
    """Of all launches, (pod, container, order)."""
    async with await terminal.server.connect() as bus:
        facts = [m.fact async for _, m in Histories(bus).scan() if isinstance(m, Recorded)]
    return [(fact.pod, fact.container, fact.body) for fact in facts if isinstance(fact.body, ResumeRequested)]


# --- resume -----------------------------------------------------------------------------------------------------------


async def test_what_failed_of_a_held_launch_goes_on_and_the_order_says_who_and_why(terminal: InProcess) -> None:
    shown = await terminal.run("resume", HELD[:6], *WHY)
    assert shown.code == 0, shown.err
    assert shown.out == f"payments/redis-0  pod {HELD[:12]} container {APP[:12]}: goes on with decrypt_image\n"
    ((pod, container, order),) = await orders(terminal)
    assert (pod, container, order.start, order.by) == (HELD, APP, "decrypt_image", "alice")
    assert order.reason == "the key broker is back"
    again = (await launch(terminal, HELD)).containers[APP].progress
    assert (again.state, again.failure) == (State.REQUESTED, None)


async def test_an_order_is_seen_wherever_the_history_is(terminal: InProcess) -> None:
    await terminal.run("resume", HELD[:6], *WHY)
    lines = (await terminal.run("events", HELD[:6])).out.splitlines()
    assert " operator/alice " in lines[-1]
    assert " ok " in lines[-1]
    assert "reason the key broker is back" in lines[-1]
    document = (await terminal.run("events", HELD[:6], "--json")).document
    assert document["events"][-1]["signature"] == "ok"
    assert document["events"][-1]["body"]["reason"] == "the key broker is back"
    for command in ("show", "describe"):
        shown = await terminal.run(command, HELD[:6])
        assert "alice" in shown.out
        assert "the key broker is back" in shown.out
    assert (
        "1 orders were signed by operators whom the launch names: operator/alice"
        in (await terminal.run("verify", HELD[:6])).out
    )


async def test_a_dry_run_says_the_same_and_appends_nothing(terminal: InProcess) -> None:
    shown = await terminal.run("resume", "--all", "--dry-run", *WHY)
    assert shown.code == 0, shown.err
    assert shown.out.count("would go on with") == 3
    assert await orders(terminal) == []


async def test_of_all_launches_those_that_a_query_admits_go_on_once(terminal: InProcess) -> None:
    asked = ("resume", "--all", "--failed-at", "attested", "--code", "E-RUNTIME-001", *WHY)
    shown = await terminal.run(*asked, "--json")
    assert shown.code == 0, shown.err
    assert [(one["pod"], one["goes_on_with"], one["ordered"]) for one in shown.document["resumed"]] == [
        (HELD, "decrypt_image", True),
        (HELD_TOO, "decrypt_image", True),
    ]
    assert [pod for pod, _, _ in await orders(terminal)] == [HELD, HELD_TOO]
    again = await terminal.run(*asked)
    assert (again.code, again.out) == (0, "nothing that failed is held\n")
    assert (await terminal.run(*asked, "--container", "redis", "--json")).document["resumed"] == []


async def test_of_several_containers_the_one_that_is_named_goes_on(terminal: InProcess) -> None:
    shown = await terminal.run("resume", HELD[:6], "--container", APP[:5], *WHY)
    assert shown.code == 0, shown.err
    assert (await terminal.run("resume", HELD_TOO, "--container", SIDECAR[:5], *WHY)).code == 1
    missing = await terminal.run("resume", HELD_TOO, "--container", "web", *WHY)
    assert missing.code == 3
    assert "there is no container 'web'" in missing.err


async def test_all_that_failed_of_one_launch_goes_on(terminal: InProcess) -> None:
    made = held("c4" * 32)
    made.failed("decrypt_image", container=SIDECAR)
    async with await terminal.server.connect() as bus:
        await store(bus, made)
    shown = await terminal.run("resume", made.pod, *WHY, "--json")
    assert shown.code == 0, shown.err
    assert [(one["container"], one["ordered"]) for one in shown.document["resumed"]] == [(APP, True), (SIDECAR, True)]


async def test_a_pod_begins_again_from_the_state_that_is_asked_for(terminal: InProcess) -> None:
    refused = await terminal.run("resume", UNATTESTED, "--from", "requested", *WHY)
    assert refused.code == 1
    assert refused.err.startswith("E-REPLAY-002")
    shown = await terminal.run("resume", UNATTESTED, "--from", "sandbox", *WHY)
    assert shown.code == 0, shown.err
    assert "goes on with launch_agent" in shown.out
    assert (await launch(terminal, UNATTESTED)).progress.state is State.SANDBOX


async def test_one_that_cannot_go_on_is_told_and_keeps_no_other_back(terminal: InProcess) -> None:
    for pod, why in ((REFUSED, "E-INPUT-003"), (BOOTED, "E-INPUT-003")):
        alone = await terminal.run("resume", pod, *WHY)
        assert alone.code == 1
        assert alone.err.startswith(f"{why}: ")
    await terminal.run("resume", HELD, *WHY)
    shown = await terminal.run("resume", HELD, HELD_TOO, *WHY, "--json")
    assert shown.code == 1
    assert shown.err.startswith("E-REPLAY-002: this launch cannot be resumed: nothing of it has failed")
    assert [(one["ordered"], bool(one["fault"])) for one in shown.document["resumed"]] == [(False, True), (True, False)]


async def test_an_order_needs_a_reason_and_launches(terminal: InProcess) -> None:
    for arguments in (
        ("resume", HELD),
        ("resume", HELD, "--reason", "  "),
        ("fork", HELD),
        ("stop", HELD),
        ("resume", *WHY),
        ("resume", HELD, "--all", *WHY),
        ("resume", "--all", "--from", "gone", *WHY),
    ):
        shown = await terminal.run(*arguments)
        assert (shown.code, shown.out) == (2, ""), arguments
    assert await orders(terminal) == []


async def test_a_key_that_the_launch_does_not_name_gives_no_order(terminal: InProcess, tmp_path: Path) -> None:
    stranger = BusSettings(terminal.server.url, credentials=str(credentials(tmp_path / "other.creds", EventKey())))
    settings = tmp_path / "other.toml"
    settings.write_text(stranger.text())
    for command in ("resume", "fork", "stop"):
        shown = await terminal.run(command, HELD, "--config", str(settings), *WHY)
        assert shown.code == 1
        assert shown.err.startswith("E-INPUT-003: ")
    keyless = tmp_path / "keyless.toml"
    keyless.write_text(BusSettings(terminal.server.url).text())
    shown = await terminal.run("stop", HELD, "--config", str(keyless), *WHY)
    assert shown.err.startswith("E-INPUT-003: orders are an operator's")
    (tmp_path / "operator.toml").unlink()
    assert (await terminal.run("stop", HELD, *WHY)).code == 3
    assert (await launch(terminal, HELD)).index == len(held(HELD).raw)


async def test_an_order_to_a_bus_that_is_away_ends_with_75(terminal: InProcess) -> None:
    terminal.server.kill()
    shown = await terminal.run("resume", HELD, *WHY)
    assert (shown.code, shown.out) == (75, "")
    assert shown.err.startswith("E-BUS-001")


async def test_the_members_are_those_that_the_page_names(terminal: InProcess, promised: dict[str, set[str]]) -> None:
    async def document(*arguments: str) -> dict[str, Any]:
        return (await terminal.run(*arguments, *WHY, "--json")).document

    resumed = await document("resume", HELD)
    assert set(resumed) == promised["resume"]
    assert set(resumed["resumed"][0]) == promised["one of resumed"]
    shown = (await terminal.run("show", HELD, "--json")).document
    assert set(shown["launch"]["orders"][0]) == promised["one of orders"]
    forked = await document("fork", HELD, "--dry-run")
    assert set(forked) == promised["fork"]
    assert set(forked["containers"][0]) == promised["one of its containers"]
    assert set(await document("stop", HELD)) == promised["stop"]


# --- fork and stop ----------------------------------------------------------------------------------------------------


async def test_a_fork_is_asked_for_what_the_launch_was_and_says_its_id(terminal: InProcess) -> None:
    async with await terminal.server.connect() as bus, at_work(Dispatcher(bus, "o").run):
        shown = await terminal.run("fork", HELD, "--set", "image=127.0.0.1:5000/redis:8", *WHY, "--json")
        assert shown.code == 0, shown.err
        document = shown.document
        assert document["name"] == "redis-0.fork"
        assert [one["image"] for one in document["containers"]] == ["127.0.0.1:5000/redis:8"] * 2
        made = await Histories(bus).launch(document["pod"])
    assert isinstance(made.forked, ForkedFrom)
    assert (made.forked.pod, made.forked.by, made.forked.reason) == (HELD, "alice", "the key broker is back")
    assert made.requested is not None


async def test_a_fork_on_trial_only_says_what_it_would_be(terminal: InProcess) -> None:
    shown = await terminal.run("fork", HELD, "--at", "4", "--dry-run", *WHY)
    assert (shown.code, shown.out) == (0, "would be asked for: payments/redis-0.fork on node-a\n")
    both = await terminal.run("fork", HELD, "--dry-run", *WHY)
    assert both.out.count("redis: 127.0.0.1:5000/redis:7\n") == 2
    document = (await terminal.run("fork", HELD, "--dry-run", *WHY, "--json")).document
    assert (document["pod"], [one["id"] for one in document["containers"]]) == (None, [None, None])
    for wrong in (("--at", "99"), ("--set", "cpu=2"), ("--set", "image")):
        assert (await terminal.run("fork", HELD, *wrong, "--dry-run", *WHY)).code == 2


async def test_a_launch_is_stopped_once(terminal: InProcess) -> None:
    shown = await terminal.run("stop", HELD, *WHY)
    assert (shown.code, shown.out) == (0, f"payments/redis-0  pod {HELD[:12]} is being stopped\n")
    stopped = await launch(terminal, HELD)
    assert (stopped.progress.state, stopped.progress.stop_reason) == (State.STOPPING, "the key broker is back")
    again = await terminal.run("stop", HELD, *WHY, "--json")
    document = {"version": 1, "pod": HELD, "title": "payments/redis-0", "state": "stopping", "ordered": False}
    assert (again.code, again.document) == (0, document)
    assert (await launch(terminal, HELD)).index == stopped.index
