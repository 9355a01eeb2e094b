"""The proof of one launch: what it holds, what it proves, and everything that breaks it."""

from __future__ import annotations

import io
import zipfile
from collections.abc import Callable
from pathlib import Path

import pytest

from orchestrator.audit.bundle import Bundle, prove, verify_bundle
from orchestrator.audit.proof import LogProof
from orchestrator.audit.reader import LogReader
from orchestrator.audit.report import Report
from orchestrator.audit.search import find_pod, of_launch
from orchestrator.audit.storage import Folder
from orchestrator.faults import Code, Permanent
from tests.simulators.audit_logs import LOG_KEY, messages, policy, policy_text, signing_key, write_messages
from tests.simulators.history import History

PODS = [f"{number:x}" * 64 for number in range(1, 5)]
Members = dict[str, bytes]


def launches() -> list[History]:
    made = [History(pod) for pod in PODS]
    for history in made:
        history.up_to_booted()
        history.garbage(b"no fact")
        history.garbage(bytes(40_000))
    return made


@pytest.fixture(scope="module")
def log(tmp_path_factory: pytest.TempPathFactory) -> LogReader:
    folder = tmp_path_factory.mktemp("log")
    write_messages(folder, messages(*launches()))
    return LogReader(Folder(folder))


def bundle_of(log: LogReader, pod: str) -> bytes:
    accepted = policy().accept(log.checkpoint())
    size = accepted.checkpoint.size
    return prove(pod, of_launch(log, size, pod), log, accepted, policy_text().encode()).encode()


@pytest.fixture(scope="module")
def raw(log: LogReader) -> bytes:
    return bundle_of(log, PODS[1])


def codes(report: Report) -> dict[int, set[Code]]:
    return {check.number: {fault.code for fault in check.faults} for check in report.checks if check.faults}


def test_a_launchs_bundle_proves_it_and_says_what_it_does_not(raw: bytes) -> None:
    report = verify_bundle(raw, policy())
    assert codes(report) == {}
    assert [check.number for check in report.checks] == [1, 2, 3, 4, 5]
    assert report.proved[0] == f"13 entries about {PODS[1]} are in test.example/audit at size 52"
    assert "w0 at 2026-01-01T00:00:01" in report.proved[1]
    told = " ".join(report.not_proved)
    for sentence in ("after the last one shown", "genuine CPU", "the CPU is simulated", "host facts"):
        assert sentence in told
    report.require()


def test_the_same_launch_gives_the_same_bytes(log: LogReader, raw: bytes) -> None:
    assert bundle_of(log, PODS[1]) == raw
    assert Bundle.parse(raw).encode() == raw


def test_its_parts_are_of_use_to_others(raw: bytes, tmp_path: Path) -> None:
    bundle = Bundle.parse(raw)
    for proved in bundle.entries:
        LogProof.parse(proved.proof.encode()).verify(proved.leaf, policy())
    with zipfile.ZipFile(io.BytesIO(raw)) as archive:
        assert b"does\nnot prove" in archive.read("README.txt")


def test_a_pod_is_found_by_a_part_of_its_id_and_by_nothing_ambiguous(log: LogReader) -> None:
    assert find_pod(log, 52, "22") == PODS[1]
    for asked, code in (("", Code.INPUT), ("payments/redis-0", Code.INPUT), ("ff", Code.NOT_FOUND)):
        with pytest.raises(Permanent) as raised:
            find_pod(log, 52, asked)
        assert raised.value.code is code


def test_a_pod_whose_first_fact_was_lost_is_found_by_its_id(tmp_path: Path) -> None:
    write_messages(tmp_path, messages(*launches())[1:])
    reader = LogReader(Folder(tmp_path))
    assert find_pod(reader, 51, PODS[0][:5]) == PODS[0]
    assert [found.index for found in of_launch(reader, 51, PODS[0])][:3] == [0, 1, 2]


def altered(raw: bytes, alter: Callable[[Members], None]) -> bytes:
    with zipfile.ZipFile(io.BytesIO(raw)) as archive:
        members = {name: archive.read(name) for name in archive.namelist()}
    alter(members)
    made = io.BytesIO()
    with zipfile.ZipFile(made, "w", zipfile.ZIP_DEFLATED) as archive:
        for name, data in members.items():
            archive.writestr(name, data)
    return made.getvalue()


def entry_altered(members: Members) -> None:
    members["entries/18.json"] = members["entries/18.json"].replace(b'"attempt":1', b'"attempt":2')


def entry_left_out(members: Members) -> None:
    del members["entries/18.json"], members["proofs/18.tlog-proof"]


def end_left_out(members: Members) -> None:
    for index in (23, 24, 25):
        del members[f"entries/{index}.json"], members[f"proofs/{index}.tlog-proof"]
    members.pop(next(name for name in members if name.startswith("evidence/")))


def proofs_swapped(members: Members) -> None:
    one, other = members["proofs/18.tlog-proof"], members["proofs/19.tlog-proof"]
    members["proofs/18.tlog-proof"], members["proofs/19.tlog-proof"] = other, one


def entries_swapped(members: Members) -> None:
    one, other = members["entries/18.json"], members["entries/19.json"]
    members["entries/18.json"], members["entries/19.json"] = other, one


def evidence_altered(members: Members) -> None:
    name = next(name for name in members if name.startswith("evidence/"))
    members[name] += b"x"


def evidence_left_out(members: Members) -> None:
    members.pop(next(name for name in members if name.startswith("evidence/")))


def log_signature_cut(members: Members) -> None:
    """Everywhere the same, so that the bundle reads."""
    lines = [line for line in members["checkpoint"].decode().splitlines(keepends=True) if "— test.example" not in line]
    replace_checkpoint(members, "".join(lines).encode())


def witnesses_cut(members: Members) -> None:
    lines = [line for line in members["checkpoint"].decode().splitlines(keepends=True) if "— witness-" not in line]
    replace_checkpoint(members, "".join(lines).encode())


def replace_checkpoint(members: Members, note: bytes) -> None:
    old = members["checkpoint"]
    for name in members:
        if name == "checkpoint" or name.startswith("proofs/"):
            members[name] = members[name].replace(old, note)


def one_proof_has_another_checkpoint(members: Members) -> None:
    members["proofs/18.tlog-proof"] = members["proofs/18.tlog-proof"].replace(b"witness-a", b"witness-x")


@pytest.mark.parametrize(
    ("alter", "found"),
    [
        (entry_altered, {3: {Code.AUDIT_INCLUSION}, 4: {Code.AUDIT_ENTRY}}),
        (entry_left_out, {5: {Code.BUS_HISTORY}}),
        (end_left_out, {}),
        (proofs_swapped, {1: {Code.AUDIT_FORMAT}}),
        (entries_swapped, {3: {Code.AUDIT_INCLUSION}, 4: {Code.AUDIT_ENTRY}}),
        (evidence_altered, {4: {Code.AUDIT_ENTRY}}),
        (evidence_left_out, {4: {Code.AUDIT_ENTRY}}),
        (log_signature_cut, {2: {Code.AUDIT_SIGNATURE}}),
        (witnesses_cut, {2: {Code.AUDIT_QUORUM}}),
        (one_proof_has_another_checkpoint, {1: {Code.AUDIT_FORMAT}}),
        (lambda members: members.pop("policy"), {1: {Code.AUDIT_FORMAT}}),
        (lambda members: members.pop("entries/18.json"), {1: {Code.AUDIT_FORMAT}}),
        (lambda members: members.update({"more": b""}), {1: {Code.AUDIT_FORMAT}}),
        (lambda members: members.update({"entries/018.json": b""}), {1: {Code.AUDIT_FORMAT}}),
        (lambda members: members.update({"entries/../x.json": b""}), {1: {Code.AUDIT_FORMAT}}),
        (lambda members: members.update({"README.txt": bytes(70_000)}), {1: {Code.AUDIT_FORMAT}}),
        (lambda members: members.update({"policy": b"log x\nquorum none\n"}), {}),
    ],
)
def test_a_bundle_with_one_thing_wrong_fails_the_check_for_it(
    raw: bytes, alter: Callable[[Members], object], found: dict[int, set[Code]]
) -> None:
    report = verify_bundle(altered(raw, alter), policy())
    assert codes(report) == found
    assert bool(report.proved) == (found == {})


def test_entries_of_two_launches_are_no_bundle(log: LogReader) -> None:
    accepted = policy().accept(log.checkpoint())
    found = [found for pod in PODS[:2] for found in of_launch(log, 52, pod)]
    two = prove("both", found, log, accepted, b"quorum none\n").encode()
    assert codes(verify_bundle(two, policy())) == {4: {Code.AUDIT_ENTRY}}


def test_a_bundle_is_judged_by_the_verifiers_policy_and_not_by_its_own(raw: bytes) -> None:
    other = policy_text().replace(str(LOG_KEY.verifier()), str(signing_key(seed="other").verifier()))
    assert codes(verify_bundle(raw, type(policy()).parse(other.encode()))) == {2: {Code.AUDIT_SIGNATURE}}


@pytest.mark.parametrize("garbage", [b"", b"PK", b"PK\3\4" + bytes(100), b"x" * 1000])
def test_garbage_is_no_bundle(garbage: bytes) -> None:
    assert codes(verify_bundle(garbage, policy())) == {1: {Code.AUDIT_FORMAT}}


def test_a_bundle_cut_anywhere_is_refused_and_nothing_else_happens(raw: bytes) -> None:
    for end in range(0, len(raw), 97):
        assert codes(verify_bundle(raw[:end], policy())) == {1: {Code.AUDIT_FORMAT}}


def test_a_bundle_with_a_byte_changed_is_refused_or_says_the_same(raw: bytes) -> None:
    honest = verify_bundle(raw, policy()).proved
    for at in range(0, len(raw), 61):
        changed = bytearray(raw)
        changed[at] ^= 0x20
        report = verify_bundle(bytes(changed), policy())
        assert report.faults or report.proved == honest


def test_a_launch_that_the_log_does_not_know_has_no_bundle(log: LogReader) -> None:
    with pytest.raises(Permanent) as raised:
        bundle_of(log, "9" * 64)
    assert raised.value.code is Code.NOT_FOUND
