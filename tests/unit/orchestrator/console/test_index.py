"""Rows are what the fold says, counts are of the rows, and ten thousand are no wait."""

from __future__ import annotations

from collections import Counter

from orchestrator import events
from orchestrator.console.index import Group, Index
from orchestrator.console.query import PAGE, Query, select
from orchestrator.faults import Code
from orchestrator.fold import fold
from orchestrator.lifecycle import State
from tests.simulators import fleet
from tests.simulators.history import APP, POD, SIDECAR, START_NS, History


def index_of(*histories: History) -> Index:
    index = Index()
    stored = [(history.pod, raw) for history in histories for raw in history.raw]
    index.take([(pod, events.read(sequence, raw)) for sequence, (pod, raw) in enumerate(stored, 1)])
    return index


def check_counts(index: Index) -> None:
    rows = list(index.rows.values())
    assert index.groups == Counter(row.group for row in rows)
    assert index.states == Counter(row.state for row in rows)
    assert index.nodes == Counter(row.node for row in rows if row.node)
    assert index.codes == Counter(row.code for row in rows if row.code)


def test_a_row_says_what_the_fold_says_after_every_message() -> None:
    history = History()
    history.up_to_booted()
    history.exited()
    history.stop()
    history.torn_down()
    index = Index()
    for message, launch in zip(history.records(), folds(history), strict=True):
        index.take([(POD, message)])
        row = index.rows[POD]
        assert (row.state, row.title) == (launch.state, "payments/redis-0" if launch.requested else POD)
        check_counts(index)
    assert index.groups == {Group.ENDED: 1}
    assert index.rows[POD].steps == 7


def folds(history: History):
    records = history.records()
    return [fold(history.pod, records[:number]) for number in range(1, len(records) + 1)]


def test_every_outcome_of_a_fleet_is_counted_in_one_group() -> None:
    many = list(fleet.histories(200, START_NS))
    index = index_of(*many)
    check_counts(index)
    assert len(index.rows) == 200
    for history in many:
        launch, row = fold(history.pod, history.records()), index.rows[history.pod]
        assert row.state is launch.state
        assert (row.group is Group.FAILED) == (launch.failure is not None)
        assert row.code == (launch.failure.diagnosis.code if launch.failure else "")
    assert set(index.groups) == set(Group)


def test_one_that_failed_stays_failed_when_its_traces_are_removed() -> None:
    history = History()
    history.up_to_attested()
    history.container()
    history.failed("decrypt_image", container=APP)
    history.stop()
    history.torn_down()
    row = index_of(history).rows[POD]
    assert (row.state, row.group, row.code) == (State.GONE, Group.FAILED, "E-RUNTIME-001")


def test_a_message_that_was_taken_is_not_taken_again() -> None:
    history = History()
    history.up_to_attested()
    index = index_of(history)
    index.take([(POD, message) for message in history.records()])
    assert index.messages == 4
    check_counts(index)


def test_a_broken_chain_is_a_failure_and_what_comes_after_it_changes_nothing() -> None:
    history = History()
    history.up_to_attested()
    index = index_of(history)
    other = History(key=history.key)
    other.up_to_attested()
    other.raw[3] = history.raw[2]
    broken = index_of(other)
    row = broken.rows[POD]
    assert (row.group, row.code) == (Group.FAILED, Code.BUS_HISTORY)
    check_counts(broken)
    assert index.rows[POD].group is Group.LAUNCHING


def test_what_is_no_fact_is_no_reason_to_stop() -> None:
    history = History()
    history.up_to_attested()
    index = index_of(history)
    index.take([("garbage", events.read(99, b"\xff" * 40)), (POD, events.read(100, b"no fact"))])
    assert index.rows["garbage"].title == "garbage"
    check_counts(index)


def test_a_forgery_makes_neither_a_worker_nor_a_verdict() -> None:
    history = History()
    history.up_to_attested()
    history.container()
    before = index_of(history)
    forged = events.ImageDecrypted("r", "sha256:1", "p", "signed by me", (), 1, 1)
    history.say(forged, container=APP, attempt=1, signed=False)
    after = index_of(history)
    assert after.tally.judged.keys() == before.tally.judged.keys()
    assert after.rows[POD].code == Code.FACT_FORGED


def test_the_time_that_a_launch_took_leaves_out_what_waited_for_containerd() -> None:
    history = History()
    history.up_to_sealed()
    history.now_ns += 3600 * 10**9
    for step in (history.start, history.app_started, history.delivered, history.booted):
        step()
    assert index_of(history).rows[POD].took_ns < 3 * 10**9


def test_a_launch_is_done_when_all_its_containers_are() -> None:
    history = History()
    history.up_to_booted()
    history.container(SIDECAR)
    row = index_of(history).rows[POD]
    assert (row.group, row.took_ns) == (Group.LAUNCHING, 0)


def test_related_are_those_of_the_same_name_and_then_of_the_same_image() -> None:
    many = list(fleet.histories(300, START_NS))
    index = index_of(*many)
    row = next(row for row in index.newest_first() if row.images)
    related = index.related(row)
    assert related
    assert row.pod not in {other.pod for other in related}
    same = [(other.namespace, other.name) == (row.namespace, row.name) for other in related]
    assert same == sorted(same, reverse=True)


def test_of_ten_thousand_launches_a_page_is_what_its_query_admits() -> None:
    index = index_of(*list(fleet.histories(40, START_NS)))
    rows = list(index.rows.values()) * 250
    for query in (Query(), Query(state="failed"), Query(text="redis node-a"), Query(node="node-a", code="E-IMAGE-004")):
        page = select(reversed(rows), query)
        assert page.total == sum(map(query.admits, rows))
        assert len(page.rows) == min(PAGE, page.total)


def test_a_querys_address_leads_to_the_same_query() -> None:
    for given in (
        {},
        {"state": "failed"},
        {"state": "app-booted", "page": "3"},
        {"text": "a b&c=é", "node": "n", "namespace": "x", "code": "E-KEY-001"},
    ):
        query = Query.parse(given)
        address = query.address(page=query.page)
        parsed = dict(part.split("=") for part in address.partition("?")[2].split("&") if part)
        assert Query.parse({name: unquoted(value) for name, value in parsed.items()}) == query


def unquoted(value: str) -> str:
    from urllib.parse import unquote_plus

    return unquote_plus(value)


def test_what_a_query_does_not_understand_does_not_filter() -> None:
    for given in (
        {"state": "nonsense"},
        {"page": "-1"},
        {"page": "x"},
        {"page": "9" * 30},
        {"page": "٣"},
        {"other": "1"},
    ):
        assert Query.parse(given) == Query(), given
    assert Query.parse({"page": "999999"}).page == 100_000


def test_a_page_after_the_last_is_the_last() -> None:
    rows = list(index_of(*list(fleet.histories(60, START_NS))).rows.values())
    page = select(rows, Query(page=9))
    assert (page.number, page.count, page.first, len(page.rows)) == (2, 2, 51, 10)
    assert select([], Query()).first == 0
