"""Coroutines over epoll: what a pod's shim needs of asyncio, in a tenth of the memory.

asyncio costs every process that runs it 1.5 MB of pages of its own, however much was imported before a fork
(docs/adr/0015). Here is one thread, no signals, no streams, no subprocesses.

- `Future`, `Event` and `Lock` belong to no loop: asyncio awaits them too.
- A task that nobody watches and that ends by an error ends the loop with that error.
- Cancelling is for `timeout` alone: it raises `Cancelled` where the task waits.
"""

from __future__ import annotations

import heapq
import itertools
import select
from collections import deque
from collections.abc import Callable, Coroutine, Generator
from contextlib import suppress
from time import monotonic
from types import TracebackType
from typing import Any, Generic, Self, TypeVar

T = TypeVar("T")
READ, WRITE = select.EPOLLIN, select.EPOLLOUT
_IDLE_TIMERS = 32
"""Of so many cancelled timers nobody minds that they are kept."""

_LONGEST_WAIT = 3600.0
"""Seconds of one wait: epoll counts milliseconds in an int, and a caller's limit may be of centuries."""


class Cancelled(BaseException):
    """Raised in a task whose time is over."""


class Future(Generic[T]):
    """An answer that comes once."""

    __slots__ = ("_asyncio_future_blocking", "_callbacks", "_error", "_value", "done")

    def __init__(self) -> None:
        self.done = False
        self._value: T | None = None
        self._error: BaseException | None = None
        self._callbacks: list[Callable[[Future[T]], object]] = []
        self._asyncio_future_blocking = False

    def set_result(self, value: T) -> None:
        """Wake who waits; only the first answer counts."""
        self._finish(value, None)

    def set_error(self, error: BaseException) -> None:
        """As `set_result`; who waits meets `error`."""
        self._finish(None, error)

    def result(self) -> T:
        """Of a future that is done."""
        if self._error is not None:
            raise self._error
        return self._value  # type: ignore[return-value]  # None where T is None

    def __await__(self) -> Generator[Future[T], None, T]:
        """Wait for it."""
        if not self.done:
            self._asyncio_future_blocking = True
            yield self
        return self.result()

    def _finish(self, value: T | None, error: BaseException | None) -> None:
        if not self.done:
            self.done, self._value, self._error = True, value, error
            for callback in self._callbacks:
                callback(self)
            self._callbacks.clear()

    # --- by which asyncio awaits a future that is not its own (asyncio/tasks.py, `__step`) ----------------------------

    def add_done_callback(self, callback: Callable[[Future[T]], object], *, context: Any = None) -> None:
        """Call it once, when done; asyncio's own, which has a context, in a turn of its loop."""
        if context is not None:
            turn = self.get_loop().call_soon
            self._callbacks.append(lambda future: turn(callback, future, context=context))
        else:
            self._callbacks.append(callback)

    def get_loop(self) -> Any:
        """The loop that asyncio asks in: this future belongs to every one."""
        from asyncio import get_running_loop  # noqa: PLC0415 - only where it is imported already

        return get_running_loop()

    def cancel(self, msg: object = None) -> bool:
        """Only asyncio cancels what is waited for, instead of who waits."""
        from asyncio import CancelledError  # noqa: PLC0415 - as above

        self.set_error(CancelledError(msg))
        return True


class Event:
    """Something that happens once."""

    __slots__ = ("_waiting", "happened")

    def __init__(self) -> None:
        self.happened = False
        self._waiting: list[Future[None]] = []

    def is_set(self) -> bool:
        """Whether it has happened."""
        return self.happened

    def set(self) -> None:
        """It happens."""
        self.happened = True
        waiting, self._waiting = self._waiting, []
        for future in waiting:
            future.set_result(None)

    def clear(self) -> None:
        """It may happen again."""
        self.happened = False

    async def wait(self) -> None:
        """Until it has happened."""
        if not self.happened:
            future: Future[None] = Future()
            self._waiting.append(future)
            try:
                await future
            finally:
                if future in self._waiting:
                    self._waiting.remove(future)


class Lock:
    """Held by one at a time, in the order of asking."""

    __slots__ = ("_held", "_waiting")

    def __init__(self) -> None:
        self._held = False
        self._waiting: deque[Future[None]] = deque()

    async def __aenter__(self) -> None:
        if not self._held and not self._waiting:
            self._held = True
            return
        turn: Future[None] = Future()
        self._waiting.append(turn)
        try:
            await turn
        except BaseException:
            if turn.done:  # it was handed to us as we gave up
                self._hand_on()
            with suppress(ValueError):
                self._waiting.remove(turn)
            raise

    async def __aexit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self._hand_on()

    def _hand_on(self) -> None:
        while self._waiting:
            turn = self._waiting.popleft()
            if not turn.done:
                self._held = True
                turn.set_result(None)
                return
        self._held = False


class Task(Generic[T]):
    """A coroutine that a loop runs. `done` is its answer."""

    __slots__ = ("_cancelled", "_coroutine", "_loop", "_queued", "_waiting", "done", "watched")

    def __init__(self, loop: Loop, coroutine: Coroutine[Any, Any, T]) -> None:
        self._loop = loop
        self._coroutine = coroutine
        self._waiting: Future[Any] | None = None
        self._queued = self._cancelled = False
        self.watched = False
        self.done: Future[T] = Future()

    def cancel(self) -> None:
        """Raise Cancelled where it waits, in the loop's next turn."""
        if not self.done.done:
            self._cancelled = True
            self._queue()

    def uncancel(self) -> None:
        """It came to its end in time after all."""
        self._cancelled = False

    def step(self) -> None:
        """Run until it waits again."""
        self._queued = False
        if self.done.done or (self._waiting is not None and not self._waiting.done and not self._cancelled):
            return
        cancelled, self._cancelled, self._waiting = self._cancelled, False, None
        before, self._loop.current = self._loop.current, self
        try:
            waiting = self._coroutine.throw(Cancelled()) if cancelled else self._coroutine.send(None)
        except StopIteration as stop:
            self.done.set_result(stop.value)
        except BaseException as error:  # noqa: BLE001 - it is the task's answer
            self.done.set_error(error)
            if not self.watched:
                self._loop.fail(error)
        else:
            self._waiting = waiting
            waiting.add_done_callback(self._woken)
            if self._cancelled:
                self._queue()
        finally:
            self._loop.current = before

    def _woken(self, future: Future[Any]) -> None:
        if future is self._waiting:
            self._queue()

    def _queue(self) -> None:
        if not self._queued:
            self._queued = True
            self._loop.call_soon(self.step)


class Timer:
    """A call to come. `cancel` it."""

    __slots__ = ("_loop", "call")

    def __init__(self, loop: Loop, call: Callable[[], object] | None) -> None:
        self._loop = loop
        self.call = call

    def cancel(self) -> None:
        """It is not to come any more."""
        if self.call is not None:
            self.call = None
            self._loop.forget_timer()


class Loop:
    """Runs tasks, watches descriptors, keeps time. For one thread."""

    def __init__(self) -> None:
        self.current: Task[Any] | None = None
        self._epoll = select.epoll()
        self._watched: dict[int, Callable[[int], object]] = {}
        self._ready: deque[Callable[[], object]] = deque()
        self._timers: list[tuple[float, int, Timer]] = []
        self._numbers = itertools.count()
        self._idle_timers = 0
        self._failure: BaseException | None = None

    def run(self, main: Coroutine[Any, Any, T]) -> T:
        """Until `main` has ended, or an unwatched task by an error, which is raised."""
        task = Task(self, main)
        self.call_soon(task.step)
        while not task.done.done and self._failure is None:
            self._turn()
        if self._failure is not None:
            raise self._failure
        return task.done.result()

    def create_task(self, coroutine: Coroutine[Any, Any, T]) -> Task[T]:
        """Run it from the next turn on."""
        task = Task(self, coroutine)
        self.call_soon(task.step)
        return task

    def call_soon(self, call: Callable[[], object]) -> None:
        """In the next turn."""
        self._ready.append(call)

    def call_later(self, seconds: float, call: Callable[[], object]) -> Timer:
        """In so many seconds, or a little later."""
        timer = Timer(self, call)
        heapq.heappush(self._timers, (monotonic() + seconds, next(self._numbers), timer))
        return timer

    async def sleep(self, seconds: float) -> None:
        """Wait so long."""
        over: Future[None] = Future()
        timer = self.call_later(seconds, lambda: over.set_result(None))
        try:
            await over
        finally:
            timer.cancel()

    def timeout(self, seconds: float | None) -> Timeout:
        """`async with loop.timeout(seconds)`: TimeoutError when that is over; None is no limit."""
        return Timeout(self, seconds)

    def watch(self, descriptor: int, events: int, call: Callable[[int], object]) -> None:
        """Call with the events that came, each time that one of `events` is there; anew for other events."""
        if descriptor in self._watched:
            self._epoll.modify(descriptor, events)
        else:
            self._epoll.register(descriptor, events)
        self._watched[descriptor] = call

    def unwatch(self, descriptor: int) -> None:
        """Before it is closed; fine when it is not watched."""
        if self._watched.pop(descriptor, None) is not None:
            self._epoll.unregister(descriptor)

    def fail(self, error: BaseException) -> None:
        """End with `error`: see `run`."""
        self._failure = self._failure or error

    def forget_timer(self) -> None:
        """One more was cancelled. Most are, long before their time: they are not kept until then."""
        self._idle_timers += 1
        if self._idle_timers > _IDLE_TIMERS and 2 * self._idle_timers > len(self._timers):
            self._timers = [entry for entry in self._timers if entry[2].call is not None]
            heapq.heapify(self._timers)
            self._idle_timers = 0

    def _turn(self) -> None:
        while self._timers and (self._timers[0][2].call is None or self._timers[0][0] <= monotonic()):
            timer = heapq.heappop(self._timers)[2]
            if timer.call is None:
                self._idle_timers -= 1
            else:
                self._ready.append(timer.call)
                timer.call = None
        wait = 0.0 if self._ready else self._timers[0][0] - monotonic() if self._timers else None
        for descriptor, events in self._epoll.poll(None if wait is None else min(max(wait, 0), _LONGEST_WAIT)):
            if call := self._watched.get(descriptor):
                call(events)
        for _ in range(len(self._ready)):
            self._ready.popleft()()


class Timeout:
    """Make it with `Loop.timeout`."""

    __slots__ = ("_loop", "_over", "_seconds", "_task", "_timer")

    def __init__(self, loop: Loop, seconds: float | None) -> None:
        self._loop = loop
        self._seconds = seconds
        self._over = False
        self._task: Task[Any] | None = None
        self._timer: Timer | None = None

    async def __aenter__(self) -> Self:
        self._task = self._loop.current
        if self._seconds is not None:
            self._timer = self._loop.call_later(self._seconds, self._expire)
        return self

    async def __aexit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        if self._timer is not None:
            self._timer.cancel()
        if self._over and self._task is not None:
            self._task.uncancel()
            if kind is Cancelled:
                raise TimeoutError from error

    def _expire(self) -> None:
        self._over = True
        if self._task is not None:
            self._task.cancel()
