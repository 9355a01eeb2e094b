"""Where secrets are kept: out of reach while they live, gone when they are closed."""

from __future__ import annotations

import ctypes
import mmap
import os
import subprocess
import sys
from pathlib import Path

import pytest

from workers.enclave.tee.secrets import Secret, locked_pages


def test_a_secret_holds_what_it_was_given_and_wipes_the_source():
    source = bytearray(b"key material")
    with Secret.of(source) as secret:
        assert secret.view == b"key material"
        assert source == bytes(12)
        assert "key" not in repr(secret)


def test_a_closed_secret_is_wiped_and_closing_again_is_no_error():
    secret = Secret.of(b"key material")
    kept = memoryview(secret._map)
    secret.close()
    secret.close()
    assert bytes(kept) == bytes(len(kept))
    with pytest.raises(ValueError, match="released"):
        bytes(secret.view)


def test_not_even_root_reads_a_memfd_secret_through_proc():
    with Secret.of(b"out of reach") as secret:
        assert secret.kind == "memfd_secret"
        address = ctypes.addressof(ctypes.c_char.from_buffer(secret.view))
        fd = os.open("/proc/self/mem", os.O_RDONLY)
        try:
            with pytest.raises(OSError, match="Input/output error"):
                os.pread(fd, 12, address)
        finally:
            os.close(fd)


def test_the_fallback_is_locked_in_memory_and_left_out_of_core_dumps():
    pages = locked_pages(mmap.PAGESIZE)
    address = ctypes.addressof(ctypes.c_char.from_buffer(pages))
    flags = vm_flags(address)
    assert {"lo", "dd"} <= flags


def vm_flags(address: int) -> set[str]:
    inside = False
    for line in Path("/proc/self/smaps").read_text().splitlines():
        if "-" in line.split()[0] and not line.split()[0].endswith(":"):
            start, end = (int(part, 16) for part in line.split()[0].split("-"))
            inside = start <= address < end
        elif inside and line.startswith("VmFlags:"):
            return set(line.split()[1:])
    return set()


@pytest.mark.parametrize("size", [1, 4096, 4097])
def test_a_secret_has_exactly_its_size(size):
    with Secret(size) as secret:
        assert bytes(secret.view) == bytes(size)


def test_an_empty_secret_is_a_mistake():
    with pytest.raises(ValueError, match="at least one byte"):
        Secret(0)


def test_a_hardened_process_leaves_no_core_and_is_closed_to_its_own_user():
    program = (
        "import os, resource, sys; from workers.enclave.tee.secrets import harden; os.setuid(65534); harden();"
        "print(resource.getrlimit(resource.RLIMIT_CORE)); sys.stdout.flush(); sys.stdin.read()"
    )
    closed = subprocess.Popen([sys.executable, "-c", program], stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True)
    try:
        assert closed.stdout.readline() == "(1, 1)\n"
        attack = f"import os; os.setuid(65534); open('/proc/{closed.pid}/environ', 'rb').read()"
        attacked = subprocess.run([sys.executable, "-c", attack], capture_output=True, text=True, check=False)
        assert "PermissionError" in attacked.stderr
        assert Path(f"/proc/{closed.pid}/environ").read_bytes(), "root, and so the simulated CPU, still sees it"
    finally:
        closed.communicate("")


def test_what_a_hardened_process_starts_dumps_no_core(tmp_path):
    program = (
        "import os, resource, sys; from workers.enclave.tee.secrets import harden;"
        "resource.setrlimit(resource.RLIMIT_CORE, (resource.RLIM_INFINITY, resource.RLIM_INFINITY));"
        "os.chdir(sys.argv[1]); harden();"
        "crashed = os.posix_spawn('/bin/sh', ['sh', '-c', 'kill -ABRT $$'], {});"
        "print(os.WCOREDUMP(os.waitpid(crashed, 0)[1]))"
    )
    crashed = subprocess.run([sys.executable, "-c", program, tmp_path], capture_output=True, text=True, check=True)
    assert crashed.stdout == "False\n"
    assert list(tmp_path.iterdir()) == []
