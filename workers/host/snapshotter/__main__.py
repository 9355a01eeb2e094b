"""`python -m workers.host.snapshotter`: the snapshotter's daemon, one a node.

containerd's configuration names its socket:

    [proxy_plugins.enclave-cc]
      type = "snapshot"
      address = "/run/enclave-cc/snapshotter.sock"
    [plugins."io.containerd.grpc.v1.cri".containerd]
      snapshotter = "enclave-cc"
      disable_snapshot_annotations = false
"""

from __future__ import annotations

import argparse
import signal
import threading
from collections.abc import Sequence
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from typing import Final

import grpc
import structlog

from orchestrator.log import configure
from workers.host.snapshotter.content import ContainerdContent
from workers.host.snapshotter.service import Service, handler
from workers.host.snapshotter.snapshotter import Snapshotter
from workers.host.unix_socket import place_for

_THREADS: Final = 8
_MAX_MESSAGE: Final = 16 << 20
"""As containerd bounds its own gRPC messages (defaults.DefaultMaxRecvMsgSize)."""
_GRACE: Final = 5.0
_log = structlog.get_logger()


def main(arguments: Sequence[str] | None = None) -> None:
    """Serve until SIGTERM or SIGINT; running calls get five seconds to finish."""
    parser = argparse.ArgumentParser(prog="python -m workers.host.snapshotter", description="containerd's snapshotter.")
    parser.add_argument("--root", type=Path, required=True, help="directory of layers and metadata")
    parser.add_argument("--address", type=Path, required=True, help="Unix socket to serve on")
    parser.add_argument("--containerd-address", required=True, help="containerd's gRPC socket")
    given = parser.parse_args(arguments)
    configure("snapshotter")
    stop = threading.Event()
    for number in (signal.SIGTERM, signal.SIGINT):
        signal.signal(number, lambda *_: stop.set())
    content = ContainerdContent(given.containerd_address)
    snapshotter = Snapshotter(given.root, content)
    server = serve(snapshotter, given.address)
    _log.info("snapshotter serves", address=str(given.address), root=str(given.root))
    stop.wait()
    server.stop(_GRACE).wait()
    snapshotter.close()
    content.close()


def serve(snapshotter: Snapshotter, address: Path) -> grpc.Server:
    """Start serving at `address`, replacing the socket that an earlier process left. Root only."""
    server = grpc.server(
        ThreadPoolExecutor(_THREADS, thread_name_prefix="snapshots"),
        options=[("grpc.max_receive_message_length", _MAX_MESSAGE)],
    )
    server.add_generic_rpc_handlers((handler(Service(snapshotter)),))
    with place_for(address):
        server.add_insecure_port(f"unix://{address}")
    server.start()
    return server


if __name__ == "__main__":
    main()
