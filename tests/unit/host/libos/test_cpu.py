"""EREPORT and EGETKEY of the simulated CPU, as functions."""

from __future__ import annotations

from dataclasses import replace

import pytest

from schemas.sgx import Attributes, Flags, KeyName, KeyPolicy, KeyRequest, TargetInfo
from schemas.simulated_cpu import Refusal, Refused
from workers.host.libos.sim.cpu import Cpu, Secs, attributes_of, derive

SVN = bytes([2] * 8 + [0] * 8)
ONE = Secs(b"1" * 32, config_id=b"c" * 64)
TWO = Secs(b"2" * 32)
SEAL = KeyRequest(KeyName.SEAL, KeyPolicy.MRENCLAVE)


@pytest.fixture
def cpu():
    return Cpu(b"r" * 32, SVN)


def test_only_the_target_of_a_report_can_check_it(cpu):
    report = cpu.ereport(ONE, TWO.target_info(), bytes(64))
    assert cpu.report_is_for(TWO, report)
    others = [
        ONE,
        replace(TWO, config_id=b"x" * 64),
        replace(TWO, attributes=attributes_of(debug=True)),
        replace(TWO, mrenclave=b"3" * 32),
    ]
    assert not any(cpu.report_is_for(other, report) for other in others)


def test_a_report_says_everything_of_its_maker(cpu):
    body = cpu.ereport(ONE, TWO.target_info(), b"d" * 64).body
    assert (body.mrenclave, body.config_id, body.report_data, body.cpu_svn) == (b"1" * 32, b"c" * 64, b"d" * 64, SVN)
    assert body.mrsigner == bytes(32)
    assert body.attributes.flags == Flags.INIT | Flags.MODE64BIT | Flags.KSS


def test_a_report_of_another_machine_does_not_check(cpu):
    report = Cpu(b"s" * 32, SVN).ereport(ONE, TWO.target_info(), bytes(64))
    assert not cpu.report_is_for(TWO, report)


def test_a_report_made_before_a_reset_still_checks(cpu):
    report = cpu.ereport(ONE, TWO.target_info(), bytes(64))
    assert Cpu(b"r" * 32, SVN).report_is_for(TWO, report)


def test_every_dependency_of_a_sealing_key_changes_it(cpu):
    keys = [
        cpu.egetkey(ONE, SEAL),
        cpu.egetkey(TWO, SEAL),
        cpu.egetkey(replace(ONE, attributes=attributes_of(debug=True)), SEAL),
        cpu.egetkey(ONE, replace(SEAL, policy=KeyPolicy.MRENCLAVE | KeyPolicy.CONFIGID)),
        cpu.egetkey(ONE, replace(SEAL, key_id=b"k" * 32)),
        cpu.egetkey(ONE, replace(SEAL, cpu_svn=SVN)),
        cpu.egetkey(ONE, replace(SEAL, attribute_mask=Attributes(Flags.KSS, 0))),
        cpu.egetkey(ONE, replace(SEAL, misc_mask=1)),
        Cpu(b"s" * 32, SVN).egetkey(ONE, SEAL),
        cpu.egetkey(ONE, KeyRequest(KeyName.REPORT)),
    ]
    assert len(set(keys)) == len(keys)
    assert {len(key) for key in keys} == {16}


def test_a_sealing_key_survives_a_reset(cpu):
    assert Cpu(b"r" * 32, SVN).egetkey(ONE, SEAL) == cpu.egetkey(ONE, SEAL)


@pytest.mark.parametrize(
    "request_",
    [
        replace(SEAL, policy=KeyPolicy(0)),
        replace(SEAL, policy=KeyPolicy.MRSIGNER),
        replace(SEAL, policy=KeyPolicy.MRENCLAVE | KeyPolicy.MRSIGNER),
        replace(SEAL, policy=KeyPolicy.CONFIGID),
        replace(SEAL, isv_svn=1),
        replace(SEAL, config_svn=1),
        replace(SEAL, cpu_svn=bytes([3]) + SVN[1:]),
    ],
)
def test_a_key_beyond_what_the_enclave_is_does_not_exist(cpu, request_):
    with pytest.raises(Refused) as refused:
        cpu.egetkey(ONE, request_)
    assert refused.value.refusal is Refusal.KEY_REFUSED


def test_each_purpose_has_a_key_of_its_own():
    assert len({derive(b"r" * 32, purpose) for purpose in (b"report", b"seal", b"owner-epoch")}) == 3


def test_a_target_with_every_field_set_gives_another_key(cpu):
    base = TWO.target_info()
    variants = [
        base,
        replace(base, misc_select=1),
        replace(base, config_svn=1),
        replace(base, config_id=b"x" * 64),
        replace(base, attributes=Attributes(base.attributes.flags, 7)),
        TargetInfo(bytes(32), base.attributes),
    ]
    macs = {cpu.ereport(ONE, target, bytes(64)).mac for target in variants}
    assert len(macs) == len(variants)
