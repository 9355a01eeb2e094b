"""What a browser's form says.

Zone: host. May import: `starlette`, the standard library.
"""

from __future__ import annotations

from typing import Final
from urllib.parse import parse_qs

from starlette.requests import Request

LONGEST: Final = 8192
"""Bytes of a form's body."""


async def read_form(request: Request) -> dict[str, list[str]] | None:
    """A form's fields (application/x-www-form-urlencoded); None for one that is too long to read."""
    body = b""
    async for chunk in request.stream():
        body += chunk
        if len(body) > LONGEST:
            return None
    return parse_qs(body.decode("ascii", "replace"))
