"""Asking a boot init: the host's end of `schemas.execs`.

Zone: host. May import: `schemas`, `orchestrator.faults`, the standard library.

The socket is in the container's own file system, reached through /proc of its first process. What is behind it is an
enclave that trusts nothing of this; what it answers is taken at its word, since only it can know.
"""

from __future__ import annotations

import asyncio
import os
import re
import socket
from collections.abc import Sequence
from pathlib import Path
from typing import Final

from orchestrator.faults import Code, Permanent, Temporary
from schemas.execs import MAX_PACKET, Done, Refused, Request, decode_reply, encode_request
from schemas.places import EXEC_DOOR
from schemas.strict_json import Malformed

_PID: Final = re.compile(r"^Pid:\s+([0-9]+)$", re.MULTILINE)


async def ask(pid: int, request: Request, descriptors: Sequence[int] = (), *, seconds: float) -> tuple[Done, int]:
    """Ask the boot init whose first process is `pid` on this host: its answer, and the pid of its pidfd, 0 for none.

    Raises Permanent(NOT_FOUND) when it is not there (any more), Temporary(DEADLINE) when `seconds` have gone by,
    Permanent with its own diagnosis for what it refuses.
    """
    try:
        packet = encode_request(request)
    except Malformed as malformed:
        raise Permanent(
            Code.INPUT, "the command is too long", expected=f"{MAX_PACKET} bytes", got=str(malformed)
        ) from malformed
    with socket.socket(socket.AF_UNIX, socket.SOCK_SEQPACKET) as connection:
        connection.setblocking(False)
        try:
            async with asyncio.timeout(seconds):
                await asyncio.get_running_loop().sock_connect(connection, f"/proc/{pid}/root{EXEC_DOOR}")
                socket.send_fds(connection, [packet], list(descriptors))
                await _readable(connection)
                reply, attached, _, _ = socket.recv_fds(connection, MAX_PACKET, 1, socket.MSG_CMSG_CLOEXEC)
        except TimeoutError as error:
            raise Temporary(
                Code.DEADLINE, "the app enclave does not answer", expected=f"an answer within {seconds:g} s", got="none"
            ) from error
        except OSError as error:
            raise _gone(type(error).__name__) from error
    try:
        host_pid = _pid_of(attached[0]) if attached else 0
    finally:
        for descriptor in attached:
            os.close(descriptor)
    return _understood(reply), host_pid


def _understood(reply: bytes) -> Done:
    if not reply:
        raise _gone("the end of the conversation")
    try:
        answer = decode_reply(reply)
    except Malformed as malformed:
        raise Permanent(
            Code.RUNTIME,
            "the app enclave's answer cannot be understood",
            expected="an answer of this version",
            got=str(malformed),
            advice="boot bundle and host worker are of different versions",
        ) from malformed
    if isinstance(answer, Refused):
        known = answer.code in Code.__members__.values()
        code = Code(answer.code) if known else Code.INTERNAL
        raise Permanent(code, answer.message, expected=answer.expected, got=answer.got, advice=answer.advice)
    return answer


async def _readable(connection: socket.socket) -> None:
    loop, ready = asyncio.get_running_loop(), asyncio.Event()
    loop.add_reader(connection, ready.set)
    try:
        await ready.wait()
    finally:
        loop.remove_reader(connection)


def _pid_of(pidfd: int) -> int:
    """The pid in our own namespace, which the enclave cannot know: proc(5), fdinfo of a pidfd."""
    try:
        match = _PID.search(Path(f"/proc/self/fdinfo/{pidfd}").read_text())
    except OSError:
        match = None
    return int(match[1]) if match else 0


def _gone(got: str) -> Permanent:
    return Permanent(
        Code.NOT_FOUND,
        "the app enclave is not there",
        expected="a container whose workload runs",
        got=got,
        advice="the container has ended, or has not booted",
    )
