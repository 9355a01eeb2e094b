"""The steps of a plan, as values: what a journal keeps, and what another process than the one that planned can do.

Zone: host. May import: `deploy.node.{durable,payload,places}`, `orchestrator.faults`, the standard library.

Every step may be done again, after it was done and after it was half done: that is what a run that was killed needs.
None overwrites what is neither as it was planned nor as it shall be: then somebody else is at work here.
"""

from __future__ import annotations

import base64
import time
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from typing import Final, Protocol

from deploy.node import durable, payload, toml_edit
from deploy.node.containerd import Containerd
from deploy.node.payload import Payload
from deploy.node.places import Places
from deploy.node.probe import Cri
from deploy.node.services import Services
from deploy.node.serving import serving
from deploy.node.toml_edit import Edit
from orchestrator.faults import Code, Fault, Permanent, Temporary

_STEP: Final = 0.05


@dataclass(frozen=True, slots=True)
class Node:
    """The node as steps find it, and what a run brought along."""

    places: Places
    services: Services
    containerd: Containerd
    cri: Callable[[str], Cri]
    """By containerd's socket, as the node calls it."""
    source: Path | None = None
    payload: Payload | None = None
    patience: float = 60.0
    """Seconds until what was started must serve."""


class Step(Protocol):
    """One step. `name` is for people and journals."""

    @property
    def name(self) -> str:
        """What it does, in a few words."""
        ...

    def do(self, node: Node) -> None:
        """Do it. Raises Fault; what is half done then is as good as not done."""
        ...


@dataclass(frozen=True, slots=True)
class Unpack:
    """The payload of that digest, checked, at its place."""

    digest: str
    folder: str

    @property
    def name(self) -> str:
        """See `Step`."""
        return f"unpack {self.folder}"

    def do(self, node: Node) -> None:
        """See `Step`."""
        if node.places.here(self.folder).exists():
            return
        if node.payload is None or node.source is None or node.payload.digest != self.digest:
            raise Permanent(
                Code.INPUT,
                "the payload that this run began with is not given",
                expected=self.digest,
                got=node.payload.digest if node.payload else "none",
                advice="give the same --payload again, or run another command: it undoes what this one began",
            )
        payload.copy(node.payload, node.source, node.places.here(self.folder))


@dataclass(frozen=True, slots=True)
class Folder:
    """An empty folder that was not there."""

    path: str

    @property
    def name(self) -> str:
        """See `Step`."""
        return f"make {self.path}"

    def do(self, node: Node) -> None:
        """See `Step`."""
        node.places.here(self.path).mkdir(exist_ok=True)
        durable.sync_directory(node.places.here(self.path).parent)


@dataclass(frozen=True, slots=True)
class RemoveFolder:
    """A folder that we made, if nobody uses it."""

    path: str

    @property
    def name(self) -> str:
        """See `Step`."""
        return f"remove {self.path} if it is empty"

    def do(self, node: Node) -> None:
        """See `Step`."""
        here = node.places.here(self.path)
        if here.is_dir() and not any(here.iterdir()):
            here.rmdir()


@dataclass(frozen=True, slots=True)
class Write:
    """A file's content (base64; None: no such file). `edit`: how it came to be, where the file is not ours alone."""

    path: str
    before: str | None
    after: str | None
    edit: Edit | None = None

    @property
    def name(self) -> str:
        """See `Step`."""
        return f"{'remove' if self.after is None else 'write'} {self.path}"

    def do(self, node: Node) -> None:
        """See `Step`."""
        here = node.places.here(self.path)
        now = here.read_bytes() if here.exists() else None
        if now == unpacked(self.after):
            durable.leftover(here).unlink(missing_ok=True)
            return
        if now != unpacked(self.before):
            now = self._without(now)
            if now is None:
                raise _taken(self.path)
            durable.write(here, now)
        elif (after := unpacked(self.after)) is None:
            durable.remove(here)
        else:
            durable.write(here, after)

    def _without(self, now: bytes | None) -> bytes | None:
        """In an undo: what somebody else has written since, without what is ours in it."""
        if self.edit is None or now is None:
            return None
        try:
            return toml_edit.strip(now.decode(), self.edit).encode()
        except ValueError:
            return None


@dataclass(frozen=True, slots=True)
class Link:
    """A symbolic link's target; None: no such link."""

    path: str
    before: str | None
    after: str | None

    @property
    def name(self) -> str:
        """See `Step`."""
        return f"link {self.path} to {self.after}" if self.after else f"remove {self.path}"

    def do(self, node: Node) -> None:
        """See `Step`."""
        here = node.places.here(self.path)
        now = str(here.readlink()) if here.is_symlink() else None
        if now == self.after:
            durable.leftover(here).unlink(missing_ok=True)
        elif now != self.before:
            raise _taken(self.path)
        elif self.after is None:
            durable.remove(here)
        else:
            durable.link(here, self.after)


@dataclass(frozen=True, slots=True)
class Reload:
    """The keeper of services takes note of its files."""

    @property
    def name(self) -> str:
        """See `Step`."""
        return "reload services"

    def do(self, node: Node) -> None:
        """See `Step`."""
        node.services.reload()


@dataclass(frozen=True, slots=True)
class Service:
    """One service: `action` is start, restart or stop. Done when it serves at `socket`, as the node calls it."""

    action: str
    service: str
    socket: str = ""

    @property
    def name(self) -> str:
        """See `Step`."""
        return f"{self.action} {self.service}"

    def do(self, node: Node) -> None:
        """See `Step`."""
        {"start": node.services.start, "restart": node.services.restart, "stop": node.services.stop}[self.action](
            self.service
        )
        if self.action == "stop" or not self.socket:
            return
        ready = serving(node.places.reach(self.socket))
        _wait(lambda: None if ready() else self._silent(node.patience), node.patience)

    def _silent(self, patience: float) -> Temporary:
        return Temporary(
            Code.NODE_SERVICE,
            f"{self.service} does not serve",
            expected=f"an answer at {self.socket} within {patience:g} s",
            got="none",
            advice=f"read its log on the node: journalctl -u {self.service}",
        )


@dataclass(frozen=True, slots=True)
class RestartContainerd:
    """containerd reads its configuration; pods run on."""

    @property
    def name(self) -> str:
        """See `Step`."""
        return "restart containerd"

    def do(self, node: Node) -> None:
        """See `Step`."""
        node.services.restart_containerd()


@dataclass(frozen=True, slots=True)
class Probe:
    """containerd serves these handlers, and not that one."""

    socket: str
    handlers: tuple[str, ...]
    gone: str = ""

    @property
    def name(self) -> str:
        """See `Step`."""
        return "probe containerd"

    def do(self, node: Node) -> None:
        """See `Step`."""
        _wait(lambda: self._look(node.cri(self.socket)), node.patience)

    def _look(self, cri: Cri) -> Fault | None:
        try:
            cri.version()
            served = cri.handlers()
        except Temporary as fault:
            return fault
        if set(self.handlers) <= served and self.gone not in served:
            return None
        return Temporary(
            Code.NODE_SERVICE,
            "containerd does not serve the handlers that it should",
            expected=", ".join(self.handlers),
            got=", ".join(sorted(served)),
            advice="read containerd's log on the node",
        )


@dataclass(frozen=True, slots=True)
class Sweep:
    """A folder of ours that nobody needs any more."""

    folder: str

    @property
    def name(self) -> str:
        """See `Step`."""
        return f"remove {self.folder}"

    def do(self, node: Node) -> None:
        """See `Step`."""
        durable.remove_tree(node.places.here(self.folder))
        durable.remove_tree(durable.leftover(node.places.here(self.folder)))


def packed(content: bytes | None) -> str | None:
    """As a journal keeps a file's content."""
    return None if content is None else base64.b64encode(content).decode()


def unpacked(content: str | None) -> bytes | None:
    """The reverse."""
    return None if content is None else base64.b64decode(content, validate=True)


def _wait(look: Callable[[], Fault | None], patience: float) -> None:
    ends = time.monotonic() + patience
    while (fault := look()) is not None:
        if time.monotonic() > ends:
            raise fault
        time.sleep(_STEP)


def _taken(path: str) -> Temporary:
    return Temporary(
        Code.NODE_BUSY,
        f"/{path} was changed by somebody else meanwhile",
        expected="the file as it was when this run planned, or as it shall be",
        got="another",
        advice="run it again: it plans anew with what is there then",
    )
