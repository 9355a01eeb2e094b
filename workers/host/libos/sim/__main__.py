"""`python -m workers.host.libos.sim --state DIR --socket PATH --control PATH`: the simulated CPU of this machine."""

from __future__ import annotations

import argparse
import asyncio
import sys
from pathlib import Path

from orchestrator.faults import Fault
from orchestrator.log import configure
from workers.host.libos.sim.daemon import Places, serve


def main(arguments: list[str] | None = None) -> int:
    """Serve until a signal. 0 after SIGTERM or SIGINT, 1 after a fault, which is printed."""
    parser = argparse.ArgumentParser(
        prog="python -m workers.host.libos.sim",
        description="Enclaves without SGX hardware. Root on this machine can defeat every one of them.",
    )
    parser.add_argument("--state", type=Path, required=True, help="directory of root secret, PKI and mounts")
    parser.add_argument("--socket", type=Path, required=True, help="socket to bind into enclaves' containers")
    parser.add_argument("--control", type=Path, required=True, help="socket of the host worker, root's only")
    given = parser.parse_args(arguments)
    configure("simulated-cpu")
    try:
        asyncio.run(serve(Places(given.state.absolute(), given.socket.absolute(), given.control.absolute())))
    except Fault as fault:
        sys.stderr.write(f"{fault.diagnostics()}\n")
        return 1
    return 0


if __name__ == "__main__":
    sys.exit(main())
