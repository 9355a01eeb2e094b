"""Cleaning up after a shim that died: its pod's launch is asked to end, since nobody serves it any more.

Five seconds (containerd's io.containerd.timeout.shim.cleanup) for all of it: the request to remove is what matters and
is stored first, or written down at the node where the bus is away; the teardown goes on without us if it takes longer.
"""

from __future__ import annotations

import asyncio
import contextlib
import sys
from collections.abc import Callable
from pathlib import Path
from time import time_ns
from typing import Final

from orchestrator.faults import Fault
from orchestrator.log import configure
from schemas.containerd import task_pb2
from workers.host import node, removals
from workers.host.shim.arguments import Arguments
from workers.host.shim.bus_pod import BusPod
from workers.host.shim.pod import Exit, Pod
from workers.host.shim.rootfs import unmount
from workers.host.shim.socket_address import remove_dead, sandbox_of, socket_path
from workers.host.shim.timestamp import timestamp

_SECONDS: Final = 4.0
_KILLED: Final = 137
_REASON: Final = "the shim was lost"


def clean_up(arguments: Arguments, bundle: str, make_pod: Callable[[str], Pod] | None) -> bytes:
    """Have the task (for a sandbox: the pod) removed; a DeleteResponse. What went wrong goes to standard error."""
    configure("shim")  # to standard error: standard output is the answer's
    sandbox = sandbox_of(bundle, arguments.id)
    container = "" if sandbox == arguments.id else arguments.id
    later = _write_down if make_pod is None else _nothing
    ended = asyncio.run(_remove(sandbox, container, make_pod or _on_the_bus, later))
    unmount(Path(bundle) / "rootfs")
    remove_dead(socket_path(arguments.address, arguments.namespace, sandbox))
    return task_pb2.DeleteResponse(exit_status=ended.status, exited_at=timestamp(ended.at_ns)).SerializeToString()


def _on_the_bus(sandbox: str) -> Pod:
    return BusPod(sandbox, node.load)


def _write_down(sandbox: str, container: str) -> None:
    with contextlib.suppress(Fault):  # that there is no node was told already
        removals.note(node.load().run_dir, sandbox, container, _REASON)


def _nothing(_sandbox: str, _container: str) -> None:
    """Another way to a pod than the bus has no later."""


async def _remove(
    sandbox: str, container: str, make_pod: Callable[[str], Pod], later: Callable[[str, str], None]
) -> Exit:
    """How the container ended; killed where that is not known in time. `later` is for what nobody may have taken."""
    pod = make_pod(sandbox)
    following = asyncio.create_task(pod.run())
    try:
        async with asyncio.timeout(_SECONDS):
            await pod.remove(container, _REASON)
            return await pod.exit_of(container)
    except Fault as fault:
        later(sandbox, container)
        sys.stderr.write(fault.diagnostics() + "\n")
    except TimeoutError:
        later(sandbox, container)  # at once: containerd's patience ends soon, and this process with it
        sys.stderr.write(f"{container or sandbox}: removal goes on\n")
    finally:
        following.cancel()
        await asyncio.wait([following], timeout=_SECONDS / 4)
    return Exit(_KILLED, time_ns())
