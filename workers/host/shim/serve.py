"""The serving process: Task and Sandbox over TTRPC, the pod by way of the node's worker, events to containerd.

Neither asyncio nor the bus nor structlog is imported here, nor by what this imports: a pod would pay for each in memory
of its own (docs/adr/0015).
"""

from __future__ import annotations

import contextlib
import os
import signal
from pathlib import Path
from socket import socket, socketpair
from typing import Final, NoReturn

from orchestrator.faults import Code, Permanent, places
from workers.host import node_file
from workers.host.shim.bundle_log import log, log_to
from workers.host.shim.line_pod import LinePod
from workers.host.shim.loop import READ, Loop
from workers.host.shim.publisher import Publisher
from workers.host.shim.sandbox import SandboxService
from workers.host.shim.task import TaskService
from workers.host.shim.ttrpc.loop_server import LoopServer

TTRPC_ADDRESS: Final = "TTRPC_ADDRESS"
"""Environment variable of containerd: where events go. Peer: containerd runtime/v2/shim."""
_LAST_WORDS: Final = 0.05
"""Seconds for the reply to the request that ends us."""


def serve(listener: socket, *, sandbox: str, namespace: str, bundle: str) -> None:
    """Serve one pod at `listener` until containerd has asked for the end, then remove the socket and end the process.

    Until then the process ends by a signal, or by a defect, which the log tells.
    """
    log_to(bundle)
    _survive_longer_than_containerd_would_kill()
    path = Path(listener.getsockname())
    loop = Loop()
    try:
        loop.run(_serve(loop, listener, sandbox, namespace))
    except Exception as error:  # noqa: BLE001 - told in the log, where somebody looks
        log("error", "the shim ended by a defect", pod=sandbox, error=type(error).__name__, at=places(error))
    finally:
        _exit(path)


def worker_socket() -> str:
    """Where the node's worker answers shims. Raises Permanent(INPUT)."""
    document = node_file.read()
    run_dir = document.get("run_dir")
    if not isinstance(run_dir, str) or not run_dir.startswith("/"):
        raise Permanent(
            Code.INPUT,
            "the node's configuration cannot be used for its run_dir",
            expected="an absolute path",
            got=repr(run_dir)[:200],
            advice="see the head of workers/host/node.py for the file's form",
        )
    return f"{run_dir}/{node_file.SHIMS}"


def _exit(path: Path) -> NoReturn:
    """Remove the socket and end, asking no task: a shim has nothing to save."""
    path.unlink(missing_ok=True)
    os._exit(0)


async def _serve(loop: Loop, listener: socket, sandbox: str, namespace: str) -> None:
    publisher = Publisher(loop, os.environ.get(TTRPC_ADDRESS, ""), namespace)
    pod = LinePod(loop, sandbox, worker_socket)
    service = TaskService(sandbox, pod, publisher, loop)
    _on_term(loop, service)
    loop.create_task(pod.run())
    loop.create_task(publisher.run())
    methods = {**service.methods(), **SandboxService(sandbox, service).methods()}
    LoopServer(loop, listener, methods, _tell)
    log("info", "shim serves", pod=sandbox)
    await service.idle.wait()
    await loop.sleep(_LAST_WORDS)
    await publisher.drain()


def _on_term(loop: Loop, service: TaskService) -> None:
    """SIGTERM is as containerd's Shutdown. A handler alone would not wake the loop; the wake-up socket does."""
    woken, wakes = socketpair()
    for end in (woken, wakes):
        end.setblocking(False)
    signal.set_wakeup_fd(wakes.detach(), warn_on_full_buffer=False)
    signal.signal(signal.SIGTERM, lambda *_: service.idle.set())
    loop.watch(descriptor := woken.detach(), READ, lambda _: os.read(descriptor, 16))


def _tell(what: str, method: str, why: object) -> None:
    if isinstance(why, Exception):
        log("error", what, method=method, error=type(why).__name__, at=places(why))
    else:
        log("info", what, method=method, diagnosis=str(why))


def _survive_longer_than_containerd_would_kill() -> None:
    """One above containerd's own oom_score_adj, as its own shims have."""
    with contextlib.suppress(OSError, ValueError):
        own = Path("/proc/self/oom_score_adj")
        own.write_text(str(min(1000, int(own.read_text()) + 1)))
