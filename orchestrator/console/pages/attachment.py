"""An answer that a browser keeps as a file.

Zone: host. May import: `starlette`.
"""

from __future__ import annotations

from starlette.responses import Response


def attachment(raw: bytes, name: str, kind: str) -> Response:
    """`raw` under `name`, which is of our own making; `kind` is its media type."""
    return Response(raw, media_type=kind, headers={"Content-Disposition": f'attachment; filename="{name}"'})
