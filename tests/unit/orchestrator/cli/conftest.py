"""A bus with launches on it, and the command line as a person types it."""

from __future__ import annotations

import asyncio
import json
import os
import sys
from collections.abc import AsyncIterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import pytest
from click.testing import CliRunner

from deploy.cli import enclave_cc
from tests.nats import NatsServer, running
from tests.simulators.history import APP, History, image_decrypted
from tests.simulators.stored import settings, store

PROGRAM = Path(sys.executable).with_name("enclave-cc")
BOOTED, REFUSED, FORGED, BROKEN = "a1" * 32, "a2" * 32, "b1" * 32, "b2" * 32


@dataclass(frozen=True)
class Shown:
    """What a command printed and ended with."""

    code: int
    out: str
    err: str

    @property
    def document(self) -> dict[str, Any]:
        return json.loads(self.out)


@dataclass(frozen=True)
class Terminal:
    """Runs `enclave-cc` against the server."""

    server: NatsServer
    config: Path

    async def start(self, *arguments: str, **environment: str) -> asyncio.subprocess.Process:
        return await asyncio.create_subprocess_exec(
            PROGRAM,
            *arguments,
            env={**os.environ, "ENCLAVE_CC_CONFIG": str(self.config), **environment},
            stdout=asyncio.subprocess.PIPE,
            stderr=asyncio.subprocess.PIPE,
        )

    async def run(self, *arguments: str, **environment: str) -> Shown:
        process = await self.start(*arguments, **environment)
        async with asyncio.timeout(30):
            out, err = await process.communicate()
        return Shown(process.returncode or 0, out.decode(), err.decode())


class InProcess:
    """The program in this process, where starting one is not the question."""

    def __init__(self, terminal: Terminal) -> None:
        self.server = terminal.server
        self.config = terminal.config

    async def run(self, *arguments: str, **environment: str) -> Shown:
        environment = {"ENCLAVE_CC_CONFIG": str(self.config), **environment}
        shown = await asyncio.to_thread(CliRunner().invoke, enclave_cc, arguments, env=environment)
        return Shown(shown.exit_code, shown.stdout, shown.stderr)


def booted(pod: str = BOOTED) -> History:
    made = History(pod)
    made.up_to_booted()
    made.sandboxed()  # a late one
    return made


def refused() -> History:
    made = History(REFUSED)
    made.up_to_attested()
    made.container()
    for attempt in (1, 2):
        made.failed("decrypt_image", container=APP, attempt=attempt, temporary=attempt == 1)
    return made


def forged() -> History:
    made = History(FORGED)
    made.up_to_attested()
    made.container()
    made.say(image_decrypted(), container=APP, attempt=1, signed=False)
    return made


def broken() -> History:
    made = History(BROKEN)
    made.up_to_booted()
    del made.raw[6]
    return made


@pytest.fixture
async def terminal(tmp_path: Path) -> AsyncIterator[Terminal]:
    async with running(tmp_path) as server:
        async with await server.connect() as bus:
            await store(bus, booted(), refused(), forged(), broken())
        yield Terminal(server, settings(server, tmp_path))
