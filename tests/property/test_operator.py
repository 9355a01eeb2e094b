"""Whatever happens to a cluster, the operator's decisions lead it to where it should be, and nowhere else."""

from __future__ import annotations

import contextlib
from dataclasses import replace

from hypothesis import given, settings
from hypothesis import strategies as st

from deploy.operator.desired import Desired, Verification
from deploy.operator.names import CLAIM_LABEL, RUNTIME_LABEL
from deploy.operator.record import Step, parse_record
from orchestrator.faults import Permanent
from tests.simulators.nodes import A, B, C, World

DESIRED = Desired(name="cc", generation=1, payload=A)
EVENT = st.one_of(
    st.tuples(st.just("join"), st.integers(0, 4)),
    st.tuples(st.just("leave"), st.integers(0, 4)),
    st.tuples(st.just("unready"), st.integers(0, 4)),
    st.tuples(st.just("ready"), st.integers(0, 4)),
    st.tuples(st.just("guest"), st.integers(0, 4)),
    st.tuples(st.just("guests-end"), st.integers(0, 4)),
    st.tuples(st.just("job-ends"), st.integers(0, 4)),
    st.tuples(st.just("job-fails"), st.integers(0, 4)),
    st.tuples(st.just("job-dies"), st.integers(0, 4)),
    st.tuples(st.just("verified"), st.integers(0, 4)),
    st.tuples(st.just("refuted"), st.integers(0, 4)),
    st.tuples(st.just("payload"), st.sampled_from([A, B, C])),
    st.tuples(st.just("batch"), st.integers(1, 3)),
    st.tuples(st.just("verify"), st.booleans()),
    st.tuples(st.just("drain"), st.booleans()),
    st.tuples(st.just("select"), st.sampled_from(["", "even"])),
    st.tuples(st.just("time"), st.integers(1, 2000)),
    st.tuples(st.just("delete"), st.just(0)),
    st.tuples(st.just("decide"), st.booleans()),
)


@settings(max_examples=150, deadline=None)
@given(st.integers(0, 4), st.lists(EVENT, max_size=60))
def test_any_sequence_of_events_converges_and_breaks_no_rule_on_the_way(count: int, events: list) -> None:
    world = World(DESIRED, count)
    for kind, what in events:
        world.happen(kind, what)
        world.decide()
    world.calm()
    if world.desired.deleting:
        assert not world.finalizer
        assert all(not node.labels.keys() & {RUNTIME_LABEL, CLAIM_LABEL} for node in world.nodes.values())
        assert world.classes == {}
        return
    for node in world.selected():
        assert node.record is not None
        assert node.record.step is Step.SETTLED
        assert node.labels[RUNTIME_LABEL] == "true"
        assert node.record.payload == world.desired.payload == world.on_disk[node.name]
    for name in world.nodes.keys() - {node.name for node in world.selected()}:
        assert world.nodes[name].record is None
        assert not world.on_disk.get(name)
    assert (world.desired.runtime_class in world.classes) is bool(world.selected())
    conditions = {condition["type"]: condition["status"] for condition in world.status["conditions"]}
    assert conditions == {"Ready": str(bool(world.selected())), "Progressing": "False", "Degraded": "False"}


@settings(max_examples=60, deadline=None)
@given(st.integers(1, 5), st.integers(1, 3), st.booleans())
def test_a_payload_that_fails_everywhere_touches_one_node_and_is_taken_back(
    nodes: int, batch: int, verify: bool
) -> None:
    world = World(replace(DESIRED, batch_size=batch), nodes)
    world.calm()
    world.broken = {B}
    asked = Verification(image=A, command=(), seconds=60) if verify else None
    world.desired = replace(world.desired, payload=B, generation=2, verification=asked)
    world.touched.clear()
    world.settle()
    assert len(world.touched) == 1
    assert set(world.on_disk.values()) == {A}
    assert all(node.labels[RUNTIME_LABEL] == "true" for node in world.nodes.values())
    assert {c["type"]: c["status"] for c in world.status["conditions"]}["Degraded"] == "True"


@given(st.text(max_size=200))
def test_a_record_is_read_or_refused_with_a_code(text: str) -> None:
    with contextlib.suppress(Permanent):
        assert parse_record(text).runtime


def test_a_record_reads_back_as_it_was_written() -> None:
    world = World(DESIRED, 3)
    world.calm()
    for node in world.nodes.values():
        assert node.record is not None
        assert parse_record(node.record.text()) == node.record
