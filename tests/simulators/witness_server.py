"""Witnesses as processes of their own would be: the real server on a free port, in a thread."""

from __future__ import annotations

import threading
import time
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

from orchestrator.audit.note import SigningKey
from orchestrator.audit.storage import Folder
from orchestrator.audit.witness import Witness
from orchestrator.audit.witness_web import WitnessServer
from tests.simulators.audit_logs import LOG_KEY


@contextmanager
def serving(folder: Path, key: SigningKey, port: int = 0) -> Iterator[str]:
    """A witness of the test log, with its memory in `folder`; gives its address."""
    judge = Witness(Folder(folder), key, [LOG_KEY.verifier()], time.time)
    server = WitnessServer(judge, "127.0.0.1", port)
    thread = threading.Thread(target=server.run)
    thread.start()
    try:
        while not server.started:
            time.sleep(0.01)
        yield server.url
    finally:
        server.should_exit = True
        thread.join()
