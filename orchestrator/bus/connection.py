"""One connection to the bus: who we are, TLS, and staying connected.

Zone: host and enclave. May import: `nats`, `orchestrator.faults`, the standard library.

The client reconnects for ever: a process outlives its server. What was in flight is settled by the callers, who read
the history again (`histories`) or get their command redelivered (`queue`).
"""

from __future__ import annotations

import asyncio
import contextlib
import re
import ssl
from collections.abc import Awaitable, Callable, Iterator
from dataclasses import dataclass
from functools import partial
from pathlib import Path
from typing import Any, Final, Self

import nats
import nats.errors
import nats.js.errors
import structlog
from nats.aio.client import Client
from nats.aio.msg import Msg
from nats.js.client import JetStreamContext

from orchestrator.faults import Code, Permanent, Temporary

AWAY = (
    nats.errors.TimeoutError,
    nats.errors.NoServersError,
    nats.errors.NoRespondersError,
    nats.errors.ConnectionClosedError,
    nats.errors.ConnectionReconnectingError,
    nats.errors.OutboundBufferLimitError,
    nats.js.errors.ServiceUnavailableError,
    nats.js.errors.ServerError,
    nats.js.errors.NoStreamResponseError,
    ConnectionError,
    TimeoutError,
)
"""What the client raises when the server is away, restarting, or not yet ready: try again."""

STORE_FULL: Final = 10077
"""The server's error code for a stream that has reached `max_bytes`."""

_DENIED: Final = re.compile(r'permissions violation for publish to "([^"]+)"', re.IGNORECASE)
_log = structlog.get_logger()


@dataclass(frozen=True, slots=True)
class Credentials:
    """How to reach and enter the bus.

    Either `file` (a NATS credentials file: user JWT and seed) or `jwt` with `sign` (the nonce's signature as base64,
    for a key that never leaves its process). `ca_pem` pins the server; without it the connection is plain, which is
    for tests only. `reader` names the one consumer that this user may create for reading, if it is restricted to one.
    """

    url: str
    ca_pem: str = ""
    file: str = ""
    jwt: str = ""
    sign: Callable[[str], bytes] | None = None
    inbox: str = "_INBOX"
    reader: str = ""


class Bus:
    """A live connection. Make it with `connect`, end it with `close` or as an asynchronous context manager."""

    def __init__(self, client: Client, stream: JetStreamContext, credentials: Credentials, denied: set[str]) -> None:
        self._denied = denied
        self.client = client
        self.stream = stream
        self.credentials = credentials
        self.reading = asyncio.Lock()
        """Held while the one consumer that `credentials.reader` names is in use."""

    async def __aenter__(self) -> Self:
        return self

    async def __aexit__(self, *_: object) -> None:
        await self.close()

    async def close(self) -> None:
        """End the connection; what is unacknowledged will be delivered again."""
        with contextlib.suppress(nats.errors.Error, TimeoutError, ConnectionError):
            await asyncio.wait_for(self.client.close(), 5)

    @property
    def is_away(self) -> bool:
        """Whether no server is connected at this moment. One that hangs is noticed after some fifteen seconds."""
        return not self.client.is_connected

    def check(self) -> None:
        """Every endless loop that waits for the bus calls this in each turn.

        Raises Temporary(BUS_AWAY) for a connection that the client has given up: nothing will ever come over it. It
        gives up when the server ends it for good (a user that expired or was revoked), not when the server dies.

        Raises CancelledError in a task that was cancelled and did not notice: before Python 3.12 `asyncio.wait_for`,
        which the client waits with, forgets a cancellation that comes together with its answer.
        """
        task = asyncio.current_task()
        if task is not None and task.cancelling():
            raise asyncio.CancelledError
        if self.client.is_closed:
            raise Temporary(
                Code.BUS_AWAY,
                "the connection to the bus has ended",
                expected=f"a connection to {self.credentials.url}",
                got="it was closed, and is not tried again",
                advice="start the process again; if it ends again, see why the server refuses its user",
            )

    def check_not_denied(self, subject: str) -> None:
        """Raises Permanent(NOT_ALLOWED) where the server has said that our role may not publish on `subject`.

        It says so apart from the publication, which it drops: whoever waits for an answer finds none, and asks here.
        """
        if subject in self._denied:
            self._denied.discard(subject)
            raise Permanent(
                Code.NOT_ALLOWED,
                "the bus does not let the role of these credentials do this",
                expected=f"a role that may publish on {subject}",
                got="a permissions violation",
                advice="use the operator's credentials for orders; a reader's only read",
            )

    async def request(self, subject: str, payload: bytes, timeout: float) -> bytes:  # noqa: ASYNC109 - a protocol bound
        """Ask a node and wait `timeout` seconds for its answer. Raises Temporary(BUS_AWAY)."""
        try:
            answer = await self.client.request(subject, payload, timeout=timeout)
        except AWAY as error:
            raise Temporary(
                Code.BUS_AWAY,
                f"no answer to {subject}",
                expected=f"an answer within {timeout:g} s",
                got=type(error).__name__,
                advice="see whether nats-server and the node's worker run (`enclave-cc status`)",
            ) from error
        return answer.data

    async def serve(
        self, subject: str, answer: Callable[[bytes], Awaitable[bytes]], tasks: asyncio.TaskGroup | None = None
    ) -> None:
        """Answer requests on `subject` until the connection ends: one after the other, or each in a task of `tasks`.

        `answer` must not raise.
        """

        async def respond(message: Msg) -> None:
            answered = await answer(message.data)
            with contextlib.suppress(*AWAY, nats.errors.Error):  # who asked will ask again
                await message.respond(answered)

        async def handle(message: Msg) -> None:
            if tasks is None:
                await respond(message)
            else:
                tasks.create_task(respond(message))

        await self.client.subscribe(subject, cb=handle)


@contextlib.contextmanager
def told_as_faults(what: str) -> Iterator[None]:
    """Whatever the client raises within, as a fault: `what` is the sentence that says what could not be done.

    Raises Temporary(BUS_AWAY, BUS_FULL), Permanent(RUNTIME) for a refusal that trying again will not change.
    """
    try:
        yield
    except nats.js.errors.APIError as error:
        if error.err_code == STORE_FULL:
            raise Temporary(
                Code.BUS_FULL,
                what,
                expected="room in the stream",
                got="max_bytes reached",
                advice="see `enclave-cc status`: either its reader is away, or the stream needs more room",
            ) from error
        if isinstance(error, AWAY):
            raise _no_answer(what, error) from error
        raise Permanent(
            Code.RUNTIME,
            what,
            expected="a server configured by this version",
            got=f"{error.code}/{error.err_code}: {error.description}",
            advice="compare the stream's configuration with orchestrator/bus/streams.py",
        ) from error
    except (*AWAY, nats.errors.Error) as error:
        raise _no_answer(what, error) from error


def _no_answer(what: str, error: BaseException) -> Temporary:
    return Temporary(
        Code.BUS_AWAY,
        what,
        expected="an answer of the server",
        got=type(error).__name__,
        advice="see whether nats-server runs and JetStream is ready (`enclave-cc status`)",
    )


async def connect(credentials: Credentials, name: str, patience: float = 30) -> Bus:
    """Connect as `name`, trying for `patience` seconds. Raises Temporary(BUS_AWAY), Permanent(INPUT)."""
    options = _options(credentials, name)
    ends = asyncio.get_running_loop().time() + patience
    denied: set[str] = set()
    options["error_cb"] = partial(_on_error, denied)
    while True:
        client = Client()
        options |= {"disconnected_cb": _telling(client, "bus away"), "reconnected_cb": _telling(client, "bus back")}
        try:
            await asyncio.wait_for(client.connect(credentials.url, **options), min(10, patience))
        except (*AWAY, OSError, ssl.SSLError, nats.errors.Error) as error:
            with contextlib.suppress(nats.errors.Error, OSError):
                await client.close()
            if asyncio.get_running_loop().time() > ends:
                raise _unreachable(credentials.url, error) from error
            await asyncio.sleep(0.2)
        else:
            bus = Bus(client, client.jetstream(timeout=5), credentials, denied)
            bus.check()
            return bus


def _options(credentials: Credentials, name: str) -> dict[str, Any]:
    """The client's options. Raises Permanent(INPUT) where there is no credentials file."""
    options: dict[str, Any] = {
        "name": name,
        "allow_reconnect": True,
        "max_reconnect_attempts": -1,
        "reconnect_time_wait": 0.2,
        "connect_timeout": 5,
        "ping_interval": 5,
        "max_outstanding_pings": 3,
        "inbox_prefix": credentials.inbox.encode(),
        "pending_size": 16 << 20,
    }
    if credentials.ca_pem:
        context = ssl.create_default_context(cadata=credentials.ca_pem)
        context.minimum_version = ssl.TLSVersion.TLSv1_3
        options["tls"] = context
    if credentials.file:
        # The client would look for it only once a server answers.
        if not Path(credentials.file).is_file():
            raise _bad_credentials(credentials)
        options["user_credentials"] = credentials.file
    elif credentials.jwt:
        options["user_jwt_cb"] = credentials.jwt.encode
        options["signature_cb"] = credentials.sign
    return options


def _telling(client: Client, what: str) -> Callable[[], Awaitable[None]]:
    async def tell() -> None:
        if not client.is_closed:
            await _log.awarning(what)

    return tell


async def _on_error(denied: set[str], error: Exception) -> None:
    if told := _DENIED.search(str(error)):
        denied.add(told[1])
    await _log.adebug("bus connection", error=type(error).__name__)


def _bad_credentials(credentials: Credentials) -> Permanent:
    return Permanent(
        Code.INPUT,
        "the bus credentials file is missing",
        expected="a NATS credentials file",
        got=credentials.file,
        advice="`enclave-cc up` makes one for each role",
    )


def _unreachable(url: str, error: BaseException) -> Temporary:
    return Temporary(
        Code.BUS_AWAY,
        "the bus cannot be reached",
        expected=f"nats-server at {url}",
        got=type(error).__name__,
        advice="see whether nats-server runs (`enclave-cc status`)",
    )
