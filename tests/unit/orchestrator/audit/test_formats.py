"""The formats against the examples that their specifications print."""

from __future__ import annotations

import pytest

from orchestrator.audit.checkpoint import Checkpoint
from orchestrator.audit.note import Note, SignatureType, SigningKey, VerifierKey
from orchestrator.audit.tiles import ENTRIES, Tile, bundles_of, tiles_of
from orchestrator.faults import Code, Permanent
from tests.simulators.audit_logs import LOG_KEY, ORIGIN

EXAMPLE_KEY = "example.com/foo+530d903a+AekyeRrm56hApGFkyQR4ZCbV54Id2LKaANYcrnKv3U2k"
EXAMPLE_NOTE = """This is an example message.

— example.com/foo Uw2QOkn8srV1yJGh2VYRlL1Tnagv1YEq6TfXppzi2ONncAlTgK7Ztg1ERYNZXsYjOBH3mFXmRKuwHjG1Yu72IneyaQM=
"""
"""c2sp.org/signed-note, "Example"."""

WITH_AN_EMPTY_LINE = """Ognuno sta solo sul cuor della terra
trafitto da un raggio di sole:

ed è subito sera.

— quasimodo.example/salvatore NnugSzTjtVAewIS+Z/iJhUPeFDkO/5QQ2i5ddnGITLlC+EhfLW9oJKONrMouFSQU0xMcXxj99ihAQwaqP3ZekRwNtIc=
"""  # noqa: E501 - as printed


def test_the_specifications_own_note_verifies_under_its_key() -> None:
    note = Note.parse(EXAMPLE_NOTE.encode())
    (verified,) = note.verified_by([VerifierKey.parse(EXAMPLE_KEY)])
    assert (note.text, verified.time) == ("This is an example message.\n", None)


def test_a_verifier_key_is_written_as_it_was_read() -> None:
    assert str(VerifierKey.parse(EXAMPLE_KEY)) == EXAMPLE_KEY


def test_a_notes_text_may_have_empty_lines() -> None:
    note = Note.parse(WITH_AN_EMPTY_LINE.encode())
    assert note.text.endswith("sole:\n\ned è subito sera.\n")
    assert note.encode() == WITH_AN_EMPTY_LINE.encode()


def test_a_signing_key_survives_its_text_and_shows_itself_nowhere() -> None:
    key = SigningKey.generate(ORIGIN)
    text = key.secret_text()
    assert SigningKey.parse(text) == key
    *_, secret = text.strip().split("+", 4)  # base64 has plus signs of its own
    assert secret not in repr(key)
    for broken in (text[:-6], text.replace(ORIGIN, "other.example"), text.upper(), "", "PRIVATE+KEY+a+b+c"):
        with pytest.raises(Permanent) as raised:
            SigningKey.parse(broken)
        assert raised.value.code is Code.AUDIT_FORMAT
        assert secret[:8] not in raised.value.diagnostics()


@pytest.mark.parametrize("name", ["", "a b", "a+b", "a\u2003b", "é", "a\nb"])
def test_a_key_that_no_note_could_carry_is_not_made(name: str) -> None:
    with pytest.raises(Permanent) as raised:
        SigningKey.generate(name)
    assert raised.value.code is Code.INPUT


def test_one_key_signs_plainly_and_with_a_time_under_two_ids() -> None:
    text = Checkpoint(ORIGIN, 1, bytes(32)).text()
    note = Note(text, (LOG_KEY.sign(text), LOG_KEY.cosign(text, 77)))
    plain, timed = LOG_KEY.verifier(), LOG_KEY.verifier(SignatureType.COSIGNATURE_V1)
    assert plain.id != timed.id
    assert {found.key: found.time for found in note.verified_by([plain, timed])} == {plain: None, timed: 77}


def test_a_cosignature_is_no_signature_of_the_log() -> None:
    text = Checkpoint(ORIGIN, 1, bytes(32)).text()
    with pytest.raises(Permanent) as raised:
        Note(text, (LOG_KEY.cosign(text, 77),)).verified_by([LOG_KEY.verifier()])
    assert raised.value.code is Code.AUDIT_SIGNATURE


def test_the_tiles_of_seventy_thousand_entries_are_those_of_the_specification() -> None:
    tiles = list(tiles_of(70_000))
    of = {level: [tile for tile in tiles if tile.level == level] for level in range(4)}
    assert [len(of[level]) for level in range(4)] == [274, 2, 1, 0]
    assert [of[level][-1].width for level in range(3)] == [112, 17, 1]
    assert [tile.width for tile in tiles_of(256)] == [256, 1]
    assert [tile.path for tile in bundles_of(300, start=256)] == ["tile/entries/001.p/44"]
    assert Tile(ENTRIES, 1_234_067).path == "tile/entries/x001/x234/067"
