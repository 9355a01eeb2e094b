"""What an enclave's process says of an exception that nobody foresaw: its type and where it was, never its words.

Standard error of an enclave is the host's to read. The interpreter's own traceback ends in the exception's text, and
that quotes what was being handled: `int("...")` the digits, a dict the key that it lacks. A `Fault` is told in full,
because it was written to be read by anyone.
"""

from __future__ import annotations

import logging
import sys
import threading
from typing import TYPE_CHECKING

from orchestrator.faults import Fault, places

if TYPE_CHECKING:
    from types import TracebackType


def tell_defects_by_place() -> None:
    """From here on, in this process and what it forks: the interpreter's, threads' and libraries' tracebacks."""
    sys.excepthook = _uncaught
    threading.excepthook = lambda told: _say(told.exc_value, f"thread {told.thread.name if told.thread else '?'}")
    sys.unraisablehook = lambda told: _say(told.exc_value, "ignored")
    logging.setLogRecordFactory(_Record)


def describe(error: BaseException) -> str:
    """A line or more, without a newline at the end."""
    if isinstance(error, BaseExceptionGroup):
        return "\n".join(describe(each) for each in error.exceptions)
    if isinstance(error, Fault):
        return error.diagnostics()
    lines = [f"defect: {type(error).__name__}", *places(error)]
    # What was being handled when it came; a cycle is made by hand only, and ends here.
    before = error.__cause__ or error.__context__
    if before is not None and before.__context__ is not error:
        lines.append(f"after {describe(before)}")
    return "\n  ".join(lines)


class _Record(logging.LogRecord):
    """A library's line. One that comes with an exception is told as the exception alone: its text would quote it."""

    def __init__(self, *args: object, **kwargs: object) -> None:
        super().__init__(*args, **kwargs)  # type: ignore[arg-type]  # as logging calls its own class
        if self.exc_info and self.exc_info[1] is not None:
            self.msg, self.args, self.exc_info = describe(self.exc_info[1]), (), None


def _uncaught(_: type[BaseException], error: BaseException, __: TracebackType | None) -> None:
    _say(error, "")


def _say(error: BaseException | None, where: str) -> None:
    told = describe(error) if error is not None else "defect"
    sys.stderr.write(f"{where}: {told}\n" if where else f"{told}\n")
    sys.stderr.flush()
