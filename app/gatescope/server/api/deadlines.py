"""`Deadlines`: gives up requests whose time is over."""

from __future__ import annotations

import asyncio
from time import monotonic

from gatescope.errors import DeadlineExceeded
from gatescope.server.api.messages import Request
from gatescope.server.serving.deadline import Deadline

INTERVAL_S = 0.02
"""How often all requests are looked at: a timer for each of them would cost more than most of them take."""


class Deadlines:
    """Looks at the requests that are being answered, all at once."""

    def __init__(self) -> None:
        self._requests: set[Request] = set()
        self._timer: asyncio.TimerHandle | None = None

    def add(self, request: Request) -> None:
        """Look at this one, too."""
        self._requests.add(request)
        if self._timer is None:
            self._set_timer(asyncio.get_running_loop())

    def discard(self, request: Request) -> None:
        """Look at this one no more."""
        self._requests.discard(request)

    def _set_timer(self, loop: asyncio.AbstractEventLoop) -> None:
        self._timer = loop.call_later(INTERVAL_S, self._look, loop)

    def _look(self, loop: asyncio.AbstractEventLoop) -> None:
        self._timer, now = None, monotonic()
        late = [
            (each, each.deadline) for each in self._requests if each.deadline is not None and each.deadline.ends <= now
        ]
        for request, deadline in late:
            request.give_up(_exceeded(deadline, goes_on=request.may_be_slow))
        if self._requests:
            self._set_timer(loop)


def _exceeded(deadline: Deadline, *, goes_on: bool) -> DeadlineExceeded:
    """The error of a request whose time is over; `goes_on`: what it began comes to its end all the same."""
    if goes_on:
        return DeadlineExceeded(f"this was not done within {deadline.seconds:g} seconds; what has begun goes on")
    return deadline.exceeded()
