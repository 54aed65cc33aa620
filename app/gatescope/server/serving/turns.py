"""`Turns`: what one request asks of the engine in several queries, within one deadline."""

from __future__ import annotations

import asyncio

from gatescope.errors import DeadlineExceeded
from gatescope.pipeline.model import Model
from gatescope.pipeline.query import Answer, Query
from gatescope.server.serving.engine import Engine


class Turns:
    """The deadline runs from the beginning; between two turns other requests get theirs.

    Args:
        engine: answers.
        model: is asked.
        timeout_s: seconds for all turns together.
    """

    def __init__(self, engine: Engine, model: Model, timeout_s: float) -> None:
        self.model = model
        self._engine, self._timeout_s = engine, timeout_s
        self._ends = asyncio.get_running_loop().time() + timeout_s

    async def answer(self, query: Query) -> Answer:
        """The engine's answer; raises what it raises."""
        too_late = DeadlineExceeded(f"the answer was not complete within {self._timeout_s:g} seconds")
        remaining_s = self._ends - asyncio.get_running_loop().time()
        if remaining_s <= 0:
            raise too_late
        try:
            return await self._engine.answer(self.model, query, remaining_s)
        except DeadlineExceeded:
            raise too_late from None
