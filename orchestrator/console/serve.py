"""The console's process: follow the bus, answer browsers.

Zone: host. May import: `uvicorn`, `structlog`, `orchestrator.bus`, `orchestrator.console`.

It keeps nothing: what it shows is folded from the bus when it starts, so it may be killed and started at any time.
"""

from __future__ import annotations

import asyncio
import ipaddress
import socket
from contextlib import aclosing
from dataclasses import dataclass
from pathlib import Path
from typing import Final
from urllib.parse import urlsplit

import structlog
import uvicorn

from orchestrator.bus import Bus, Histories
from orchestrator.bus.tail import tail
from orchestrator.console.app import make
from orchestrator.console.index import Index
from orchestrator.console.ledger import Ledger
from orchestrator.console.live import News
from orchestrator.console.oidc import OidcLogin, Provider
from orchestrator.console.orders import Orders
from orchestrator.console.roles import Role
from orchestrator.console.sessions import Seal, Sessions, Token
from orchestrator.console.site import Site
from orchestrator.faults import Code, Permanent

STOPS_WITHIN: Final = 2
"""Seconds that open answers have left when the process is told to stop."""

_MAX_HEAD_BYTES: Final = 32 << 10
_MAX_CONNECTIONS: Final = 512
_log = structlog.get_logger()


@dataclass(frozen=True, slots=True)
class Settings:
    """Where to listen, who may enter, where the audit log lies. `address` is `HOST:PORT`; port 0 takes any.

    `url` is how browsers call it, if not by that address; `certificate` and `key` are PEM files for TLS.
    """

    address: str
    token_file: Path
    ledger: Ledger
    url: str = ""
    certificate: str = ""
    key: str = ""
    provider: Provider | None = None

    @property
    def operator_token_file(self) -> Path:
        """The token of those who may give orders, beside the readers'."""
        return self.token_file.with_name(f"{self.token_file.name}-operator")

    @property
    def host(self) -> str:
        """Without the port."""
        return self.address.rpartition(":")[0].strip("[]")

    @property
    def port(self) -> int:
        """0 to 65535. Raises Permanent(INPUT)."""
        text = self.address.rpartition(":")[2]
        if not self.host or not (text.isascii() and text.isdecimal() and int(text) < 65536):
            raise _bad("the console's address", "HOST:PORT", self.address, "for instance 127.0.0.1:8080")
        return int(text)

    def check(self) -> None:
        """Raises Permanent(INPUT) for an address at which sessions would cross a network in the clear."""
        try:
            loopback = self.host == "localhost" or ipaddress.ip_address(self.host).is_loopback
        except ValueError:
            loopback = False
        if not loopback and not self.certificate:
            raise _bad(
                "the console's address",
                "a loopback address, or a certificate and a key",
                self.address,
                "give --tls-certificate and --tls-key, or listen on 127.0.0.1 behind a proxy that has them",
            )


class Console:
    """A console on a connection that is there. It listens from the beginning, and answers while `run` runs."""

    def __init__(self, bus: Bus, settings: Settings, orders: Orders | None = None) -> None:
        """Raises Permanent(INPUT) for an address or a token file that cannot be used."""
        settings.check()
        token = Token.of_file(settings.token_file)
        tokens = {Role.READER: token}
        if orders is not None:
            tokens[Role.OPERATOR] = Token.of_file(settings.operator_token_file)
        provider, outside = settings.provider, urlsplit(settings.url)
        self._bus = bus
        self._socket = _listen(settings)
        self.port = self._socket.getsockname()[1]
        scheme = "https" if settings.certificate else "http"
        host = f"[{settings.host}]" if ":" in settings.host else settings.host
        self.url = settings.url or f"{scheme}://{host}:{self.port}"
        self._site = Site(
            index=Index(),
            news=News(),
            histories=Histories(bus),
            tokens=tokens,
            sessions=Sessions(tokens),
            connected=lambda: bus.client.is_connected,
            secure=self.url.startswith("https:"),
            oidc=OidcLogin(provider, Seal(token.derive("oidc"))) if provider else None,
            ledger=settings.ledger,
            orders=orders,
        )
        hosts = tuple(dict.fromkeys(("127.0.0.1", "localhost", host, outside.hostname or host)))
        self._server = uvicorn.Server(
            uvicorn.Config(
                make(self._site, hosts),
                http="h11",
                ws="none",
                ssl_certfile=settings.certificate or None,
                ssl_keyfile=settings.key or None,
                lifespan="off",
                log_config=None,
                access_log=False,
                server_header=False,
                proxy_headers=False,
                timeout_graceful_shutdown=STOPS_WITHIN,
                h11_max_incomplete_event_size=_MAX_HEAD_BYTES,
                limit_concurrency=_MAX_CONNECTIONS,
            )
        )

    @property
    def index(self) -> Index:
        """What it knows of all launches."""
        return self._site.index

    async def run(self) -> None:
        """Serve until `stop` or SIGTERM. Raises Temporary(BUS_AWAY) when the connection has ended for good."""
        async with asyncio.TaskGroup() as tasks:
            following = tasks.create_task(self._follow())
            try:
                await self._server.serve([self._socket])
            finally:
                self.stop()
                following.cancel()

    def stop(self) -> None:
        """End `run`: open streams of news first, which would hold it up."""
        self._site.news.close()
        self._server.should_exit = True

    async def _follow(self) -> None:
        index, news = self._site.index, self._site.news
        async with aclosing(tail(self._bus)) as batches:
            async for batch in batches:
                index.take(batch)
                if not batch and not index.caught_up:
                    index.caught_up = True
                    await _log.ainfo("caught up", launches=len(index.rows), messages=index.messages)
                    news.publish(set(index.rows))
                elif batch and index.caught_up:
                    news.publish({pod for pod, _ in batch})
                await asyncio.sleep(0)  # a long history must not keep browsers waiting


def _listen(settings: Settings) -> socket.socket:
    family = socket.AF_INET6 if ":" in settings.host else socket.AF_INET
    try:
        return socket.create_server((settings.host, settings.port), family=family)
    except OSError as error:
        advice = "choose another one with --listen"
        raise _bad("the console's address", "an address of this machine that is free", str(error), advice) from error


def _bad(what: str, expected: str, got: str, advice: str) -> Permanent:
    return Permanent(Code.INPUT, f"{what} cannot be used", expected=expected, got=got, advice=advice)
