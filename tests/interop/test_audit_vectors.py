"""The audit log's vectors: our code fails with the class that each names, and Go's packages refuse the same ones."""

from __future__ import annotations

import base64
import json
from collections.abc import Callable
from pathlib import Path

import pytest

from orchestrator.audit.merkle import check_consistency, check_inclusion, leaf_hash
from orchestrator.audit.note import Note
from orchestrator.audit.policy import Policy
from orchestrator.audit.proof import LogProof
from orchestrator.audit.tiles import Tile
from orchestrator.faults import Code, Permanent
from tests.simulators.go_peer import GoPeer

VECTORS = json.loads((Path(__file__).resolve().parent.parent / "vectors/audit/vectors.json").read_text())
OTHERWISE = {
    "the root has stray bits": "Go's base64 takes bits that say nothing",
    "a signature has stray bits": "Go's base64 takes bits that say nothing",
    "the root is of no entry, the size not 0": "package tlog takes any root at size 0",
    "from nothing": "package tlog gives no proof from the empty tree; the witness protocol allows it, with none",
}
"""Where Go's packages decide otherwise, and why we do not follow them."""

Vector = dict[str, object]


def raw(text: object) -> bytes:
    return base64.b64decode(str(text))


def hashes(listed: object) -> list[bytes]:
    assert isinstance(listed, list)
    return [bytes.fromhex(part) for part in listed]


def inclusion(vector: Vector) -> None:
    entry, root = bytes.fromhex(str(vector["entry"])), bytes.fromhex(str(vector["root"]))
    check_inclusion(leaf_hash(entry), vector["index"], vector["size"], hashes(vector["path"]), root)


def consistency(vector: Vector) -> None:
    old_root, root = bytes.fromhex(str(vector["old_root"])), bytes.fromhex(str(vector["root"]))
    check_consistency(vector["old"], old_root, vector["size"], root, hashes(vector["path"]))


def checkpoints(vector: Vector) -> None:
    Policy.parse(VECTORS["policy"].encode()).accept(Note.parse(raw(vector["note"])))


def proofs(vector: Vector) -> None:
    policy = Policy.parse(VECTORS["policy"].encode())
    LogProof.parse(raw(vector["proof"])).verify(bytes.fromhex(str(vector["entry"])), policy)


def policies(vector: Vector) -> None:
    Policy.parse(raw(vector["policy"]))


def tile_paths(vector: Vector) -> None:
    tile = Tile.parse(str(vector["path"]))
    assert tile == Tile(*vector["tile"])
    assert tile.path == vector["path"]


SECTIONS: dict[str, Callable[[Vector], None]] = {
    function.__name__: function for function in (inclusion, consistency, checkpoints, proofs, policies, tile_paths)
}


@pytest.mark.parametrize("section", SECTIONS)
def test_each_vector_fails_in_its_own_way_or_not_at_all(section: str) -> None:
    wrong = {}
    for vector in VECTORS[section]:
        got = ""
        try:
            SECTIONS[section](vector)
        except Permanent as fault:
            got = fault.code.name
        if got != vector["fails"]:
            wrong[vector["name"]] = f"{got or 'accepted'}, not {vector['fails'] or 'accepted'}"
    assert wrong == {}


def test_every_class_of_failure_is_a_code() -> None:
    assert {v["fails"] for section in SECTIONS for v in VECTORS[section]} - {""} <= set(Code.__members__)


def asked(go: GoPeer, section: str, vector: Vector) -> str:
    keys = {"log": VECTORS["log"], "witnesses": VECTORS["witnesses"], "quorum": 2}
    if section == "checkpoints":
        return go.ask("note", note=raw(vector["note"]), **keys).error
    if section == "proofs":
        return go.ask("proof", proof=raw(vector["proof"]), entry=bytes.fromhex(str(vector["entry"])), **keys).error
    proof = {"size": vector["size"], "root": bytes.fromhex(str(vector["root"])), "path": hashes(vector["path"])}
    if section == "inclusion":
        entry = bytes.fromhex(str(vector["entry"]))
        return go.ask("check-inclusion", entry=entry, index=vector["index"], **proof).error
    old_root = bytes.fromhex(str(vector["old_root"]))
    return go.ask("check-consistency", old=vector["old"], old_root=old_root, **proof).error


@pytest.mark.timeout(300)
@pytest.mark.parametrize("section", ["inclusion", "consistency", "checkpoints", "proofs"])
def test_go_refuses_what_we_refuse_and_takes_what_we_take(go: GoPeer, section: str) -> None:
    otherwise = set()
    for vector in VECTORS[section]:
        told = asked(go, section, vector)
        if bool(told) != bool(vector["fails"]):
            otherwise.add(vector["name"])
    assert otherwise == OTHERWISE.keys() & {vector["name"] for vector in VECTORS[section]}
