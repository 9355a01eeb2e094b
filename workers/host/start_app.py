"""start_app: the host's half of deliver_config. runc starts boot init, measured, in the pod's namespaces.

Zone: host. May import: `workers.host`, `orchestrator.{events,faults,launch}`.

The container proposed by the CRI is not run: its process goes to the agent as a proposal, its mounts are offered to
boot init at places of their own, and only what the owner's policy admits is used from there.
"""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

from orchestrator.events import AppStarted, Command
from orchestrator.faults import Code, Permanent
from orchestrator.launch import Launch
from schemas.places import CONTAINER_FILE, STORE, offered_at
from workers.host import borrowed, spec
from workers.host.conmon import Streams
from workers.host.libos.backend import LibOS
from workers.host.node import Node
from workers.host.pinned_store import pinned
from workers.host.runc import Held, Role, Runc


class StartApp:
    """Moves no state; deliver_config's other half answers."""

    def __init__(self, node: Node, runc: Runc, libos: LibOS) -> None:
        self._node = node
        self._runc = runc
        self._libos = libos

    async def __call__(self, command: Command, launch: Launch) -> AppStarted:
        """Raises Permanent(RUNTIME), and what the LibOS raises."""
        container = launch.containers[command.container]
        bundle = await self._libos.prepare(self._node.boot_bundle(command.pod))
        measurement = bundle.expected_measurement.hex()
        status, pid = await self._runc.known(command.container)
        record = self._runc.record(command.container)
        if status == "running" and record is not None and record.attempt == command.attempt:
            return AppStarted(command.container, pid, measurement)
        if status != "absent" or self._runc.traces(command.container):
            await self._runc.discard(command.container)
        directory = app_directory(self._node, command.pod, command.container)
        proposed = read_proposal(Path(container.requested.bundle))
        if launch.forked is not None:
            proposed = borrowed.proposal(proposed, command.container)
        sandbox_pid = launch.sandbox.pid if launch.sandbox else 0
        extras = self._libos.container_extras()
        held = Held(command.container, command.pod, command.container, Role.APP, command.attempt)
        asked = container.requested
        with pinned(self._node.store_dir(command.pod), container.sealed) as store:
            mounts = self._mounts(command, store.path, directory, proposed)
            spec.write(spec.boot(bundle, extras, mounts, proposed, sandbox_pid), directory)
            pid = await self._runc.create(held, directory, Streams(asked.stdin, asked.stdout, asked.stderr))
            store.check_mounted(pid)
        await self._libos.enter(pid, bundle, bytes(64), debug=self._node.enclaves.debug)
        await self._runc.start(command.container)
        return AppStarted(command.container, pid, measurement)

    @staticmethod
    def _mounts(command: Command, store: Path, directory: Path, proposed: dict[str, Any]) -> list[spec.Mount]:
        directory.mkdir(mode=0o700, parents=True, exist_ok=True)
        identity = directory / "container.json"
        identity.write_text(json.dumps({"container": command.container, "attempt": command.attempt}))
        offered = [
            spec.Mount(source, offered_at(destination), writable=writable)
            for destination, source, writable in offered_binds(proposed)
        ]
        return [spec.Mount(identity, CONTAINER_FILE), spec.Mount(store, STORE), *offered]


def app_directory(node: Node, pod: str, container: str) -> Path:
    """The bundle that is made for a container's boot init; gone with it."""
    return node.pod_dir(pod) / "apps" / container


def offered_binds(proposed: dict[str, Any]) -> list[tuple[str, Path, bool]]:
    """The bind mounts of a CRI configuration: `(destination, source on the node, writable)`."""
    return [
        (str(mount["destination"]), Path(str(mount.get("source", ""))), "ro" not in mount.get("options", ()))
        for mount in proposed.get("mounts", ())
        if mount.get("type") == "bind" or {"bind", "rbind"} & set(mount.get("options", ()))
    ]


def read_proposal(bundle: Path) -> dict[str, Any]:
    """What the CRI wants to run: the bundle's config.json, with what is used here in the form that OCI gives it.

    Raises Permanent(RUNTIME).
    """
    try:
        document = json.loads((bundle / "config.json").read_text())
        _check_form(document)
    except (OSError, ValueError, TypeError, RecursionError) as error:
        raise Permanent(
            Code.RUNTIME,
            "the container's bundle cannot be read",
            expected=f"config.json, an OCI runtime configuration, in {bundle}",
            got=f"{type(error).__name__}: {error}"[:500],
            advice="the bundle is containerd's; see its log for this container",
        ) from error
    return document  # type: ignore[no-any-return]  # JSON, as far as it was checked


def _check_form(document: Any) -> None:
    for name, kind in (("process", dict), ("linux", dict), ("mounts", list)):
        if not isinstance(document, dict) or not isinstance(document.get(name, kind()), kind):
            raise TypeError(f"{name} is no {kind.__name__}")
    if not all(isinstance(mount, dict) and "destination" in mount for mount in document.get("mounts", ())):
        raise TypeError("a mount has no destination")
    capabilities = document.get("process", {}).get("capabilities", {})
    if not isinstance(capabilities, dict) or not all(isinstance(names, list) for names in capabilities.values()):
        raise TypeError("process.capabilities are no lists")
