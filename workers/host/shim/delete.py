"""`delete`: what containerd runs when a connection to a shim has closed, once for each of its tasks.

Peer: containerd runtime/v2/shim.go, cleanupAfterDeadShim; binary.go, Delete. The connection also closes when a task was
deleted in order, so this runs at every task's end. The shim leaves its answer in the bundle then, and nothing needs to
be imported to repeat it. Without that answer the shim was lost, and `lost` has the pod's things removed.
"""

# Importing pathlib would cost every end of a container 8 ms.
# ruff: noqa: PTH123

from __future__ import annotations

import posix

from workers.host.shim.arguments import Arguments

TYPE_CHECKING = False  # typing costs as much as pathlib
if TYPE_CHECKING:
    from collections.abc import Callable

    from workers.host.shim.pod import Pod

ANSWER = "deleted"
"""File of the bundle: the DeleteResponse of a task that the shim has deleted."""


def delete(arguments: Arguments, make_pod: Callable[[str], Pod] | None = None) -> None:
    """Print a DeleteResponse for the task whose bundle is named, or is the working directory."""
    bundle = arguments.bundle or posix.getcwd()
    try:
        with open(f"{bundle}/{ANSWER}", "rb") as file:
            answer = file.read()
    except FileNotFoundError:
        from workers.host.shim.lost import clean_up  # noqa: PLC0415 - only where the shim was lost

        answer = clean_up(arguments, bundle, make_pod)
    posix.write(1, answer)
