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


class Request(asyncio.Future[Answer]):
    """The future of a query's answer, and what the scheduler knows of the query.

    The query is released when it fails or nobody waits any more, even while this still stands in the queue.

    Args:
        model: answers it.
        query: what is asked.
        deadline: by which it must be answered, where there is one.
        part: of what the client asked for.
    """

    __slots__ = ("arrived_ns", "deadline", "model", "part", "query", "runs_inline")

    def __init__(self, model: Model, query: Query, deadline: Deadline | None = None, part: Part = WHOLE) -> None:
        super().__init__()
        self.model, self.query, self.deadline, self.part = model, query, deadline, part
        self.arrived_ns = perf_counter_ns()
        self.runs_inline: bool | None = None  # not known yet

    def cancel(self, msg: object = None) -> bool:
        """Nobody waits any more."""
        is_cancelled = super().cancel(msg)
        if is_cancelled:
            del self.query
        return is_cancelled

    def set_exception(self, exception: type | BaseException) -> None:
        """It has failed."""
        super().set_exception(exception)
        del self.query
