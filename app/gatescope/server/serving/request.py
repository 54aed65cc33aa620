"""`Request`: a query that waits for its batch, and who waits for its answer."""

from __future__ import annotations

import asyncio
from collections.abc import Callable
from contextvars import Context, copy_context
from time import perf_counter_ns
from typing import Any, NamedTuple

from gatescope.pipeline.model import Model
from gatescope.pipeline.query import Answer, Query
from gatescope.server.serving.deadline import Deadline

Callback = Callable[[Any], object]


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

    Who waits for the answer goes on within `answer`, where a future's result is seen at the loop's next turn only: the
    replies to a batch are sent before the next batch is put together, which is the larger for it (decision 23).

    The query is released when it fails or nobody waits any more, even while this still stands in the queue.

    Args:
        model: answers it.
        query: what is asked.
        deadline: by which it must be answered, where there is one.
        part: of what the client asked for.
        is_background: whether it gives way to those that somebody waits for.
    """

    __slots__ = ("_waiter", "arrived_ns", "deadline", "is_background", "model", "part", "query", "runs_inline")

    def __init__(
        self,
        model: Model,
        query: Query,
        deadline: Deadline | None = None,
        part: Part = WHOLE,
        *,
        is_background: bool = False,
    ) -> None:
        super().__init__()
        self.model, self.query, self.deadline, self.part = model, query, deadline, part
        self.is_background = is_background
        self.arrived_ns = perf_counter_ns()
        self.runs_inline: bool | None = None  # not known yet
        self._waiter: tuple[Callback, Context] | None = None

    def answer(self, answer: Answer) -> None:
        """Give the answer to whoever waits; not to be called from a task, for that goes on here."""
        waiter, self._waiter = self._waiter, None
        self.set_result(answer)
        if waiter is not None:
            callback, context = waiter
            context.run(callback, self)

    def cancel(self, msg: object = None) -> bool:
        """Nobody waits any more."""
        is_cancelled = super().cancel(msg)
        if is_cancelled:
            self._release()
        return is_cancelled

    def set_exception(self, exception: type | BaseException) -> None:
        """It has failed."""
        super().set_exception(exception)
        self._release()

    def add_done_callback(self, callback: Callback, *, context: Context | None = None) -> None:
        """Call this when it is done: the first one within `answer`, any other at the loop's next turn."""
        if self._waiter is None and not self.done():
            self._waiter = callback, context or copy_context()
        else:
            super().add_done_callback(callback, context=context)

    def remove_done_callback(self, callback: Callback) -> int:
        """Do not call this; answers how many were removed."""
        removed = super().remove_done_callback(callback)
        if self._waiter is not None and self._waiter[0] == callback:
            self._waiter, removed = None, removed + 1
        return removed

    def _release(self) -> None:
        """Without an answer, who waits goes on at the loop's next turn: it may be a task that ends this."""
        del self.query
        if self._waiter is not None:
            callback, context = self._waiter
            self._waiter = None
            super().add_done_callback(callback, context=context)
