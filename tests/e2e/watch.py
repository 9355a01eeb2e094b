"""A pod's facts as they are stored, and an act at the first one that a test waits for."""

from __future__ import annotations

import asyncio
import contextlib
import threading
from collections.abc import Callable
from types import TracebackType
from typing import Final, Self

import nats.errors
from nats.js import api

from deploy.local.stack import Stack
from orchestrator import events
from orchestrator.bus import connect, subjects
from orchestrator.events import Fact, PodRequested, Recorded

READY_WITHIN: Final = 30.0
LOOK: Final = 0.5


class Watch:
    """While entered, follows what is stored about the pod of that `name`.

    `act` is called once, within milliseconds of the storing of the first fact that `at` accepts; `acted` says so. What
    takes longer to find out is for `prepare`, which is called with the pod's id when the pod is requested; from then on
    `pod` is that id.
    """

    def __init__(
        self,
        stack: Stack,
        name: str,
        at: Callable[[Fact], bool],
        act: Callable[[Fact], None],
        prepare: Callable[[str], None] = lambda _: None,
    ) -> None:
        self._stack = stack
        self._name = name
        self._at = at
        self._act = act
        self._prepare = prepare
        self._ready = threading.Event()
        self._ends = threading.Event()
        self._failed: Exception | None = None
        self._thread = threading.Thread(target=self._run, name=f"watch {name}")
        self.pod = ""
        self.acted = False

    def __enter__(self) -> Self:
        self._thread.start()
        assert self._ready.wait(READY_WITHIN)
        return self

    def __exit__(self, _: type[BaseException] | None, raised: BaseException | None, __: TracebackType | None) -> None:
        self._ends.set()
        self._thread.join()
        if self._failed is not None and raised is None:
            raise self._failed

    def _run(self) -> None:
        try:
            asyncio.run(self._follow())
        except Exception as error:  # noqa: BLE001 - raised where the watch is left
            self._failed = error
        finally:
            self._ready.set()

    async def _follow(self) -> None:
        name = f"watch-{self._name}".replace(".", "-")
        config = api.ConsumerConfig(
            name=name,
            filter_subject=subjects.HISTORIES,
            deliver_policy=api.DeliverPolicy.NEW,
            ack_policy=api.AckPolicy.NONE,
            mem_storage=True,
            inactive_threshold=10,  # the server removes it: the act may have been the server's end
        )
        async with await connect(self._stack.credentials("reader"), name) as bus:
            await bus.stream.add_consumer(subjects.EVENTS, config)
            feed = await bus.stream.pull_subscribe_bind(consumer=name, stream=subjects.EVENTS)
            self._ready.set()
            while not self._ends.is_set() and not self.acted:
                with contextlib.suppress(nats.errors.TimeoutError, TimeoutError):
                    for message in await feed.fetch(1, timeout=LOOK):
                        self._look(events.read(message.metadata.sequence.stream, message.data))

    def _look(self, message: object) -> None:
        if not isinstance(message, Recorded):
            return
        fact = message.fact
        if isinstance(fact.body, PodRequested) and fact.body.name == self._name:
            self.pod = fact.pod
            self._prepare(fact.pod)
        if fact.pod == self.pod and not self.acted and self._at(fact):
            self._act(fact)
            self.acted = True
