"""The serving process: the pod over the bus, Task and Sandbox over TTRPC, events to containerd, until idle."""

from __future__ import annotations

import asyncio
import contextlib
import os
import signal
import socket
from collections.abc import Callable
from pathlib import Path
from typing import Final, NoReturn, TextIO

import structlog

from orchestrator.log import configure
from workers.host import node
from workers.host.shim.bus_pod import BusPod
from workers.host.shim.pod import Pod
from workers.host.shim.publisher import Publisher
from workers.host.shim.sandbox import SandboxService
from workers.host.shim.task import TaskService
from workers.host.shim.ttrpc.server import Server

TTRPC_ADDRESS: Final = "TTRPC_ADDRESS"
"""Environment variable of containerd: where events go. Peer: containerd runtime/v2/shim."""
_LAST_WORDS: Final = 0.05
"""Seconds for the reply to the request that ends us."""
_log = structlog.get_logger()


class BundleLog:
    """The bundle's FIFO `log`, which containerd copies to its own log. Never waits, never fails: a log is no service.

    Opened for reading too, so that a containerd that is being restarted breaks nothing.
    """

    def __init__(self, bundle: str) -> None:
        """A bundle without the FIFO loses what is logged."""
        self._descriptor = -1
        with contextlib.suppress(OSError):
            self._descriptor = os.open(f"{bundle}/log", os.O_RDWR | os.O_NONBLOCK | os.O_CLOEXEC)

    def write(self, text: str) -> int:
        """Write what fits."""
        with contextlib.suppress(OSError):
            os.write(self._descriptor, text.encode())
        return len(text)

    def flush(self) -> None:
        """Nothing is held back."""


def serve(
    listener: socket.socket, *, sandbox: str, namespace: str, bundle: str, make_pod: Callable[[str], Pod] | None = None
) -> None:
    """Serve one pod at `listener` until containerd has asked for the end, then remove the socket and end the process.

    `make_pod` is called in the running event loop; without it the pod is the bus's.
    """
    _log_to(BundleLog(bundle))
    _survive_longer_than_containerd_would_kill()
    path = Path(listener.getsockname())
    try:
        asyncio.run(_serve(listener, sandbox, namespace, make_pod or _on_the_bus))
    except Exception:  # noqa: BLE001 - told in the log, where somebody looks
        _log.exception("the shim ended by a defect", pod=sandbox)
    finally:
        _exit(path)


def _exit(path: Path) -> NoReturn:
    """Remove the socket and end, asking no task: a shim has nothing to save.

    Cancelling could wait for ever: Python 3.11's wait_for can swallow a cancellation (python/cpython#86296), and the
    bus's client uses it.
    """
    path.unlink(missing_ok=True)
    os._exit(0)


def _on_the_bus(sandbox: str) -> Pod:
    return BusPod(sandbox, node.load)


async def _serve(listener: socket.socket, sandbox: str, namespace: str, make_pod: Callable[[str], Pod]) -> NoReturn:
    path = Path(listener.getsockname())
    publisher = Publisher(os.environ.get(TTRPC_ADDRESS, ""), namespace)
    async with asyncio.TaskGroup() as tasks:
        pod = make_pod(sandbox)
        service = TaskService(sandbox, pod, publisher, tasks)
        asyncio.get_running_loop().add_signal_handler(signal.SIGTERM, service.idle.set)
        methods = {**service.methods(), **SandboxService(sandbox, service).methods()}
        for work in (pod.run(), publisher.run(), Server(listener, methods).run()):
            tasks.create_task(work)
        _log.info("shim serves", pod=sandbox)
        await service.idle.wait()
        await asyncio.sleep(_LAST_WORDS)
        await publisher.drain()
        _exit(path)


def _log_to(log: TextIO | BundleLog) -> None:
    configure("shim", log)


def _survive_longer_than_containerd_would_kill() -> None:
    """One above containerd's own oom_score_adj, as its own shims have."""
    with contextlib.suppress(OSError, ValueError):
        own = Path("/proc/self/oom_score_adj")
        own.write_text(str(min(1000, int(own.read_text()) + 1)))
