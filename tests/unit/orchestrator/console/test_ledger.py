"""The audit log in the console: only what a policy accepts, each entry proved, bundles that the verifier takes."""

from __future__ import annotations

import io
import re
import zipfile
from pathlib import Path

import pytest

from orchestrator.audit.bundle import verify_bundle
from orchestrator.audit.merkle import leaf_hash
from orchestrator.audit.proof import LogProof
from orchestrator.audit.storage import Folder
from orchestrator.console.ledger import PAGE, Ledger
from orchestrator.faults import Code, Permanent
from orchestrator.replay import bundle as exported
from orchestrator.replay.redaction import check_proofs
from tests.simulators import audit_logs, fleet
from tests.simulators.history import POD, START_NS, History
from tests.unit.orchestrator.console.conftest import Browser
from tests.unit.orchestrator.console.test_pages import text_of


def booted() -> History:
    history = History()
    history.up_to_booted()
    return history


@pytest.fixture
def folder(tmp_path: Path) -> Path:
    """Where the log lies, and the console of `conftest` looks for it."""
    return tmp_path / "audit"


@pytest.fixture
def ledger(tmp_path: Path, folder: Path) -> Ledger:
    return Ledger(Folder(folder), audit_logs.write_policy(tmp_path / "audit.policy"))


async def test_a_launchs_proof_is_what_the_verifier_takes(browser: Browser, ledger: Ledger, folder: Path) -> None:
    history, other = booted(), History("cc" * 32)
    other.up_to_attested()
    await browser.tell(history, other)
    audit_logs.write_messages(folder, audit_logs.messages(history, other))
    assert f"/launches/{POD}/proof" in await browser.see(f"/launches/{POD}")
    answer = await browser.http.get(f"/launches/{POD}/proof")
    assert answer.headers["content-disposition"] == f'attachment; filename="launch-{POD[:12]}.proof.zip"'
    report = verify_bundle(answer.content, audit_logs.policy())
    report.require()
    with zipfile.ZipFile(io.BytesIO(answer.content)) as archive:
        assert sum(name.startswith("entries/") for name in archive.namelist()) == len(history.raw)


async def test_a_launchs_export_is_what_import_takes_with_the_proofs_that_there_are(
    browser: Browser, ledger: Ledger, folder: Path
) -> None:
    history = booted()
    await browser.tell(history)
    without = exported.decode((await browser.http.get(f"/launches/{POD}/export")).content)
    assert [item.raw for item in without.items] == history.raw
    assert not any(item.proof for item in without.items)
    audit_logs.write_messages(folder, audit_logs.messages(history))
    answer = await browser.http.get(f"/launches/{POD}/export")
    assert f'filename="{POD[:12]}.launch.jsonl"' in answer.headers["content-disposition"]
    ((accepted, count),) = check_proofs(exported.decode(answer.content), audit_logs.policy())
    assert accepted.checkpoint.size == count == len(history.raw)
    await browser.see("/launches/nobody/export", status=404)


async def test_the_page_of_a_launch_says_how_much_of_it_is_logged(
    browser: Browser, ledger: Ledger, folder: Path
) -> None:
    history = booted()
    await browser.tell(history)
    assert "There is no audit log here" in await browser.see(f"/launches/{POD}")
    audit_logs.write_messages(folder, audit_logs.messages(history)[:8])
    text = text_of(await browser.see(f"/launches/{POD}"))
    assert "8 of 11 messages, by the checkpoint of test.example/audit at size 8" in text
    assert "3 messages of the stream came since" in text_of(await browser.see("/audit"))


async def test_entries_are_listed_newest_first_and_each_is_proved_on_its_page(
    browser: Browser, ledger: Ledger, folder: Path
) -> None:
    history = booted()
    await browser.tell(history)
    audit_logs.write_messages(folder, audit_logs.messages(history))
    html = await browser.see("/audit")
    assert [html.index(f'id="e-{index}"') for index in range(10, -1, -1)] == sorted(
        html.index(f'id="e-{index}"') for index in range(11)
    )
    assert "witness-a.example/w" in html or "w0" in html
    page = text_of(await browser.see("/audit/5"))
    assert "image-decrypted" in page
    assert "kbs:///default/image-key/redis" in page
    leaf = (await browser.http.get("/audit/5/leaf")).content
    assert leaf_hash(leaf).hex() in page
    proof = LogProof.parse((await browser.http.get("/audit/5/proof")).content)
    proof.verify(leaf, audit_logs.policy())
    await browser.see("/audit/11", status=404)


async def test_the_list_of_entries_filters_and_goes_on(browser: Browser, ledger: Ledger, folder: Path) -> None:
    many = list(fleet.histories(20, START_NS))
    audit_logs.write_messages(folder, audit_logs.messages(*many))
    for query, least in (("kind=attested", 10), (f"pod={many[3].pod}", 3), ("zone=enclave&kind=fs-sealed", 5)):
        html = await browser.see(f"/audit?{query}")
        assert html.count("data-row") >= least, query
        assert "pod-requested" not in html or "pod=" in query
    whole, beginning = [await browser.see(f"/audit?pod={many[3].pod[:digits]}") for digits in (64, 9)]
    assert re.findall(r'id="e-\d+"', beginning) == re.findall(r'id="e-\d+"', whole)
    first = await browser.see("/audit")
    assert first.count("data-row") == PAGE
    assert 'rel="next" href="/audit?' in first
    assert "No entry" in await browser.see("/audit?code=E-NOTHING-001")


async def test_a_log_that_is_not_believed_is_not_shown(browser: Browser, ledger: Ledger, folder: Path) -> None:
    history = booted()
    await browser.tell(history)
    audit_logs.write_messages(folder, audit_logs.messages(history), cosigned=1)
    html = await browser.see("/audit", status=500)
    assert "E-AUDIT-003" in html
    assert "data-row" not in html
    assert "no audit log here whose checkpoint is believed" in await browser.see(f"/launches/{POD}")
    assert (await browser.http.get(f"/launches/{POD}/proof")).status_code == 500


async def test_where_there_is_no_log_or_no_policy_that_is_said(browser: Browser, tmp_path: Path) -> None:
    assert "There is no audit log here" in await browser.see("/audit")
    audit_logs.write_messages(tmp_path / "audit", audit_logs.messages(booted()))
    assert "Nobody has said whom to believe" in await browser.see("/audit")


def test_an_altered_entry_is_not_shown_as_proved(ledger: Ledger, folder: Path) -> None:
    audit_logs.write_messages(folder, audit_logs.messages(booted()))
    (bundle,) = (folder / "tile/entries").glob("000.p/*")
    raw = bytearray(bundle.read_bytes())
    place = raw.index(b'"kind":"sandbox-created"') + 12
    raw[place : place + 1] = b"S" if raw[place : place + 1] != b"S" else b"T"
    bundle.write_bytes(raw)
    with pytest.raises(Permanent) as refused:
        ledger.open_().entry(1)
    assert refused.value.code in {Code.AUDIT_INCLUSION, Code.AUDIT_ENTRY, Code.AUDIT_TILE}


def test_a_proof_is_found_also_in_a_log_with_a_gap(ledger: Ledger, folder: Path) -> None:
    history = booted()
    messages = audit_logs.messages(History("dd" * 32), history)
    audit_logs.write_messages(folder, messages[3:])
    opened = ledger.open_()
    bundle = opened.proof_of(POD, [message.sequence for message in messages])
    assert len(zipfile.ZipFile(io.BytesIO(bundle)).namelist()) == 3 + 2 * len(messages[3:])
    with pytest.raises(Permanent) as refused:
        opened.proof_of("ee" * 32, [999])
    assert refused.value.code is Code.NOT_FOUND


def test_a_long_log_is_read_a_page_at_a_time_from_its_end(ledger: Ledger, folder: Path) -> None:
    many = list(fleet.histories(60, START_NS))
    audit_logs.write_messages(folder, audit_logs.messages(*many))
    opened = ledger.open_()
    seen, before = [], None
    while before is None or before > 0:
        listed = opened.newest({}, before)
        seen += [one.index for one in listed.found]
        before = listed.before
    assert seen == list(range(opened.size - 1, -1, -1))
    assert opened.newest({}, 10**9).found[0].index == opened.size - 1
