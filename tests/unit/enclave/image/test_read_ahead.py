"""Reading ahead changes when bytes are read, and nothing else."""

from __future__ import annotations

import io
import os
import threading
import time

import pytest

from orchestrator.faults import Code, Temporary
from tests.simulators import oci
from workers.enclave.image.manifest import Descriptor
from workers.enclave.image.read_ahead import CHUNK, DEPTH, ReadAhead
from workers.enclave.image.reference import parse_reference
from workers.enclave.image.transport import READ_SECONDS

BODY = os.urandom(3 * CHUNK + 17)


def threads() -> list[str]:
    return [thread.name for thread in threading.enumerate() if thread.name == "read-ahead"]


class Breaking(io.BytesIO):
    """Breaks at its end."""

    def read(self, size: int = -1, /) -> bytes:
        found = super().read(size)
        if not found:
            raise Temporary(Code.IMAGE_REGISTRY_AWAY, "gone")
        return found


class Endless:
    """Counts what is taken from it."""

    def __init__(self) -> None:
        self.reads = 0
        self.closed = False

    def read(self, size: int, /) -> bytes:
        self.reads += 1
        return bytes(size)

    def close(self) -> None:
        self.closed = True


@pytest.mark.parametrize("size", [1000, CHUNK, 10 * CHUNK])
def test_the_same_bytes_come_in_the_same_order(size) -> None:
    ahead = ReadAhead(io.BytesIO(BODY))
    assert b"".join(iter(lambda: ahead.read(size), b"")) == BODY
    assert ahead.read(1) == b""
    ahead.close()
    assert threads() == []


def test_a_fault_comes_where_the_bytes_would_have_come() -> None:
    ahead = ReadAhead(Breaking(BODY))
    got = b"".join(ahead.read(CHUNK) for _ in range(4))
    assert got == BODY
    with pytest.raises(Temporary, match="gone"):
        ahead.read(1)
    ahead.close()
    assert threads() == []


def test_it_reads_a_bounded_way_ahead_and_close_ends_it() -> None:
    source = Endless()
    ahead = ReadAhead(source)
    ahead.read(1)
    ahead.close()
    assert source.closed
    assert source.reads <= DEPTH + 2
    assert threads() == []


def test_close_does_not_wait_for_a_registry_that_went_silent(wayward, registry) -> None:
    reference = parse_reference(wayward.put("shop/app", oci.OciImage(b"{}", {oci.digest(BODY): BODY}), "v1"))
    wayward.faults.stall_after[oci.digest(BODY)] = CHUNK
    ahead = ReadAhead(registry.open_blob(reference, Descriptor("a/b", oci.digest(BODY), len(BODY))))
    assert ahead.read(1) == BODY[:1]
    time.sleep(0.2)  # by now the thread that reads ahead waits for what does not come
    closing = threading.Thread(target=ahead.close, daemon=True)
    closing.start()
    closing.join(READ_SECONDS / 2)
    assert not closing.is_alive()
    assert threads() == []


def test_nothing_runs_before_the_first_read() -> None:
    source = Endless()
    ahead = ReadAhead(source)
    ahead.close()
    assert (source.reads, source.closed) == (0, True)
