"""The control socket's messages: both ends read the same thing, and nothing else."""

from __future__ import annotations

import json
from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import strategies as st

from orchestrator.faults import Code, Permanent, Temporary
from workers.host.libos.backend import MountedBundle
from workers.host.libos.entry import Entry
from workers.host.libos.sim import control

BUNDLE = MountedBundle(Path("/x/y"), "ab" * 32, b"m" * 32, Entry(("/a", "é"), (("A", "1"),), "/"))
REQUESTS = [
    control.MountRequest(Path("/a/b c")),
    control.EinitRequest(77, "0" * 64, b"\x01" * 64, debug=True),
    control.ReleaseRequest(4_194_304),
    control.StatusRequest(),
]


@pytest.mark.parametrize("request_", REQUESTS)
def test_what_one_side_asks_the_other_reads(request_):
    assert control.parse_request(control.encode_request(request_)) == request_


def test_what_one_side_answers_the_other_reads():
    status = control.Status((control.EnclaveStatus(5, "ab" * 32, debug=False),), ("cd" * 32,))
    assert control.parse_bundle(control.encode_bundle(BUNDLE)) == BUNDLE
    assert control.parse_status(control.encode_status(status)) == status
    control.parse_nothing(control.encode_nothing())


@pytest.mark.parametrize("kind", [Permanent, Temporary])
def test_a_fault_crosses_whole(kind):
    fault = kind(Code.AGENT_MEASUREMENT, "m", expected="e", got="g", advice="a")
    for parse in (control.parse_bundle, control.parse_nothing, control.parse_status):
        with pytest.raises(kind) as raised:
            parse(control.encode_fault(fault))
        assert raised.value.diagnosis == fault.diagnosis


@given(
    st.binary(max_size=200)
    | st.recursive(st.none() | st.booleans() | st.integers() | st.text(), st.lists).map(
        lambda value: json.dumps({"do": "einit", "done": value, "pid": value}).encode()
    )
)
def test_nothing_else_is_read(raw):
    for parse in (control.parse_request, control.parse_bundle, control.parse_status):
        with pytest.raises(Permanent) as refused:
            parse(raw)
        assert refused.value.code is Code.INPUT
