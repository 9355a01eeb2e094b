"""An S3 bucket over HTTP: objects put, got, listed and deleted, as the API reference has it. No authentication.

It stands in for a bucket, which no machine of ours has; the client is the real one.
"""

from __future__ import annotations

import threading
import time
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field
from hashlib import md5
from xml.sax.saxutils import escape

import uvicorn
from starlette.applications import Starlette
from starlette.requests import Request
from starlette.responses import Response
from starlette.routing import Route

_DATE = "Thu, 01 Jan 2026 00:00:00 GMT"


@dataclass
class Bucket:
    """Its objects, and the requests that it refuses with 500 from now on."""

    objects: dict[str, bytes] = field(default_factory=dict)
    failing: bool = False

    async def answer(self, request: Request) -> Response:
        if self.failing:
            return Response("<Error><Code>AccessDenied</Code></Error>", 403)
        name = str(request.path_params.get("name", ""))
        if request.method == "PUT":
            self.objects[name] = await request.body()
            return Response(headers={"ETag": _tag(self.objects[name])})
        if request.method == "DELETE":
            self.objects.pop(name, None)
            return Response(status_code=204)
        if request.query_params.get("list-type") == "2":
            return self._listed(request.query_params.get("prefix", ""))
        if request.method == "POST":  # DeleteObjects
            return await self._delete(request)
        if name not in self.objects:
            return Response("<Error><Code>NoSuchKey</Code></Error>", 404)
        data = self.objects[name]
        return Response(data, headers={"ETag": _tag(data), "Last-Modified": _DATE})

    def _listed(self, prefix: str) -> Response:
        found = "".join(
            f"<Contents><Key>{escape(name)}</Key><LastModified>2026-01-01T00:00:00.000Z</LastModified>"
            f"<ETag>{_tag(data)}</ETag><Size>{len(data)}</Size></Contents>"
            for name, data in sorted(self.objects.items())
            if name.startswith(prefix)
        )
        return _xml(f"<ListBucketResult><IsTruncated>false</IsTruncated>{found}</ListBucketResult>")

    async def _delete(self, request: Request) -> Response:
        text = (await request.body()).decode()
        names = [part.partition("</Key>")[0] for part in text.split("<Key>")[1:]]
        for name in names:
            self.objects.pop(name, None)
        deleted = "".join(f"<Deleted><Key>{escape(name)}</Key></Deleted>" for name in names)
        return _xml(f"<DeleteResult>{deleted}</DeleteResult>")


def _tag(data: bytes) -> str:
    return f'"{md5(data).hexdigest()}"'


def _xml(body: str) -> Response:
    return Response(f'<?xml version="1.0" encoding="UTF-8"?>{body}', media_type="application/xml")


@contextmanager
def serving() -> Iterator[tuple[Bucket, str]]:
    """A bucket named `bucket` and the endpoint's address."""
    bucket = Bucket()
    methods = ["GET", "PUT", "DELETE", "POST", "HEAD"]
    routes = [
        Route("/bucket", bucket.answer, methods=methods),
        Route("/bucket/{name:path}", bucket.answer, methods=methods),
    ]
    settings = uvicorn.Config(Starlette(routes=routes), port=0, log_config=None, lifespan="off")
    server = uvicorn.Server(settings)
    thread = threading.Thread(target=server.run)
    thread.start()
    try:
        while not server.started:
            time.sleep(0.01)
        yield bucket, f"http://127.0.0.1:{server.servers[0].sockets[0].getsockname()[1]}"
    finally:
        server.should_exit = True
        thread.join()
