"""What was installed, and what of the node's own files was changed for it: read again by upgrade, rollback, uninstall.

Zone: host. May import: `deploy.node.{configuration,toml_edit}`, `orchestrator.faults`, the standard library.
"""

from __future__ import annotations

import base64
import json
from collections.abc import Mapping
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any, Final

from deploy.node.configuration import FileChange
from deploy.node.toml_edit import Edit
from orchestrator.faults import Code, Permanent

FORMAT: Final = 1


@dataclass(frozen=True, slots=True)
class Record:
    """The node as the last run left it. `payload`, `previous`: digests; `previous` is what a rollback leads to.

    phase: installed, upgraded or rolled-back. folders: those that we made, the outermost first. files, links: the
    services', by relative path. changes: containerd's files. settings: digest of node.toml as services last read it.
    """

    phase: str
    payload: str
    previous: str | None
    measurements: Mapping[str, Mapping[str, str]]
    previous_measurements: Mapping[str, Mapping[str, str]]
    folders: tuple[str, ...]
    files: tuple[str, ...]
    links: tuple[str, ...]
    changes: tuple[FileChange, ...]
    settings: str
    lasting: tuple[str, ...] = ()
    """The payload's folder from which the services were started that an upgrade leaves running."""

    def to_json(self) -> bytes:
        """The file's bytes: equal records, equal bytes."""
        document = {"format": FORMAT, **asdict(self), "changes": [_change(change) for change in self.changes]}
        return json.dumps(document, sort_keys=True, indent=1).encode() + b"\n"


def parse(content: bytes) -> Record:
    """The reverse. Raises Permanent(INPUT)."""
    try:
        document = json.loads(content)
        document["changes"] = tuple(_parse_change(member) for member in document["changes"])
        for name in ("folders", "files", "links", "lasting"):
            document[name] = tuple(document[name])
        if document.pop("format") == FORMAT:
            return Record(**document)
        raise KeyError("format")  # noqa: TRY301 - told like every other mistake
    except (ValueError, KeyError, TypeError, AttributeError) as error:
        raise Permanent(
            Code.INPUT,
            "the record of what is installed on this node cannot be read",
            expected=f"installed.json, format {FORMAT}",
            got=f"{type(error).__name__}: {error}"[:300],
            advice="another version wrote it: use that version's `enclave-cc node`",
        ) from error


def load(path: Path) -> tuple[Record | None, bytes | None]:
    """The record at `path`, and its bytes; none where nothing is installed. Raises Permanent(INPUT)."""
    content = path.read_bytes() if path.exists() else None
    return (None if content is None else parse(content)), content


def parse_edit(member: Mapping[str, Any]) -> Edit:
    """An edit as JSON keeps it: lists for tuples."""
    return Edit(**{name: _tuples(value) for name, value in member.items()})


def _change(change: FileChange) -> dict[str, Any]:
    def text(content: bytes | None) -> str | None:
        return None if content is None else base64.b64encode(content).decode()

    return {
        "path": change.path,
        "after": text(change.after),
        "original": text(change.original),
        "edit": asdict(change.edit),
        "whole": change.whole,
    }


def _parse_change(member: Mapping[str, Any]) -> FileChange:
    def content(name: str) -> bytes | None:
        return None if member[name] is None else base64.b64decode(member[name], validate=True)

    edit = parse_edit(member["edit"])
    return FileChange(str(member["path"]), None, content("after"), edit, content("original"), bool(member["whole"]))


def _tuples(value: Any) -> Any:
    return tuple(_tuples(member) for member in value) if isinstance(value, list) else value
