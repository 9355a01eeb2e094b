"""Changing an administrator's TOML in place, and taking the change out again: comments, order and spelling stay.

Zone: host. May import: `tomlkit`, the standard library.

Pure. What is new is put in as lines of its own, which come out as they went in, whatever was written around them; where
that would not say what is meant (a table in one line, dotted names) the parsed document is changed instead.

Two kinds of change, because they end differently: a table of ours (`tables`) goes as a whole, whatever was added to it
since; a value of theirs that had to be another (`values`) goes back to what it was, unless somebody has changed it
since: then it is theirs. What was not there goes, with the tables that had to be made for it.
"""

from __future__ import annotations

import tomllib
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace
from typing import Any

import tomlkit
from tomlkit.items import InlineTable

Key = tuple[str, ...]
Value = str | bool | int | Sequence[str]


@dataclass(frozen=True, slots=True)
class Wanted:
    """What a file shall say. `imports` are appended to the array of that name, at the top."""

    tables: Mapping[Key, Mapping[str, Value]]
    values: Mapping[Key, Value]
    imports: tuple[str, ...] = ()
    version: int = 0
    """Of a file that says nothing yet; 0 for none."""


@dataclass(frozen=True, slots=True)
class Edit:
    """What was changed, as a record keeps it. `values`: path, ours, and the one before as TOML (None: there was none).
    `created`: tables that were not there, the innermost first.
    """

    tables: tuple[Key, ...] = ()
    values: tuple[tuple[Key, Value, str | None], ...] = ()
    imports: tuple[str, ...] = ()
    created: tuple[Key, ...] = ()
    block: str = ""
    """What was appended, to the byte."""
    lines: tuple[tuple[Key, str], ...] = ()
    """What was put after a table's head, to the byte."""


def add(text: str, wanted: Wanted) -> tuple[str, Edit]:
    """`text` with all that is wanted, and what that changed. Raises ValueError for what is no TOML."""
    meant, edit = _add_parsed(text, wanted)
    replaced = {path: value for path, value in wanted.values.items() if _at(tomlkit.parse(text), path) is not None}
    apart, _ = _add_parsed(text, Wanted({}, replaced, wanted.imports))
    new = {path: value for path, value in wanted.values.items() if path not in replaced}
    apart, lines = _put_lines(apart, new)
    rest = {path: value for path, value in new.items() if path not in {(*head, _name(line)) for head, line in lines}}
    block = _block(apart, wanted, rest) if wanted.tables or rest else ""
    try:
        same = tomllib.loads(apart + block) == tomllib.loads(meant)
    except ValueError:
        same = False
    return (apart + block, replace(edit, block=block, lines=tuple(lines))) if same else (meant, edit)


def _put_lines(text: str, values: Mapping[Key, Value]) -> tuple[str, list[tuple[Key, str]]]:
    """New values of tables that have a head, directly after it."""
    out, put = [], []
    for line in text.splitlines(keepends=True):
        out.append(line)
        if (head := _head(line)) is None or not line.endswith("\n"):
            continue
        indent = line[: len(line) - len(line.lstrip())]
        for path, value in values.items():
            if path[:-1] == head:
                put.append((head, f"{indent}  {path[-1]} = {tomlkit.item(value).as_string()}\n"))
                out.append(put[-1][1])
    return "".join(out), put


def _block(text: str, wanted: Wanted, values: Mapping[Key, Value]) -> str:
    """What stands at the end of the file: our tables, and heads for values whose table has none."""
    parts = []
    if wanted.version and not tomllib.loads(text):
        parts.append(f"version = {wanted.version}\n")
    heads: dict[Key, dict[str, Value]] = {}
    for path, value in values.items():
        heads.setdefault(path[:-1], {})[path[-1]] = value
    for path, members in {**heads, **wanted.tables}.items():
        head = ".".join(tomlkit.key(name).as_string() for name in path)
        body = "".join(f"{name} = {tomlkit.item(value).as_string()}\n" for name, value in members.items())
        parts.append(f"[{head}]\n{body}")
    start = "\n" if text and not text.endswith("\n") else ""
    return start + ("\n" if text else "") + "\n".join(parts)


def _head(line: str) -> Key | None:
    """The table that a line begins, if it looks as if it did."""
    if not line.lstrip().startswith("[") or line.lstrip().startswith("[["):
        return None
    try:
        table: Any = tomllib.loads(line)
    except ValueError:
        return None
    path: list[str] = []
    while table:
        ((name, table),) = table.items()
        path.append(name)
    return tuple(path)


def _name(line: str) -> str:
    return line.partition("=")[0].strip()


def _cut(text: str, edit: Edit) -> str:
    """`text` without the lines that are still as we put them."""
    cut = text
    if edit.block and cut.count(edit.block) == 1:
        cut = cut.replace(edit.block, "")
    for head, ours in edit.lines:
        out, after = [], False
        for line in cut.splitlines(keepends=True):
            if not (after and line == ours):
                out.append(line)
                after = _head(line) == head or (after and (head, line) in edit.lines)
        cut = "".join(out)
    try:
        tomllib.loads(cut)
    except ValueError:
        return text
    return cut


def _add_parsed(text: str, wanted: Wanted) -> tuple[str, Edit]:
    document = tomlkit.parse(text)
    if wanted.version and not document:
        document["version"] = wanted.version
    created: list[Key] = []
    values: list[tuple[Key, Value, str | None]] = []
    for path, value in wanted.values.items():
        parent = _made(document, path[:-1], created)
        before = parent.get(path[-1])
        if before is None or _plain(before) != value:
            values.append((path, value, None if before is None else before.as_string()))
            parent[path[-1]] = value
    for path, members in wanted.tables.items():
        parent = _made(document, path[:-1], created)
        if path[-1] in parent and _plain(parent[path[-1]]) == dict(members):
            continue
        parent.pop(path[-1], None)
        table: Any = tomlkit.inline_table() if _inline(parent) else tomlkit.table()
        for name, member in members.items():
            table[name] = member
        parent[path[-1]] = table
    added = []
    for path_ in wanted.imports:
        if "imports" not in document:
            document["imports"] = tomlkit.array()
            created.append(("imports",))
        if path_ not in document["imports"]:
            document["imports"].append(path_)
            added.append(path_)
    return tomlkit.dumps(document), Edit(tuple(wanted.tables), tuple(values), tuple(added), tuple(created[::-1]))


def strip(text: str, edit: Edit) -> str:
    """`text` without what `add` put there. Raises ValueError for what is no TOML any more."""
    document = tomlkit.parse(_cut(text, edit))
    for path in edit.tables:
        parent = _at(document, path[:-1])
        if parent is not None:
            parent.pop(path[-1], None)
    for path, ours, before in edit.values:
        parent = _at(document, path[:-1])
        if parent is None or path[-1] not in parent or _plain(parent[path[-1]]) != ours:
            continue
        if before is None:
            parent.pop(path[-1])
        else:
            parent[path[-1]] = tomlkit.value(before)
    imports = document.get("imports")
    for path_ in edit.imports:
        if isinstance(imports, list) and path_ in imports:
            imports.remove(path_)
    for path in edit.created:
        parent = _at(document, path[:-1])
        if parent is not None and path[-1] in parent and not parent[path[-1]]:
            parent.pop(path[-1])
    return tomlkit.dumps(document)


def _made(document: Any, path: Key, created: list[Key]) -> Any:
    """The table at `path`; tables that are missing are made."""
    table = document
    for depth, name in enumerate(path, 1):
        if name not in table:
            table[name] = tomlkit.inline_table() if _inline(table) else tomlkit.table(is_super_table=True)
            created.append(path[:depth])
        table = table[name]
    return table


def _inline(table: Any) -> bool:
    return isinstance(table, InlineTable)


def _at(document: Any, path: Key) -> Any | None:
    table = document
    for name in path:
        if not hasattr(table, "get") or name not in table:
            return None
        table = table[name]
    return table


def _plain(item: Any) -> Any:
    return item.unwrap() if hasattr(item, "unwrap") else item
