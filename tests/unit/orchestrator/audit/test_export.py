"""Entries for other tools: each format by its own rules, each with the way back to the evidence."""

from __future__ import annotations

import csv
import io
import json
import re

import pytest

from orchestrator import events
from orchestrator.audit.entry import Entry, Message
from orchestrator.audit.export import FORMATS, header
from orchestrator.audit.merkle import leaf_hash
from orchestrator.audit.reader import holds
from orchestrator.audit.search import SUMMARY, Found, Query
from orchestrator.faults import Code, Permanent
from orchestrator.lifecycle import Zone
from tests.simulators.audit_logs import messages
from tests.simulators.history import APP, START_NS, History

HOSTILE = '=cmd|"x",\n\\y\u2028🦀\x07'


def found() -> list[Found]:
    history = History()
    history.up_to_booted()
    history.failed("boot_app", container=APP)
    history.exited()
    history.garbage(b"garbage")
    all_ = messages(history)
    fact = events.Fact("p", events.StopRequested(HOSTILE), Zone.HOST, HOSTILE, at_ns=START_NS)
    all_.append(Message(len(all_) + 1, "ev.0.p", events.encode(fact, 1, b"", None)))
    entries = [Entry.of(message) for message in all_]
    return [Found(index, entry.encode(), entry) for index, entry in enumerate(entries)]


@pytest.mark.parametrize("format_", FORMATS)
def test_every_entry_is_one_line_with_its_leafs_hash(format_: str) -> None:
    for one in found():
        line = FORMATS[format_](one)
        if format_ != "csv":
            assert "\n" not in line
        if format_ == "jsonl":
            assert leaf_hash(line.encode()) == leaf_hash(one.leaf)
        else:
            assert leaf_hash(one.leaf).hex() in line


def test_a_line_of_jsonl_is_the_leaf() -> None:
    for one in found():
        assert FORMATS["jsonl"](one).encode() == one.leaf


def test_csv_reads_back_and_runs_in_no_spreadsheet() -> None:
    text = "\n".join([header("csv"), *(FORMATS["csv"](one) for one in found())])
    rows = list(csv.DictReader(io.StringIO(text)))
    assert [row["log_index"] for row in rows] == [str(one.index) for one in found()]
    assert rows[-1]["actor"] == f"'{HOSTILE}"
    assert rows[0]["kind"] == "pod-requested"


def test_ocsf_is_application_lifecycle() -> None:
    told = [json.loads(FORMATS["ocsf"](one)) for one in found()]
    for event, one in zip(told, found(), strict=True):
        assert (event["class_uid"], event["category_uid"]) == (6002, 6)
        assert event["type_uid"] == 6002 * 100 + event["activity_id"]
        assert event["unmapped"]["audit"]["log_index"] == one.index
    by_kind = {one.entry.kind: event for event, one in zip(told, found(), strict=True)}
    assert (by_kind["app-booted"]["activity_id"], by_kind["exited"]["activity_id"]) == (3, 4)
    assert by_kind["step-failed"]["status_code"] == "E-RUNTIME-001"
    assert by_kind["pod-requested"]["time"] == (START_NS + 10_000_000) // 10**6
    assert by_kind["image-decrypted"]["unmapped"]["statement"]["reference"] == "127.0.0.1:5000/redis:7"


def test_cef_keeps_its_delimiters() -> None:
    for one in found():
        line = FORMATS["cef"](one)
        head = re.split(r"(?<!\\)\|", line, maxsplit=7)
        assert head[0] == "CEF:0"
        assert len(head) == 8
        assert re.search(rf"(?:^| )externalId={one.index} ", head[7])
    assert "suser==" not in FORMATS["cef"](found()[-1])


def test_otlp_is_a_log_record() -> None:
    for one in found():
        (resource,) = json.loads(FORMATS["otlp"](one))["resourceLogs"]
        (record,) = resource["scopeLogs"][0]["logRecords"]
        attributes = {a["key"]: next(iter(a["value"].values())) for a in record["attributes"]}
        assert attributes["audit.log.log_index"] == str(one.index)
        assert record["severityNumber"] in {9, 17}
        assert record["timeUnixNano"].isdecimal()


# --- search ---------------------------------------------------------------------------------------------------------


def matching(*conditions: str, since: str = "", until: str = "") -> list[int]:
    query = Query.of(conditions, since, until)
    return [one.index for one in found() if holds(one.leaf, query.marks) and query.matches(one.entry)]


def test_conditions_on_one_field_are_alternatives_and_on_two_both_must_hold() -> None:
    everything = [one.index for one in found()]
    assert matching() == everything
    assert matching("zone=enclave") == [3, 5, 6, 9, 10]
    assert matching("kind=app-booted", "kind=attested") == [3, 10]
    assert matching("kind=app-booted", "zone=host") == []
    assert matching("code=E-RUNTIME-001", f"container={APP}") == [11]
    assert matching("kind=foreign") == [13]
    assert matching("signed=true") == [3, 5, 6, 9, 10]
    assert matching("pod=p") == [14]


@pytest.mark.parametrize("name", sorted(SUMMARY))
def test_an_entry_bears_the_marks_of_its_own_members_so_that_none_is_passed_over(name: str) -> None:
    for one in found():
        query = Query.of([f"{name}={getattr(one.entry, name)}"])
        assert query.matches(one.entry)
        assert holds(one.leaf, query.marks)


def test_what_the_fact_itself_says_can_be_asked_for() -> None:
    assert matching("image=127.0.0.1:5000/redis:7") == [4]
    assert matching("node=node-a") == [0]
    assert matching("key_ids=kbs:///default/image-key/redis") == [5]
    assert matching("expected=success") == [11]
    assert matching("nothing=1") == []


def test_times_are_compared_as_far_as_they_are_told() -> None:
    dated = [one.index for one in found() if one.entry.at]
    assert matching(since="2026-01-01") == dated
    assert matching(since="2026-01-01T00:00:00.5") == [5, 6, 7, 8, 9, 10, 11, 12]
    assert matching(until="2026-01-01T00:00:00Z") == [0, 1, 2, 3, 4, 5, 14]
    assert matching(until="2025-12-31") == []


@pytest.mark.parametrize("wrong", ["", "kind", "=x"])
def test_what_is_no_condition_is_refused(wrong: str) -> None:
    with pytest.raises(Permanent) as raised:
        Query.of([wrong])
    assert raised.value.code is Code.INPUT


@pytest.mark.parametrize("wrong", ["yesterday", "2026", "2026-01-01 00:00", "12:00"])
def test_what_is_no_time_is_refused(wrong: str) -> None:
    with pytest.raises(Permanent) as raised:
        Query.of([], since=wrong)
    assert raised.value.code is Code.INPUT
