"""`Lines`: for each name a line, in which everybody gets their turn in the order in which they came."""

from __future__ import annotations

import asyncio
from collections import deque


class Lines:
    """Who has the turn holds it until `leave`; a name that nobody waits for costs nothing."""

    def __init__(self) -> None:
        self._waiting: dict[str, deque[asyncio.Future[None]]] = {}

    def take(self, name: str) -> bool:
        """Take the turn, if nobody has it."""
        if self.is_taken(name):
            return False
        self._waiting[name] = deque()
        return True

    def is_taken(self, name: str) -> bool:
        """Whether somebody has the turn."""
        return name in self._waiting

    def length(self, name: str) -> int:
        """How many wait."""
        return len(self._waiting.get(name, ()))

    async def wait(self, name: str) -> None:
        """Take the turn when it comes."""
        if self.take(name):
            return
        turn: asyncio.Future[None] = asyncio.get_running_loop().create_future()
        self._waiting[name].append(turn)
        try:
            await turn
        except asyncio.CancelledError:
            if turn.done() and not turn.cancelled():  # it came just now: somebody else may have it
                self.leave(name)
            else:
                self._waiting[name].remove(turn)
            raise

    def leave(self, name: str) -> None:
        """Give the turn to the next who still waits."""
        waiting = self._waiting[name]
        while waiting:
            turn = waiting.popleft()
            if not turn.done():
                turn.set_result(None)
                return
        del self._waiting[name]
