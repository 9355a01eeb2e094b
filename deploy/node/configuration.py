"""Which of containerd's files is changed for us, and to what.

Zone: host. May import: `deploy.node`, `orchestrator.faults`.

- Before 2.0 an import replaces whole tables, so the root file is edited in place.
- From 2.0 a file of ours beside it, in the version of the root file. Where the root file does not read that folder by
  itself (2.2 does by default), our file's path is appended to its `imports`.
- A generated root file is not touched: its drop-in folder, or the template that it is generated from.

What is computed here is judged by `preflight` before any of it is written.
"""

from __future__ import annotations

import fnmatch
import tomllib
from collections.abc import Mapping
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import Any, Final

import tomlkit

from deploy.node import toml_edit
from deploy.node.containerd import Effective
from deploy.node.flavours import Flavour
from deploy.node.places import Places
from deploy.node.settings import RUNTIMES, Release, wanted
from deploy.node.toml_edit import Edit, Key, Wanted
from orchestrator.faults import Code, Permanent

DROP_IN: Final = "enclave-cc.toml"
HEAD: Final = (
    "# Written by `enclave-cc node install`, and removed by `enclave-cc node uninstall`. Changes here are lost.\n"
)
CRI_NAMES: Final = ("cri", "io.containerd.grpc.v1.cri", "io.containerd.cri.v1.runtime", "io.containerd.cri.v1.images")


@dataclass(frozen=True, slots=True)
class FileChange:
    """One file, by its relative path: what it holds now and shall hold (None: no such file), and how that was made.

    `original`: what it held before we ever changed it, for as long as nobody else has.
    """

    path: str
    before: bytes | None
    after: bytes | None
    edit: Edit = field(default_factory=Edit)
    original: bytes | None = None
    whole: bool = False
    """Ours as a whole: a drop-in."""


@dataclass(frozen=True, slots=True)
class Target:
    """All changes, and where containerd's candidate is: `root` is the text of the root file with ours in it."""

    changes: tuple[FileChange, ...]
    candidate: str
    drop_in: str | None


@dataclass(frozen=True, slots=True)
class Base:
    """A file now, its text without what an earlier run of ours put there, and the bytes to go back to."""

    content: bytes | None
    text: str
    original: bytes | None


def base(places: Places, path: str, installed: FileChange | None) -> Base:
    """The file at a relative path. Raises Permanent(NODE_CONTAINERD) for what is no TOML."""
    here = places.here(path)
    content = here.read_bytes() if here.exists() else None
    if content is None:
        return Base(None, "", None)
    text = _text(path, content)
    if installed is None or installed.whole:
        return Base(content, text, content)
    if content == installed.after:
        return Base(content, (installed.original or b"").decode(), installed.original)
    text = _stripped(path, text, installed.edit)
    return Base(content, text, None if installed.original is None and not text.strip() else text.encode())


def restored(places: Places, installed: FileChange) -> FileChange:
    """The change that takes an earlier one out again, and nothing of anybody else's."""
    here = places.here(installed.path)
    content = here.read_bytes() if here.exists() else None
    if content is None or installed.whole:
        after = None
    elif content == installed.after:
        after = installed.original
    else:
        text = _stripped(installed.path, _text(installed.path, content), installed.edit)
        after = None if installed.original is None and not text.strip() else text.encode()
    return FileChange(installed.path, content, after)


def target(
    places: Places,
    flavour: Flavour,
    release: Release,
    before: Effective,
    snapshotter: str,
    installed: Mapping[str, FileChange],
) -> Target:
    """The changes that make containerd serve us. Raises Permanent(NODE_CONTAINERD) where nothing safe can be done."""
    _refuse_disabled(before)
    if release.merges_imports and flavour.drop_ins:
        return _drop_in(places, flavour, release, before, snapshotter, installed)
    return _in_place(places, flavour, release, before, snapshotter, installed)


def _in_place(
    places: Places,
    flavour: Flavour,
    release: Release,
    before: Effective,
    snapshotter: str,
    installed: Mapping[str, FileChange],
) -> Target:
    earlier = installed.get(flavour.config)
    found = base(places, flavour.config, earlier)
    content, text = found.content, found.text
    effective = places.here(flavour.effective)
    if content is None and flavour.generated and effective.exists():
        # What was generated becomes the template; without one there is nothing to add to.
        text = _text(flavour.effective, effective.read_bytes())
    version = _version(text, release)
    asked = replace(wanted(version, release, places, snapshotter), version=version)
    asked = _with_default_handlers(text, version, before, asked)
    after, edit = _added(flavour.config, text, asked)
    change = FileChange(flavour.config, content, after.encode(), edit, found.original)
    if content is not None and earlier is not None and _same(content.decode(), after):
        change = replace(change, after=content)  # an administrator's own spelling of the same is as good
    return Target((change,), after, None)


def _drop_in(
    places: Places,
    flavour: Flavour,
    release: Release,
    before: Effective,
    snapshotter: str,
    installed: Mapping[str, FileChange],
) -> Target:
    path = f"{flavour.drop_ins}/{DROP_IN}"
    root = base(places, flavour.effective, installed.get(flavour.effective))
    text = root.text
    version = _version(text, release)
    ours, _ = toml_edit.add("", replace(wanted(version, release, places, snapshotter), version=version))
    drop_in = places.here(path)
    content = drop_in.read_bytes() if drop_in.exists() else None
    changes = [FileChange(path, content, (HEAD + ours).encode(), whole=True)]
    seen = places.there(path)
    if not any(_reads(pattern, seen, places.there(flavour.effective)) for pattern in _imports(text, before, seen)):
        if flavour.generated or flavour.watches:
            raise _refused(
                f"{flavour.name} does not read {places.there(flavour.drop_ins)}",
                f"imports = [{places.there(flavour.drop_ins)}/*.toml] in {places.there(flavour.effective)}",
                str(list(before.imports)),
                f"a release of {flavour.name} whose containerd 2 reads drop-ins",
            )
        after, edit = _added(flavour.effective, text, Wanted({}, {}, (seen,), version))
        changes.append(FileChange(flavour.effective, root.content, after.encode(), edit, root.original))
    return Target(tuple(changes), text, ours)


def candidate_root(target_: Target, release: Release, before: Effective, folder: str, drop_in: str) -> str:
    """The root file as a preflight reads it: elsewhere, so what it imports relatively is named in full."""
    document = tomlkit.parse(target_.candidate)
    given = document.get("imports")
    patterns = list(given.unwrap()) if given is not None else _default_imports(release, before)
    patterns = [pattern if pattern.startswith("/") else f"{folder}/{pattern}" for pattern in patterns]
    if target_.drop_in is not None:
        patterns.append(drop_in)
        document.setdefault("version", _version(target_.candidate, release))
    if patterns:
        document["imports"] = patterns
    return tomlkit.dumps(document)


def _default_imports(release: Release, before: Effective) -> list[str]:
    return list(before.imports) if (release.major, release.minor) >= (2, 2) else []


def _imports(text: str, before: Effective, ours: str) -> tuple[str, ...]:
    """What is read beside the root file when ours is not named in it."""
    given = tomllib.loads(text).get("imports")
    return tuple(given if given is not None else (p for p in before.imports if p != ours))


def _reads(pattern: str, path: str, root: str) -> bool:
    full = pattern if pattern.startswith("/") else str(Path(root).parent / pattern)
    return fnmatch.fnmatchcase(path, full)


def _version(text: str, release: Release) -> int:
    """A file's version; of one that says nothing, the one that this containerd is at home with."""
    document = tomllib.loads(text)
    if not document:
        return 3 if release.merges_imports else 2
    version = document.get("version", 1)
    if not isinstance(version, int) or version not in RUNTIMES:
        raise _refused("containerd's configuration has an unknown version", "1 to 4", repr(version), "a newer payload")
    return version


def _with_default_handlers(text: str, version: int, before: Effective, asked: Wanted) -> Wanted:
    """A file that names one handler has no default ones any more: they are named too, as they were."""
    runtimes = RUNTIMES[version]
    table: Any = tomllib.loads(text)
    for name in runtimes:
        table = table.get(name, {}) if isinstance(table, Mapping) else {}
    if table:
        return asked
    ours = {path[-1] for path in asked.tables}
    kept: dict[Key, Mapping[str, Any]] = {
        (*runtimes, name): {"runtime_type": handler["runtime_type"]}
        for name, handler in before.handlers.items()
        if name not in ours
    }
    return replace(asked, tables={**asked.tables, **kept})


def _refuse_disabled(before: Effective) -> None:
    disabled = [name for name in before.disabled if name in CRI_NAMES]
    if disabled:
        raise _refused(
            "this containerd has its CRI switched off",
            "no CRI plugin in disabled_plugins",
            str(disabled),
            "a kubelet cannot use it either: remove it from disabled_plugins, and restart containerd",
        )


def _same(one: str, other: str) -> bool:
    return tomllib.loads(one) == tomllib.loads(other)


def _added(path: str, text: str, asked: Wanted) -> tuple[str, Edit]:
    try:
        after, edit = toml_edit.add(text, asked)
        tomllib.loads(after)
    except (ValueError, TypeError, KeyError) as error:
        raise _no_toml(path, str(error)) from error
    return after, edit


def _stripped(path: str, text: str, edit: Edit) -> str:
    try:
        return toml_edit.strip(text, edit)
    except (ValueError, TypeError, KeyError) as error:
        raise _no_toml(path, str(error)) from error


def _text(path: str, content: bytes) -> str:
    try:
        text = content.decode()
        tomllib.loads(text)
    except ValueError as error:
        raise _no_toml(path, str(error)) from error
    return text


def _no_toml(path: str, got: str) -> Permanent:
    return _refused(
        f"/{path} cannot be changed in place",
        "TOML",
        got[:500],
        "mend it; a template must be plain TOML to be added to",
    )


def _refused(message: str, expected: str, got: str, advice: str) -> Permanent:
    return Permanent(Code.NODE_CONTAINERD, message, expected=expected, got=got, advice=advice)
