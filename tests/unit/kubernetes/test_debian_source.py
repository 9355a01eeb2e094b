"""The machine's own package sources, read for a private apt: its own release's, whichever form they are written in."""

from __future__ import annotations

from pathlib import Path

from tests.kubernetes.debian_source import stanzas


def test_sources_of_this_release_are_taken_in_either_form_with_their_sources_and_a_vendors_are_not(
    tmp_path: Path,
) -> None:
    parts = tmp_path / "sources.list.d"
    parts.mkdir()
    (parts / "debian.sources").write_text(
        "Types: deb\n# a remark\nURIs: http://mirror.example/debian\nSuites: bookworm bookworm-updates\n"
        "Components: main\nSigned-By: /keys/debian.gpg\n\n"
        "Types: deb\nURIs: http://vendor.example\nSuites: nodistro\nComponents: main\n\n"
        "Types: deb\nEnabled: no\nURIs: http://mirror.example/debian\nSuites: bookworm\nComponents: contrib\n"
    )
    (tmp_path / "sources.list").write_text(
        "# deb http://old.example bookworm main\n"
        "deb [arch=amd64 signed-by=/keys/security.gpg] http://mirror.example/security bookworm-security main contrib\n"
        "deb http://vendor.example sdk-bookworm main\n"
    )
    assert stanzas("bookworm", tmp_path) == [
        (
            "Types: deb deb-src\nURIs: http://mirror.example/debian\nSuites: bookworm bookworm-updates\n"
            "Components: main\nSigned-By: /keys/debian.gpg"
        ),
        (
            "Types: deb deb-src\nURIs: http://mirror.example/security\nSuites: bookworm-security\n"
            "Components: main contrib\nSigned-By: /keys/security.gpg"
        ),
    ]
