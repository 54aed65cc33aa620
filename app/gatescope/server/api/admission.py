"""`Admission`: how many requests are answered at once; a further one waits a moment for a place, then it is refused."""

from __future__ import annotations

import asyncio
from collections import deque
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from time import monotonic

from gatescope.errors import Overloaded

TOGETHER_S = 0.01
"""Requests that are to be refused within so many seconds are refused at once."""


class Admission:
    """Places for requests that compute; whoever waited for longest gets the next one.

    A request takes its place before its body is parsed, so that refusing costs little.

    Args:
        places: how many there are.
        wait_s: seconds that a request may wait for one.
    """

    def __init__(self, places: int, wait_s: float) -> None:
        self._free, self._wait_s = places, wait_s
        self._refusal = f"{places} requests are being answered already; try again later"
        self._waiting: deque[tuple[float, asyncio.Future[None]]] = deque()  # the time when it is refused, in order
        self._timer: asyncio.TimerHandle | None = None

    @property
    def waiting(self) -> int:
        """How many requests wait for a place."""
        return sum(not place.done() for _, place in self._waiting)

    def take_place(self) -> bool:
        """Take a place, which is given back with `release`; false where none is free."""
        if not self._free:
            return False
        self._free -= 1
        return True

    def release(self) -> None:
        """Give a place back."""
        while self._waiting:
            _, place = self._waiting.popleft()
            if not place.done():
                place.set_result(None)
                return
        self._free += 1

    @asynccontextmanager
    async def place(self) -> AsyncIterator[None]:
        """Hold a place, as soon as there is one.

        Raises:
            Overloaded: none came free in time.
        """
        if not self.take_place():
            await self.wait()
        try:
            yield
        finally:
            self.release()

    async def wait(self) -> None:
        """Take a place when one comes free.

        Raises:
            Overloaded: none did in time.
        """
        if not self._wait_s:
            raise self._overloaded()
        loop = asyncio.get_running_loop()
        place: asyncio.Future[None] = loop.create_future()
        self._waiting.append((monotonic() + self._wait_s, place))
        if self._timer is None:
            self._timer = loop.call_later(self._wait_s, self._refuse_late, loop)
        try:
            await place
        except asyncio.CancelledError:
            if place.done() and not place.cancelled() and place.exception() is None:
                self.release()  # the place came at the same moment
            raise
        finally:
            del place  # it holds its error, whose traceback holds this frame

    def _refuse_late(self, loop: asyncio.AbstractEventLoop) -> None:
        """Refuse those whose time is over, and those whose time soon will be: each timer costs as much as a refusal."""
        self._timer, now = None, monotonic()
        soon = now + min(TOGETHER_S, self._wait_s / 10)
        while self._waiting and self._waiting[0][0] <= soon:
            _, place = self._waiting.popleft()
            if not place.done():
                place.set_exception(self._overloaded())
        if self._waiting:
            self._timer = loop.call_later(self._waiting[0][0] - now, self._refuse_late, loop)

    def _overloaded(self) -> Overloaded:
        return Overloaded(self._refusal)
