"""`Request`: a query that waits for its batch, and who waits for its answer."""

from __future__ import annotations

import asyncio
from time import perf_counter_ns
from typing import NamedTuple

from gatescope.pipeline.model import Model
from gatescope.pipeline.query import Answer, Query
from gatescope.server.serving.deadline import Deadline


class Part(NamedTuple):
    """Which part of what a client asked for a query is, where that takes several, one after the other."""

    is_first: bool = True
    is_last: bool = True
    sequences: int | None = None
    """Of all of it; None where the query has all of them."""

    @property
    def is_whole(self) -> bool:
        """Whether there is no other part."""
        return self.is_first and self.is_last


WHOLE = Part()


class Request:
    """What the scheduler knows of a query.

    Args:
        model: answers it.
        query: is dropped when the waiter has gone.
        deadline: by which it must be answered, where there is one.
        part: of what the client asked for.
    """

    __slots__ = ("arrived_ns", "deadline", "future", "model", "part", "query", "runs_inline")

    def __init__(self, model: Model, query: Query, deadline: Deadline | None = None, part: Part = WHOLE) -> None:
        self.model, self.query, self.deadline, self.part = model, query, deadline, part
        self.arrived_ns = perf_counter_ns()
        self.runs_inline: bool | None = None  # not known yet
        self.future: asyncio.Future[Answer] = asyncio.get_running_loop().create_future()
        self.future.add_done_callback(self._release)

    @property
    def is_done(self) -> bool:
        """Whether it was answered, has failed, or nobody waits any more."""
        return self.future.done()

    def answer(self, answer: Answer) -> None:
        """Give the answer to whoever waits."""
        self.future.remove_done_callback(self._release)  # to have it run would take longer
        self.future.set_result(answer)

    def _release(self, _: asyncio.Future[Answer]) -> None:
        """Free the query's tensors at once, even while the request still stands in the queue."""
        del self.query
