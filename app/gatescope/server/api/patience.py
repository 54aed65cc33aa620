"""`Patience`: how long the requests that are under way may take, and whether anybody still waits for them."""

from __future__ import annotations

import asyncio
from collections.abc import Callable
from math import inf
from time import monotonic
from types import TracebackType
from typing import Protocol, Self

from starlette.requests import ClientDisconnect
from starlette.types import Receive

from gatescope.errors import AppError, DeadlineExceeded

LOOK_S = 0.02
"""So often all that is under way is looked at: a timer for each request would cost more than most of them take."""

SHORT_S = 1.0
"""Whoever has less time than that has a timer nevertheless."""

INSTANT_S = 0.1
"""What is done within that is not watched over, which would cost more than it could save."""

Late = Callable[[float], AppError]


class UnderWay(Protocol):
    """What is looked at."""

    loop: asyncio.AbstractEventLoop

    def look(self, now: float) -> None:
        """See at this time whether all is well; monotonic seconds."""


class Patience:
    """Looks after all requests that are under way.

    Args:
        most_s: seconds that a request may take.
    """

    def __init__(self, most_s: float) -> None:
        self.most_s = most_s
        self._held: set[UnderWay] = set()
        self._looking: asyncio.TimerHandle | None = None
        self._loop: asyncio.AbstractEventLoop | None = None

    def hold(self, receive: Receive, seconds: float | None = None) -> Held:
        """`with` this, a request has so many seconds, at most as many as any."""
        return Held(self, receive, self.most_s if seconds is None else min(seconds, self.most_s), unanswered)

    def hold_on(self, receive: Receive, seconds: float | None) -> Held:
        """The same for what goes on behind it, and may take as long as it takes where no seconds are given."""
        return Held(self, receive, inf if seconds is None else seconds, _unfinished)

    def add(self, held: UnderWay) -> None:
        """Look after this one, too."""
        self._held.add(held)
        if self._looking is None or self._loop is not held.loop:
            self._look_later(held.loop)

    def remove(self, held: UnderWay) -> None:
        """Look after this one no more."""
        self._held.discard(held)

    def _look_later(self, loop: asyncio.AbstractEventLoop) -> None:
        self._looking, self._loop = loop.call_later(LOOK_S, self._look, loop), loop

    def _look(self, loop: asyncio.AbstractEventLoop) -> None:
        self._looking, now = None, monotonic()
        for held in list(self._held):
            held.look(now)
        if self._held:
            self._look_later(loop)


class Held:
    """One request: what is awaited inside `with` is given up when its time is over, or its client has left.

    Raises:
        DeadlineExceeded: the time is over.
        ClientDisconnect: the client has left since `watch` was called.
    """

    __slots__ = (
        "_began",
        "_cancelling",
        "_late",
        "_patience",
        "_receive",
        "_task",
        "_timer",
        "_watched_from",
        "_watcher",
        "_why",
        "loop",
        "seconds",
    )

    def __init__(self, patience: Patience, receive: Receive, seconds: float, late: Late) -> None:
        self._patience, self._receive, self._late, self.seconds = patience, receive, late, seconds
        self._timer: asyncio.TimerHandle | None = None
        self._watcher: asyncio.Task[None] | None = None
        self._watched_from: float | None = None
        self._why: Exception | None = None

    def __enter__(self) -> Self:
        self.loop, self._began = asyncio.get_running_loop(), monotonic()
        task = asyncio.current_task(self.loop)
        if task is None:
            raise RuntimeError("only what a task does can be given up")
        self._task, self._cancelling = task, task.cancelling()
        if self.seconds < SHORT_S:
            self._timer = self.loop.call_later(self.seconds, self._expire)
        self._patience.add(self)
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, traceback: TracebackType | None
    ) -> None:
        self._patience.remove(self)
        if self._timer is not None:
            self._timer.cancel()
        if self._watcher is not None:
            self._watcher.cancel()
        if self._why is not None and self._task.uncancel() <= self._cancelling and kind is asyncio.CancelledError:
            raise self._why from None

    def watch(self) -> None:
        """Look whether the client is still there from now on; its body must have been read."""
        self._watched_from = monotonic()

    def look(self, now: float) -> None:
        """See whether its time is over, and that somebody watches over what takes long."""
        if now - self._began >= self.seconds:
            self._expire()
        elif self._watched_from is not None and self._watcher is None and now - self._watched_from >= INSTANT_S:
            self._watcher = self.loop.create_task(self._watch())

    async def _watch(self) -> None:
        while (await self._receive())["type"] != "http.disconnect":
            pass
        self._give_up(ClientDisconnect())

    def _expire(self) -> None:
        self._give_up(self._late(self.seconds))

    def _give_up(self, why: Exception) -> None:
        if self._why is None:
            self._why = why
            self._task.cancel()


def unanswered(seconds: float) -> AppError:
    """The error of a request whose time is over."""
    return DeadlineExceeded(f"there was no answer within {seconds:g} seconds")


def _unfinished(seconds: float) -> AppError:
    return DeadlineExceeded(f"this was not done within {seconds:g} seconds; what has begun goes on")
