"""What a host that means harm can do to a pod: act within its network, and start genuine enclaves there."""

from __future__ import annotations

import asyncio
import ctypes
import json
import os
import time
from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass
from pathlib import Path
from typing import Final, TypeVar

from deploy.local.layout import Layout
from schemas.places import CONTAINER_FILE, STORE
from schemas.sgx import CONFIG_ID_BYTES
from workers.host import node, spec
from workers.host.conmon import Streams
from workers.host.libos.sim.backend import SimulatedLibOS
from workers.host.netns import CLONE_NEWNET
from workers.host.runc import Held, Role, Runc

ENDS_WITHIN: Final = 20.0
Found = TypeVar("Found")


def in_network(netns: str, act: Callable[[], Found]) -> Found:
    """What `act` returns in a thread of its own that has entered the network namespace at path `netns`."""
    with ThreadPoolExecutor(1, initializer=_enter, initargs=(netns,)) as thread:
        return thread.submit(act).result()


def _enter(netns: str) -> None:
    descriptor = os.open(netns, os.O_RDONLY)
    try:
        if ctypes.CDLL(None, use_errno=True).setns(descriptor, CLONE_NEWNET) != 0:
            raise OSError(ctypes.get_errno(), "setns", netns)
    finally:
        os.close(descriptor)


@dataclass(frozen=True, slots=True)
class Ended:
    """How an enclave ended: its exit status and what it wrote to standard error."""

    status: int
    said: str


def start_boot_init(layout: Layout, folder: Path, sandbox_pid: int, container: str, store: Path) -> Ended:
    """Start the stack's own measured boot init in the namespaces of a sandbox, as if for `container`, until it ends.

    `store` is the sealed store that it is given; `folder` holds everything else of it and is the caller's.
    """
    return asyncio.run(_boot_init(layout, folder, sandbox_pid, container, store))


async def _boot_init(layout: Layout, folder: Path, sandbox_pid: int, container: str, store: Path) -> Ended:
    configuration = node.load(layout.node_config)
    enclaves, runc = configuration.enclaves, Runc(configuration.runc, folder)
    libos = SimulatedLibOS(enclaves.control, enclaves.socket)
    bundle = await libos.prepare(enclaves.boot_bundle)
    directory, name = folder / "bundle", f"intruder-{os.getpid()}-{time.monotonic_ns()}"
    directory.mkdir(exist_ok=True)
    identity, log = folder / "container.json", folder / f"{name}.log"
    identity.write_text(json.dumps({"container": container, "attempt": 1}))
    log.touch()
    mounts = [spec.Mount(identity, CONTAINER_FILE), spec.Mount(store, STORE)]
    proposed = {"linux": {"cgroupsPath": f"/{name}"}}
    spec.write(spec.boot(bundle, libos.container_extras(), mounts, proposed, sandbox_pid), directory)
    pid = await runc.create(Held(name, "", "", Role.APP, 1), directory, Streams("", str(log), str(log)))
    try:
        await libos.enter(pid, bundle, bytes(CONFIG_ID_BYTES))
        await runc.start(name)
        async with asyncio.timeout(ENDS_WITHIN):
            while (ended := runc.exit_of(name)) is None:
                await asyncio.sleep(0.05)
        return Ended(ended[0], log.read_text())
    finally:
        await runc.discard(name)
