"""`kubectl port-forward`, for as long as a test needs it."""

from __future__ import annotations

import re
import subprocess
from collections.abc import Iterator
from contextlib import contextmanager

from tests.kubernetes.kubectl import Kubectl


@contextmanager
def forwarded(kubectl: Kubectl, pod: str, port: int) -> Iterator[str]:
    """The URL on this machine that leads to a pod's port; kubectl chooses the near end."""
    command = kubectl.command("port-forward", f"pod/{pod}", f":{port}", "--address=127.0.0.1")
    process = subprocess.Popen(
        command, env=kubectl.environment, stdin=subprocess.DEVNULL, stdout=subprocess.PIPE, stderr=subprocess.STDOUT
    )
    assert process.stdout is not None
    try:
        line = process.stdout.readline().decode()
        near = re.match(r"Forwarding from 127\.0\.0\.1:([0-9]+) ->", line)
        assert near, line
        yield f"http://127.0.0.1:{near[1]}/"
    finally:
        process.terminate()
        process.wait(20)
        process.stdout.close()
