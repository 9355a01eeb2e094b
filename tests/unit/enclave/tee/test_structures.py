"""SGX structures: byte for byte as the SDM has them, parsed strictly, and equal after a round trip."""

from __future__ import annotations

import pytest
from hypothesis import given
from hypothesis import strategies as st

from schemas.sgx import (
    Attributes,
    KeyName,
    KeyPolicy,
    KeyRequest,
    MalformedStructure,
    Report,
    ReportBody,
    TargetInfo,
    padded_report_data,
    target_info_of,
    with_report_data,
)

u16, u32, u64 = (st.integers(0, 2**bits - 1) for bits in (16, 32, 64))
attributes = st.builds(Attributes, u64, u64)


def exactly(length: int):
    return st.binary(min_size=length, max_size=length)


targets = st.builds(TargetInfo, exactly(32), attributes, u32, u16, exactly(64))
bodies = st.builds(
    ReportBody,
    exactly(32),
    exactly(32),
    attributes,
    exactly(64),
    exactly(64),
    u16,
    u16,
    u16,
    u32,
    exactly(16),
    exactly(16),
    exactly(16),
)
reports = st.builds(Report, bodies, exactly(32), exactly(16))
requests = st.builds(
    KeyRequest,
    st.sampled_from(KeyName),
    st.integers(0, 0x3F).map(KeyPolicy),
    u16,
    exactly(16),
    attributes,
    exactly(32),
    u32,
    u16,
)


@pytest.mark.parametrize(
    ("kind", "strategy", "length"),
    [(TargetInfo, targets, 512), (ReportBody, bodies, 384), (Report, reports, 432), (KeyRequest, requests, 512)],
)
def test_what_is_written_is_read_and_has_its_length(kind, strategy, length):
    @given(strategy)
    def holds(value):
        raw = value.encode()
        assert len(raw) == length
        assert kind.parse(raw) == value

    holds()


@pytest.mark.parametrize(("kind", "length"), [(TargetInfo, 512), (ReportBody, 384), (Report, 432), (KeyRequest, 512)])
def test_whatever_is_read_is_written_back_the_same_or_refused(kind, length):
    @given(st.lists(st.tuples(st.integers(0, length - 1), st.integers(1, 255)), max_size=4))
    def holds(changes):
        raw = bytearray(length)
        raw[0] = 3 if kind is KeyRequest else 0
        for at, value in changes:
            raw[at] = value
        try:
            read = kind.parse(bytes(raw))
        except MalformedStructure:
            return
        assert read.encode() == raw

    holds()


@pytest.mark.parametrize(("kind", "length"), [(TargetInfo, 512), (ReportBody, 384), (Report, 432), (KeyRequest, 512)])
def test_another_length_is_refused(kind, length):
    for wrong in (0, length - 1, length + 1):
        with pytest.raises(MalformedStructure, match=f"{length} bytes|expected {length}"):
            kind.parse(bytes(wrong))


def test_every_field_is_where_the_sdm_puts_it():
    body = ReportBody(
        mrenclave=b"e" * 32,
        mrsigner=b"s" * 32,
        attributes=Attributes(0x0102, 0x0304),
        report_data=b"d" * 64,
        config_id=b"c" * 64,
        isv_prod_id=0x1111,
        isv_svn=0x2222,
        config_svn=0x3333,
        misc_select=0x44444444,
        cpu_svn=b"v" * 16,
        isv_ext_prod_id=b"x" * 16,
        isv_family_id=b"f" * 16,
    ).encode()
    places = {
        0: b"v" * 16,
        16: b"\x44" * 4,
        32: b"x" * 16,
        48: b"\x02\x01" + bytes(6) + b"\x04\x03" + bytes(6),
        64: b"e" * 32,
        128: b"s" * 32,
        192: b"c" * 64,
        256: b"\x11\x11\x22\x22\x33\x33",
        304: b"f" * 16,
        320: b"d" * 64,
    }
    rebuilt = bytearray(384)
    for at, content in places.items():
        rebuilt[at : at + len(content)] = content
    assert body == rebuilt


def test_targetinfo_and_keyrequest_have_their_fields_where_the_sdm_puts_them():
    target = TargetInfo(b"e" * 32, Attributes(1, 2), 0x55555555, 0x6666, b"c" * 64).encode()
    assert target[32:48] == Attributes(1, 2).encode()
    assert (target[50:52], target[52:56], target[64:128]) == (b"\x66" * 2, b"\x55" * 4, b"c" * 64)
    request = KeyRequest(
        KeyName.SEAL, KeyPolicy.CONFIGID, 0x7777, b"v" * 16, Attributes(1, 2), b"k" * 32, 0x08080808, 0x0909
    ).encode()
    assert request[:6] == b"\x04\0\x08\0\x77\x77"
    assert (request[8:24], request[40:72], request[72:76], request[76:78]) == (
        b"v" * 16,
        b"k" * 32,
        b"\x08" * 4,
        b"\x09" * 2,
    )


def test_a_key_request_for_an_unknown_key_is_refused():
    for name, policy in ((0, 1), (1, 1), (5, 1), (4, 0x40)):
        with pytest.raises(MalformedStructure, match="unknown key"):
            KeyRequest.parse(name.to_bytes(2, "little") + policy.to_bytes(2, "little") + bytes(508))


@given(bodies)
def test_a_target_is_read_off_a_report(body):
    target = target_info_of(body)
    assert (target.mrenclave, target.attributes, target.config_id) == (body.mrenclave, body.attributes, body.config_id)
    assert with_report_data(body, b"x").report_data == b"x".ljust(64, b"\0")


def test_report_data_is_padded_and_never_cut():
    assert padded_report_data(b"") == bytes(64)
    with pytest.raises(MalformedStructure, match="too long"):
        padded_report_data(bytes(65))
