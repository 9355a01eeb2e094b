"""Each row of the lifecycle has one file, in its zone; each file of a zone is a row or is listed here."""

from __future__ import annotations

from pathlib import Path

from orchestrator.lifecycle import BY_NAME, HOST_HALF, TEARDOWN, TRANSITIONS

NOT_TRANSITIONS = {
    "host": {"__init__", "__main__"},
    "enclave": {"__init__", "agent", "boot"},
}
"""What else stands in a zone's folder, beside the transitions."""


def test_every_transition_is_one_file_in_its_zone(repository: Path) -> None:
    rows = (*TRANSITIONS, HOST_HALF, TEARDOWN)
    missing = [f"workers/{row.zone}/{row.name}.py" for row in rows]
    assert [path for path in missing if not (repository / path).is_file()] == []


def test_every_file_of_a_zone_is_a_transition_or_is_listed(repository: Path) -> None:
    unknown = {
        str(path.relative_to(repository))
        for zone, others in NOT_TRANSITIONS.items()
        for path in (repository / "workers" / zone).glob("*.py")
        if path.stem not in others and not (path.stem in BY_NAME and BY_NAME[path.stem].zone == zone)
    }
    assert unknown == set()
