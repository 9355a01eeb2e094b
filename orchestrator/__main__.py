"""The orchestrator's process: `python -m orchestrator --bus URL --ca FILE --credentials FILE`.

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

from orchestrator.bus import Credentials, connect
from orchestrator.dispatch import Dispatcher
from orchestrator.faults import Fault
from orchestrator.log import configure


async def serve(credentials: Credentials, actor: str) -> None:
    """Carry every launch on the bus forward until cancelled."""
    async with await connect(credentials, actor) as bus:
        await Dispatcher(bus, actor).run()


def main(arguments: Sequence[str] | None = None) -> int:
    """Run until SIGTERM: 0. 1 after a fault, whose diagnosis goes to standard error."""
    parser = argparse.ArgumentParser(
        prog="python -m orchestrator", description="Fact to next command, for every launch."
    )
    parser.add_argument("--bus", required=True, metavar="URL", help="the bus, such as tls://127.0.0.1:4222")
    parser.add_argument("--ca", required=True, type=Path, help="the bus's certificate authority, PEM")
    parser.add_argument("--credentials", required=True, type=Path, help="NATS credentials of the role orchestrator")
    given = parser.parse_args(arguments)
    configure("orchestrator")
    actor = f"orchestrator/{socket.gethostname()}/{os.getpid()}"

    async def until_terminated() -> None:
        task = asyncio.current_task()
        if task is not None:
            asyncio.get_running_loop().add_signal_handler(signal.SIGTERM, task.cancel)
        credentials = Credentials(
            given.bus, given.ca.read_text(), file=str(given.credentials), inbox="_INBOX_orchestrator"
        )
        with suppress(asyncio.CancelledError):
            await serve(credentials, actor)

    try:
        asyncio.run(until_terminated())
    except Fault as fault:
        sys.stderr.write(f"{fault.diagnostics()}\n")
        return 1
    return 0


if __name__ == "__main__":
    sys.exit(main())
