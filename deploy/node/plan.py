"""A plan: which steps lead from what is to what is wanted, and which lead back. Pure: computed from values alone.

Zone: host. May import: `deploy.node.{configuration,places,record,services,settings,steps}`.

In the order of an install: the payload beside the others; the services' files and the link `current` to it; services;
containerd's configuration and, only if that changed, its restart; the probe; the record. Up to the record everything is
undone when a step fails; what comes after (sweeping) can only go on.
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from dataclasses import dataclass
from pathlib import PurePosixPath

from deploy.node.configuration import FileChange
from deploy.node.places import CURRENT, RECORD, payload_folder
from deploy.node.record import Record
from deploy.node.settings import HANDLER
from deploy.node.steps import (
    Folder,
    Link,
    Probe,
    Reload,
    RemoveFolder,
    RestartContainerd,
    Service,
    Step,
    Sweep,
    Unpack,
    Write,
    packed,
)


@dataclass(frozen=True, slots=True)
class ServiceState:
    """One service of ours: the socket at which it is ready, whether an upgrade leaves it alone, whether it runs."""

    name: str
    socket: str
    lasting: bool
    running: bool


@dataclass(frozen=True, slots=True)
class Observed:
    """What is: the record (None: nothing installed), unpacked payloads, `current`, files by relative path.

    `missing`: the folders that the wanted files need and that are not there, the outermost first. `handlers`: what
    containerd serves by its configuration now; `socket` is its.
    """

    record: Record | None
    record_bytes: bytes | None
    unpacked: frozenset[str]
    current: str | None
    files: Mapping[str, bytes | None]
    links: Mapping[str, str | None]
    missing: tuple[str, ...]
    services: tuple[ServiceState, ...]
    handlers: tuple[str, ...]
    socket: str
    settings: str
    """Digest of the administrator's node.toml: services read it when they start."""
    busy: frozenset[str] = frozenset()
    """Payloads from which pods run."""


@dataclass(frozen=True, slots=True)
class Wanted:
    """What shall be: the record to be left, the services' files and links, containerd's changes and its need of them.

    `restart`: whether containerd must read its configuration anew.
    """

    record: Record
    files: Mapping[str, bytes]
    links: Mapping[str, str]
    changes: tuple[FileChange, ...]
    restart: bool


@dataclass(frozen=True, slots=True)
class Undo:
    """A step back; done only if step number `of` of the plan was begun."""

    step: Step
    of: int


@dataclass(frozen=True, slots=True)
class Plan:
    """`verb` and `digest` tell what was asked. A failure at or before step number `commit` is undone."""

    verb: str
    digest: str
    steps: tuple[Step, ...]
    undo: tuple[Undo, ...]
    commit: int


class _Steps:
    """Steps with their ways back. Files and links go back in reverse; services follow, when all files are back."""

    def __init__(self) -> None:
        self.steps: list[Step] = []
        self.back: list[Undo] = []
        self.after: list[Undo] = []
        self.first: list[Undo] = []

    def add(self, step: Step, back: Step | None = None) -> None:
        self.steps.append(step)
        if back is not None:
            self.back.append(Undo(back, len(self.steps) - 1))

    def write(self, change: FileChange) -> None:
        if change.before == change.after:
            return
        before, after = packed(change.before), packed(change.after)
        edit = None if change.whole else change.edit
        # Forward nothing may be taken out of what somebody else has just written: only the way back knows how.
        self.add(Write(change.path, before, after), Write(change.path, after, before, edit))

    def then(self, step: Step) -> None:
        """After all files are back."""
        self.after.append(Undo(step, len(self.steps) - 1))

    def plan(self, verb: str, digest: str, commit: int) -> Plan:
        undo = (*self.first, *reversed(self.back), *self.after)
        return Plan(verb, digest, tuple(self.steps), undo, commit)


def to_install(observed: Observed, wanted: Wanted, verb: str) -> Plan:
    """Install, upgrade and roll back: all lead to a payload that serves. No steps: there is nothing to do."""
    made = _Steps()
    folder = payload_folder(wanted.record.payload)
    for path in observed.missing:
        made.add(Folder(path), RemoveFolder(path))
    if folder not in observed.unpacked:
        made.add(Unpack(wanted.record.payload, folder), Sweep(folder))
    changed = _write_services(made, observed, wanted.files, wanted.links)
    target = PurePosixPath(folder).name
    moved = observed.current != target
    if moved:
        made.add(Link(CURRENT, observed.current, target), Link(CURRENT, target, observed.current))
    if changed:
        made.add(Reload())
        made.then(Reload())
    stale = moved or changed or observed.record is None or observed.record.settings != observed.settings
    for service in observed.services:
        _serve(made, service, stale=stale)
    _configure_containerd(made, observed, wanted)
    _write_record(made, observed.record_bytes, wanted.record.to_json())
    commit = len(made.steps) - 1
    needed = {folder, *wanted.record.lasting}
    needed |= {payload_folder(wanted.record.previous)} if wanted.record.previous else set()
    for old in sorted(observed.unpacked - needed - observed.busy):
        made.add(Sweep(old))
    return made.plan(verb, wanted.record.payload, commit)


def to_uninstall(observed: Observed, changes: Iterable[FileChange], *, restart: bool) -> Plan:
    """Everything that was put there goes, and nothing else. No steps: nothing is installed."""
    made = _Steps()
    for change in changes:
        made.write(change)
    if restart:
        made.add(RestartContainerd())
        made.then(RestartContainerd())
        left = tuple(handler for handler in observed.handlers if handler != HANDLER)
        made.add(Probe(observed.socket, left, gone=HANDLER))
    for service in reversed(observed.services):
        if service.running:
            made.add(Service("stop", service.name))
            made.then(Service("start", service.name, service.socket))
    if _write_services(made, observed, {}, {}):
        made.add(Reload())
        made.after.insert(0, Undo(Reload(), len(made.steps) - 1))
    if observed.current is not None:
        made.add(Link(CURRENT, observed.current, None), Link(CURRENT, None, observed.current))
    _write_record(made, observed.record_bytes, None)
    commit = len(made.steps) - 1
    for folder in sorted(observed.unpacked):
        made.add(Sweep(folder))
    for path in reversed(observed.record.folders if observed.record else ()):
        made.add(RemoveFolder(path))
    return made.plan("uninstall", "", commit)


def _write_services(made: _Steps, observed: Observed, files: Mapping[str, bytes], links: Mapping[str, str]) -> bool:
    """The services' files and links; those of an earlier version go. True if anything is another than it was."""
    before = len(made.steps)
    for path in [*files, *(path for path in observed.files if path not in files)]:
        made.write(FileChange(path, observed.files.get(path), files.get(path), whole=True))
    for path in [*links, *(path for path in observed.links if path not in links)]:
        now, then = observed.links.get(path), links.get(path)
        if now != then:
            made.add(Link(path, now, then), Link(path, then, now))
    return len(made.steps) > before


def _configure_containerd(made: _Steps, observed: Observed, wanted: Wanted) -> None:
    for configuration in wanted.changes:
        made.write(configuration)
    if wanted.restart:
        made.add(RestartContainerd())
        made.then(RestartContainerd())
    if made.steps:
        made.add(Probe(observed.socket, tuple(sorted({*observed.handlers, HANDLER}))))
    if wanted.restart:
        made.then(Probe(observed.socket, observed.handlers))


def _write_record(made: _Steps, before: bytes | None, after: bytes | None) -> None:
    if before != after:
        made.add(Write(RECORD, packed(before), packed(after)), Write(RECORD, packed(after), packed(before)))


def _serve(made: _Steps, service: ServiceState, *, stale: bool) -> None:
    if not service.running:
        made.add(Service("start", service.name, service.socket))
        made.first.append(Undo(Service("stop", service.name), len(made.steps) - 1))
    elif stale and not service.lasting:
        made.add(Service("restart", service.name, service.socket))
        made.then(Service("restart", service.name, service.socket))
