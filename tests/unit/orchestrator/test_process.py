"""The orchestrator as a process: it starts, logs lines, serves, and ends when it is told to."""

from __future__ import annotations

import asyncio
import json
import signal
import subprocess
import sys
from pathlib import Path

import pytest

from orchestrator.bus import Bus, subjects
from orchestrator.bus.settings import BusSettings
from orchestrator.lifecycle import State
from tests.nats import NatsServer, free_port, until
from tests.simulators.history import POD
from tests.simulators.node import Containerd, ToyNode


async def start(*arguments: str) -> asyncio.subprocess.Process:
    return await asyncio.create_subprocess_exec(
        sys.executable, "-m", "orchestrator", *arguments, stderr=asyncio.subprocess.PIPE
    )


async def said(process: asyncio.subprocess.Process, event: str) -> None:
    """Wait until it logs `event`."""
    assert process.stderr is not None
    async with asyncio.timeout(40):
        while json.loads(await process.stderr.readline())["event"] != event:
            pass


async def test_it_makes_the_streams_serves_logs_lines_and_ends_at_sigterm(server: NatsServer, bus: Bus) -> None:
    for stream in (subjects.EVENTS, subjects.COMMANDS, subjects.DEAD_LETTERS):
        await bus.stream.delete_stream(stream)
    process = await start("--bus", server.url)

    async def there() -> bool:
        return {info.config.name for info in await bus.stream.streams_info()} == {"EV", "CMD", "DLQ"}

    await until(there)
    node, containerd = asyncio.create_task(ToyNode(bus).run()), Containerd(bus, POD)
    await containerd.run_pod()

    async def attested() -> bool:
        return (await containerd.launch()).state is State.ATTESTED

    await until(attested)
    process.send_signal(signal.SIGTERM)
    async with asyncio.timeout(10):
        _, err = await process.communicate()
    node.cancel()
    assert process.returncode == 0
    lines = [json.loads(line) for line in err.splitlines()]
    assert {line["process"] for line in lines} == {"orchestrator"}
    assert "rebuilt" in {line["event"] for line in lines}


@pytest.mark.parametrize("pause", [0.3, 0.6, 0.9, 1.2])
async def test_it_ends_at_sigterm_whatever_it_is_doing(server: NatsServer, pause: float) -> None:
    process = await start("--bus", server.url)
    await asyncio.sleep(pause)
    process.send_signal(signal.SIGTERM)
    async with asyncio.timeout(10):
        await process.communicate()
    assert process.returncode in (0, -signal.SIGTERM)  # the latter before Python has come to its first line


async def test_two_configured_by_a_file_run_beside_each_other(server: NatsServer, tmp_path: Path, bus: Bus) -> None:
    path = tmp_path / "orchestrator.toml"
    path.write_text(BusSettings(server.url).text())
    processes = [await start("--config", str(path)) for _ in range(2)]
    for process in processes:
        await said(process, "rebuilt")
    node, pods = asyncio.create_task(ToyNode(bus).run()), [Containerd(bus, f"{n:064x}") for n in range(5)]
    for pod in pods:
        await pod.run_pod()

    async def attested() -> bool:
        return all([(await pod.launch()).state is State.ATTESTED for pod in pods])

    await until(attested, 40)
    for process in processes:
        process.send_signal(signal.SIGTERM)
    for process in processes:
        await process.communicate()
        assert process.returncode == 0
    node.cancel()


def run(*arguments: str) -> subprocess.CompletedProcess[str]:
    command = [sys.executable, "-m", "orchestrator", *arguments]
    return subprocess.run(command, capture_output=True, text=True, check=False, timeout=60)


def test_a_fault_at_the_start_is_told_and_ends_it_with_1(tmp_path: Path) -> None:
    no_authority = run("--bus", f"tls://127.0.0.1:{free_port()}", "--ca", str(tmp_path / "none"))
    assert (no_authority.returncode, no_authority.stderr[:11]) == (1, "E-INPUT-001")
    no_file = run("--config", str(tmp_path / "none"))
    assert (no_file.returncode, no_file.stderr[:11]) == (1, "E-INPUT-002")
    no_credentials = run("--bus", f"nats://127.0.0.1:{free_port()}", "--credentials", str(tmp_path / "none"))
    assert no_credentials.returncode == 1
    assert "E-INPUT-001: the bus credentials file is missing" in no_credentials.stderr


def test_it_says_how_it_is_used() -> None:
    assert run().returncode == 2
    assert run("--config", "x", "--bus", "y").returncode == 2
    assert run("--help").returncode == 0
