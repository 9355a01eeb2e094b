"""`containerd-shim-enclave-cc-v2`: the program that containerd executes for the runtime `io.containerd.enclave-cc.v2`.

Errors go to standard error with exit status 1; containerd shows them as the reason why a container did not start.
"""

from __future__ import annotations

import posix
import sys

from workers.host.shim.arguments import parse

TYPE_CHECKING = False  # typing costs a start as much as pathlib
if TYPE_CHECKING:
    from collections.abc import Callable

    from workers.host.shim.pod import Pod

VERSION = "0.1.0"


def main(make_pod: Callable[[str], Pod] | None = None) -> None:
    """Run the action that the command line names. `make_pod` is `delete`'s: another way to a pod than the bus."""
    try:
        arguments = parse(sys.argv[1:])
        if arguments.version:
            sys.stdout.write(f"containerd-shim-enclave-cc-v2 {VERSION}\n")
        elif arguments.info:
            from workers.host.shim.info import info  # noqa: PLC0415 - each action imports its own

            sys.stdout.buffer.write(info(VERSION))
        elif not arguments.namespace or not arguments.id:
            raise ValueError("-namespace and -id are needed")  # noqa: TRY301 - told like every other mistake
        elif arguments.action == "start":
            from workers.host.shim.start import start  # noqa: PLC0415 - each action imports its own

            start(arguments)
        elif arguments.action == "delete":
            from workers.host.shim.delete import delete  # noqa: PLC0415 - each action imports its own

            delete(arguments, make_pod)
        else:
            raise ValueError("say start or delete: containerd runs this program, people do not")  # noqa: TRY301
    except (OSError, ValueError) as error:
        sys.stderr.write(f"containerd-shim-enclave-cc-v2: {error}\n")
        raise SystemExit(1) from error
    if arguments.action:
        # containerd waits for the end, and an interpreter's takes 3 ms.
        posix._exit(0)  # noqa: SLF001 - os._exit, where it comes from
