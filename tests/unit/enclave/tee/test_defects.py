"""An enclave's standard error, which the host reads, never quotes what a defect was handling."""

from __future__ import annotations

import subprocess
import sys

import pytest

from orchestrator.faults import Code, Permanent
from workers.enclave.tee.defects import describe

SECRET = "hunter2-in-an-exception"
STUMBLE = f"""
import asyncio, gc, logging, sys, threading
from orchestrator.log import configure
from workers.enclave.tee.secrets import harden
harden()
configure("agent")
def stumble():
    int({SECRET!r})
def chained():
    try:
        stumble()
    except ValueError as error:
        raise KeyError({SECRET!r}) from error
class Dropped:
    def __del__(self):
        stumble()
async def forgotten():
    async def later():
        stumble()
    task = asyncio.create_task(later())
    await asyncio.sleep(0.01)
    del task
    gc.collect()
async def grouped():
    async with asyncio.TaskGroup() as tasks:
        tasks.create_task(asyncio.to_thread(stumble))
def logged():
    try:
        stumble()
    except ValueError:
        logging.getLogger("library").exception("this was wrong with %s", {SECRET!r})
"""


@pytest.mark.parametrize(
    "how",
    [
        "stumble()",
        "chained()",
        "thread = threading.Thread(target=stumble); thread.start(); thread.join()",
        "Dropped(); gc.collect()",
        "asyncio.run(forgotten())",
        "asyncio.run(grouped())",
        "logged()",
    ],
)
def test_a_defect_is_told_by_its_type_and_place_alone(how: str) -> None:
    ended = subprocess.run([sys.executable, "-c", STUMBLE + how], capture_output=True, text=True, check=False)
    assert SECRET not in ended.stdout + ended.stderr
    assert "defect: " in ended.stderr
    assert "ValueError" in ended.stderr
    assert " stumble" in ended.stderr


def test_a_fault_is_told_in_full_in_whatever_it_is_wrapped() -> None:
    fault = Permanent(Code.BOOT_STORE, "no room", expected="some", got="none", advice="make some")
    assert describe(ExceptionGroup("two", [fault, ValueError(SECRET)])) == f"{fault.diagnostics()}\ndefect: ValueError"


def test_exceptions_that_name_each_other_are_told_once() -> None:
    one, other = ValueError(SECRET), KeyError(SECRET)
    one.__context__, other.__context__ = other, one
    assert describe(one).count("defect") == 1
