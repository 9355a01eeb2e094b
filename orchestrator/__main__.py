"""The orchestrator's process: `python -m orchestrator --bus URL --ca FILE --credentials FILE`, or `--config FILE`.

Zone: host. May import: `orchestrator`, the standard library.

It keeps nothing on disk: what it knows is folded from the bus. Any number may run, and any may be killed at any time.
"""

from __future__ import annotations

import argparse
import asyncio
import os
import signal
import socket
import sys
from collections.abc import Sequence
from contextlib import suppress
from pathlib import Path

from orchestrator.bus import Credentials, connect, ensure_streams
from orchestrator.bus.settings import BusSettings
from orchestrator.dispatch import Dispatcher
from orchestrator.faults import Fault
from orchestrator.log import configure

INBOX = "_INBOX_orchestrator"


async def serve(credentials: Credentials, actor: str) -> None:
    """Carry every launch on the bus forward until cancelled."""
    async with await connect(credentials, actor) as bus:
        await ensure_streams(bus)
        await Dispatcher(bus, actor).run()


def main(arguments: Sequence[str] | None = None) -> int:
    """Run until SIGTERM or SIGINT: 0. 1 after a fault, whose diagnosis goes to standard error; 2 if used wrongly."""
    parser = argparse.ArgumentParser(
        prog="python -m orchestrator", description="Fact to next command, for every launch."
    )
    parser.add_argument("--config", type=Path, metavar="FILE", help="a TOML file that says all of the following")
    parser.add_argument("--bus", metavar="URL", help="the bus, such as tls://127.0.0.1:4222")
    parser.add_argument("--ca", default="", metavar="FILE", help="the bus's certificate authority, PEM")
    parser.add_argument("--credentials", default="", metavar="FILE", help="NATS credentials of the role orchestrator")
    given = parser.parse_args(arguments)
    if (given.config is None) == (given.bus is None):
        parser.error("either --config or --bus is needed")
    configure("orchestrator")
    actor = f"orchestrator/{socket.gethostname()}/{os.getpid()}"

    async def until_terminated(credentials: Credentials) -> None:
        task = asyncio.current_task()
        if task is not None:
            for number in (signal.SIGTERM, signal.SIGINT):
                asyncio.get_running_loop().add_signal_handler(number, task.cancel)
        with suppress(asyncio.CancelledError):
            await serve(credentials, actor)

    try:
        if given.config is not None:
            settings = BusSettings.load(given.config)
        else:
            settings = BusSettings(given.bus, given.ca, given.credentials, INBOX if given.credentials else "")
        asyncio.run(until_terminated(settings.enter()))
    except Fault as fault:
        sys.stderr.write(f"{fault.diagnostics()}\n")
        return 1
    return 0


if __name__ == "__main__":
    sys.exit(main())
