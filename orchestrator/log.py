"""Every process's log: one JSON object a line.

Zone: any. May import: structlog, the standard library. No key, token, plaintext or variable's value is ever passed to
it: a defect is logged by its type and place.
"""

from __future__ import annotations

import logging
import sys
from typing import Protocol

import structlog


class Lines(Protocol):
    """Where lines go: a text stream, or what writes like one."""

    def write(self, text: str, /) -> object:
        """Take a whole line."""

    def flush(self) -> None:
        """Let it be seen."""


def configure(process: str, lines: Lines | None = None) -> None:
    """Once a process, at its start: our lines, and libraries' warnings, to `lines` or standard error.

    Every line has `process`, `level`, `timestamp` (UTC, ISO 8601) and `event`.
    """
    target: Lines = lines or sys.stderr

    def name_process(_: object, __: str, event: structlog.typing.EventDict) -> structlog.typing.EventDict:
        return {"process": process, **event}

    structlog.configure(
        processors=[
            structlog.processors.add_log_level,
            structlog.processors.TimeStamper(fmt="iso", utc=True),
            name_process,
            structlog.processors.format_exc_info,
            structlog.processors.JSONRenderer(),
        ],
        wrapper_class=structlog.make_filtering_bound_logger(logging.INFO),
        logger_factory=structlog.WriteLoggerFactory(file=target),  # type: ignore[arg-type]  # writes and flushes
        cache_logger_on_first_use=True,
    )
    # asyncio warns at every TLS connection that the bus client closes in its own way.
    logging.getLogger("asyncio").setLevel(logging.ERROR)
    logging.basicConfig(handlers=[_Forward()], level=logging.WARNING, force=True)


class _Forward(logging.Handler):
    """A library's warning becomes a line like ours: its name and message, never its arguments' types or traces."""

    def emit(self, record: logging.LogRecord) -> None:
        structlog.get_logger().log(record.levelno, record.getMessage(), library=record.name)
