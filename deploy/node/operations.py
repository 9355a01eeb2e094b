"""install, upgrade, rollback, uninstall, check, status: each from what is to what is wanted, under the node's lock.

Zone: host. May import: `deploy.node`, `orchestrator.faults`.

In this order: the lock; the machine is the one that was meant; a run that was killed is brought to its end; what is;
the plan, which containerd itself has judged; the steps.
"""

from __future__ import annotations

import contextlib
import fcntl
import os
from collections.abc import Iterator, Mapping
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Final

from deploy.node import configuration, durable, observe, payload, plan, preflight, record, run, settings
from deploy.node.configuration import Target
from deploy.node.flavours import Flavour
from deploy.node.journal import Journal, Told
from deploy.node.observe import Software
from deploy.node.places import CURRENT, JOURNAL, LOCK, RECORD, STATE, payload_folder
from deploy.node.plan import Observed, Plan
from deploy.node.record import Record
from deploy.node.report import Report
from deploy.node.services import Unit
from deploy.node.settings import HANDLER
from deploy.node.steps import Node
from orchestrator.faults import Code, Permanent, Temporary

INSTALL: Final = "install"
ROLLBACK: Final = "rollback"
UNINSTALL: Final = "uninstall"
_MACHINE_ID: Final = "etc/machine-id"


@dataclass(frozen=True, slots=True)
class Operations:
    """What can be done to one node. Every method raises Fault; then the node is as it was before."""

    node: Node
    flavour: Flavour
    machine: str = ""
    """The machine-id that is meant; empty for whichever this is."""
    told: Told = lambda _: None

    def install(self, *, upgrade: bool = False) -> Report:
        """The node serves the payload. `upgrade`: only where one is installed already."""
        given = self._given()
        with self._alone() as journal:
            run.settled(self.node, journal, INSTALL, given.digest)
            known, _ = record.load(self.node.places.here(RECORD))
            if upgrade and known is None:
                raise _nothing_installed("there is nothing to upgrade")
            if known is not None and known.payload == given.digest:
                wanted = replace(known, measurements=given.measurements)
            else:
                wanted = Record(
                    "installed" if known is None else "upgraded",
                    given.digest,
                    known.payload if known else None,
                    given.measurements,
                    known.measurements if known else {},
                    known.folders if known else (),
                    (),
                    (),
                    (),
                    "",
                )
            return self._serve(journal, wanted, INSTALL)

    def rollback(self) -> Report:
        """The node serves what it served before its last upgrade. Asked again, there is nothing to do."""
        with self._alone() as journal:
            known, _ = record.load(self.node.places.here(RECORD))
            began = journal.unfinished()
            run.settled(self.node, journal, ROLLBACK, began.plan.digest if began else "")
            known, _ = record.load(self.node.places.here(RECORD))
            if known is None:
                raise _nothing_installed("there is nothing to roll back")
            if known.phase == "rolled-back":
                return self._serve(journal, known, ROLLBACK)
            if known.previous is None or not self.node.places.here(payload_folder(known.previous)).exists():
                raise _nothing_installed("there is no earlier payload to roll back to")
            wanted = replace(
                known,
                phase="rolled-back",
                payload=known.previous,
                previous=None,
                measurements=known.previous_measurements,
                previous_measurements={},
            )
            return self._serve(journal, wanted, ROLLBACK)

    def uninstall(self) -> Report:
        """Nothing of it is left, and everybody else's files are as they are. Refused while our pods run."""
        with self._alone() as journal:
            run.settled(self.node, journal, UNINSTALL, "")
            known, _ = record.load(self.node.places.here(RECORD))
            if known is None:
                self._forget()
                return Report("uninstalled")
            seen = observe.software(self.node, self.flavour)
            self._refuse_with_pods(seen)
            changes = [configuration.restored(self.node.places, change) for change in known.changes]
            try:
                services = self._services(seen)
            except Permanent:
                services = observe.names()  # node.toml went first
            observed = observe.observe(self.node, services, (), (), seen)
            differs = any(change.before != change.after for change in changes)
            restart = not self.flavour.watches and (differs or HANDLER in self._served(seen))
            made = plan.to_uninstall(observed, changes, restart=restart)
            run.start(self.node, journal, made)
            self._forget()
            return Report("uninstalled", None, known.payload, {}, seen.version, differs, restart)

    def check(self) -> tuple[Report, Plan]:
        """What an install would do, judged as far as that can be without doing any of it."""
        given = self._given()
        with self._alone():
            if self.node.source is not None:
                payload.verify(given, self.node.source)
            known, _ = record.load(self.node.places.here(RECORD))
            phase = "installed" if known is None else known.phase
            wanted = Record(phase, given.digest, None, given.measurements, {}, (), (), (), (), "")
            made, report = self._planned(wanted if known is None else replace(known, payload=given.digest), INSTALL)
            return report, made

    def status(self) -> tuple[Report, Mapping[str, bool]]:
        """What is installed, and what of it runs: services, `handler` (containerd serves it), `finished` (no run was
        killed in the middle). Changes nothing.
        """
        known, _ = record.load(self.node.places.here(RECORD))
        seen = observe.software(self.node, self.flavour)
        facts = {"finished": Journal(self.node.places.here(JOURNAL)).unfinished() is None}
        if known is None:
            return Report("uninstalled", containerd=seen.version), facts
        facts |= {unit.name: self.node.services.runs(unit.name) for unit, _ in self._services(seen)}
        facts["handler"] = HANDLER in self._served(seen)
        return Report(known.phase, known.payload, known.previous, known.measurements, seen.version), facts

    def _serve(self, journal: Journal, wanted: Record, verb: str) -> Report:
        made, report = self._planned(wanted, verb)
        if made.steps:
            run.start(self.node, journal, made)
        return report

    def _planned(self, wanted: Record, verb: str) -> tuple[Plan, Report]:
        node, places = self.node, self.node.places
        seen = observe.software(node, self.flavour)
        config, digest = observe.settings(places)
        services = self._services(seen)
        units = [unit for unit, _ in services]
        files = node.services.files(units)
        links = {**node.services.links(units), **settings.links(seen.release, places)}
        known, _ = record.load(places.here(RECORD))
        target = self._target(seen, str(config.run_dir / "snapshotter.sock"), known)
        observed = observe.observe(node, services, files, links, seen)
        observed = replace(observed, settings=digest, busy=observe.busy(places, config))
        if known is not None and known.payload == wanted.payload:
            observed = replace(observed, missing=())
        needed = [*files, *links, *(change.path for change in target.changes), CURRENT]
        missing = observe.missing_folders(places, needed)
        observed = replace(observed, missing=missing, handlers=tuple(sorted(seen.effective.handlers)))
        changed = any(change.before != change.after for change in target.changes)
        restart = not self.flavour.watches and (changed or HANDLER not in self._served(seen))
        full = replace(
            wanted,
            folders=(*wanted.folders, *missing),
            files=tuple(sorted(files)),
            links=tuple(sorted(links)),
            changes=tuple(replace(change, before=None) for change in target.changes),
            settings=digest,
            lasting=_lasting(observed, known, payload_folder(wanted.payload)),
        )
        made = plan.to_install(observed, plan.Wanted(full, files, links, target.changes, restart), verb)
        report = Report(full.phase, full.payload, full.previous, full.measurements, seen.version, changed, restart)
        return made, report

    def _target(self, seen: Software, snapshotter: str, known: Record | None) -> Target:
        places, effective = self.node.places, seen.effective
        target = configuration.target(
            places, self.flavour, seen.release, effective, snapshotter, observe.changes_by_path(known)
        )
        stale = set(observe.changes_by_path(known)) - {change.path for change in target.changes}
        taken = tuple(configuration.restored(places, observe.changes_by_path(known)[path]) for path in sorted(stale))
        places.here(LOCK).parent.mkdir(mode=0o700, parents=True, exist_ok=True)
        preflight.check(places, self.flavour, self.node.containerd, seen.release, effective, target)
        return replace(target, changes=(*taken, *target.changes))

    def _services(self, seen: Software) -> tuple[tuple[Unit, str], ...]:
        config, _ = observe.settings(self.node.places)
        return observe.units(self.node.places, config, seen.effective.socket)

    def _served(self, seen: Software) -> frozenset[str]:
        """What containerd serves now; nothing while it is away."""
        try:
            return self.node.cri(seen.effective.socket).handlers()
        except Temporary:
            return frozenset()

    def _refuse_with_pods(self, seen: Software) -> None:
        try:
            pods = self.node.cri(seen.effective.socket).pods(HANDLER)
        except Temporary:
            pods = ()  # without containerd nobody can ask, and nobody uses it
        if pods:
            raise Temporary(
                Code.NODE_BUSY,
                f"{len(pods)} confidential pods run on this node",
                expected="none",
                got=", ".join(pods)[:500],
                advice="drain the node, or delete these pods, and uninstall again",
            )

    def _given(self) -> payload.Payload:
        if self.node.payload is None:
            raise Permanent(Code.INPUT, "no payload is given", expected="--payload DIR", got="nothing")
        return self.node.payload

    @contextlib.contextmanager
    def _alone(self) -> Iterator[Journal]:
        """The lock, the right machine, and the folder of the journal."""
        places = self.node.places
        self._check_machine()
        lock = places.here(LOCK)
        lock.parent.mkdir(mode=0o700, parents=True, exist_ok=True)
        descriptor = os.open(lock, os.O_RDWR | os.O_CREAT | os.O_CLOEXEC, 0o600)
        try:
            fcntl.flock(descriptor, fcntl.LOCK_EX | fcntl.LOCK_NB)
            places.here(STATE).mkdir(mode=0o700, parents=True, exist_ok=True)
            journal = Journal(places.here(JOURNAL), self.told)
            try:
                yield journal
            finally:
                if not places.here(RECORD).exists() and journal.unfinished() is None:
                    self._forget()
        except BlockingIOError as error:
            raise Temporary(
                Code.NODE_BUSY,
                "another run works on this node",
                expected=f"the lock {places.there(LOCK)}",
                got="held",
                advice="wait for it",
            ) from error
        finally:
            os.close(descriptor)

    def _check_machine(self) -> None:
        path = self.node.places.here(_MACHINE_ID)
        found = path.read_text().strip() if path.exists() else ""
        if self.machine and self.machine != found:
            raise Permanent(
                Code.NODE_OTHER,
                "this is another machine than the one that was meant",
                expected=self.machine,
                got=found or "no /etc/machine-id",
                advice=f"is {self.node.places.root} the root of the right node?",
            )

    def _forget(self) -> None:
        """The last that an uninstall leaves behind: its own journal, and folders that only held it."""
        places = self.node.places
        durable.remove_tree(places.here(STATE))
        folder = Path(STATE).parent
        with contextlib.suppress(OSError):
            places.here(str(folder)).rmdir()  # not while the services' state is in it


def _lasting(observed: Observed, known: Record | None, folder: str) -> tuple[str, ...]:
    """Where the services came from that run on: what is started now is the new payload's."""
    running = any(service.lasting and service.running for service in observed.services)
    return known.lasting if known is not None and running else (folder,)


def _nothing_installed(message: str) -> Permanent:
    return Permanent(
        Code.NOT_FOUND,
        message,
        expected="an installed payload",
        got="none",
        advice="`enclave-cc node status` tells what is there; `enclave-cc node install` installs",
    )
