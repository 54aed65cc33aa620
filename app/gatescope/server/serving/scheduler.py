"""`Batcher`: the queue in front of a device; what waits when it comes free is computed together."""

from __future__ import annotations

import asyncio
from collections import defaultdict, deque
from collections.abc import Callable
from dataclasses import dataclass, field
from functools import partial
from time import perf_counter_ns, thread_time_ns
from typing import NamedTuple, TypeVar

from gatescope.errors import DeadlineExceeded, NotReady, Overloaded
from gatescope.pipeline.model import Model
from gatescope.pipeline.query import Answer, Query
from gatescope.server.gil import Turn
from gatescope.server.serving.collate import Batch
from gatescope.server.serving.cost import Pace
from gatescope.server.serving.statistics import Statistics, Took
from gatescope.server.serving.workers import Lanes

T = TypeVar("T")

INSTANT_NS = 1_000_000
"""What takes no longer is computed on the event loop."""

FEWEST = 8
"""So many queries are not parted among lanes, where they are no parts of long ones: smaller batches cost more than
their share."""

WORTH_LEAVING = 1.5
"""What waits is parted where it is more than so many shares: a little left over is not worth smaller batches."""

_GRAIN_BITS = 3  # of a number of rows; the others are zero


class _Computed(NamedTuple):
    answers: list[Answer | Exception]
    took: Took
    busy_ns: int | None = None
    """What the thread itself has computed: waiting for the interpreter and for a core is left out.

    None where that tells nothing of the next batch, for this one was not computed in one go.
    """


@dataclass(eq=False)
class _Waiting:
    """One query, and who waits for its answer."""

    model: Model
    query: Query
    answer: asyncio.Future[Answer]
    arrived: int = field(default_factory=perf_counter_ns)

    @property
    def has_left(self) -> bool:
        """Whether nobody waits any more."""
        return self.answer.done()


class Batcher:
    """A device is never idle while something waits for it; a lone query waits for nothing.

    While a batch is computed, what arrives gathers; the first of it and what goes with that are the next batch. On a
    processor with several cores, long batches are computed beside one another (`lanes.py`). Torch releases the
    interpreter, so the event loop reads and writes meanwhile. But threads that want the interpreter in turns take it
    from each other at every small operation, so what takes no longer than an instant is computed on the event loop
    itself.

    Args:
        max_queue_size: how many queries may wait.
        max_batch_size: how many sequences are computed together at most; a query with more is computed alone.
        lanes: how many batches may be computed beside one another.
    """

    def __init__(self, max_queue_size: int, max_batch_size: int, lanes: int = 1) -> None:
        self._max_queue_size, self._max_batch_size = max_queue_size, max_batch_size
        self._waiting: deque[_Waiting] = deque()
        self._lanes = Lanes(lanes)
        self._computing: list[Batch] = []  # of each lane that is not free
        self._held_up: set[Model] = set()  # those of which no more is begun until a batch is done
        self._pace, self._turn = Pace(), Turn()
        self._is_soon = False
        self._is_closed = False
        self._statistics: defaultdict[tuple[str, str], Statistics] = defaultdict(Statistics)

    async def answer(self, model: Model, query: Query) -> Answer:
        """The model's answer; a query is dropped when its waiter is cancelled. Raises what `submit` raises."""
        return await self.submit(model, query)

    def submit(self, model: Model, query: Query) -> asyncio.Future[Answer]:
        """The answer that will be there; when it is cancelled, the query is dropped.

        Raises:
            Overloaded: as many queries wait as may; who was let in once is let in again with what is to follow.
            NotReady: the service is shutting down.
        """
        if self._is_closed:
            raise _closed()
        if query.is_first and len(self._waiting) >= self._max_queue_size:
            self._drop_departed()
            if len(self._waiting) >= self._max_queue_size:
                raise Overloaded(f"{self._max_queue_size} requests wait already; try again later")
        waiting = _Waiting(model, query, asyncio.get_running_loop().create_future())
        self._waiting.append(waiting)
        if self._computing:
            self._turn.give_way()
        if not self._is_soon and self._may_begin(waiting):
            self._compute_soon()
        return waiting.answer

    def do(self, job: Callable[[], T]) -> T:
        """Run this on a device's thread, between two batches; not to be called from the event loop."""
        return self._lanes.do(job)

    def warm(self, model: Model) -> None:
        """Have a model ready for batches of every kind, and know its pace; not to be called from the event loop."""
        self._lanes.rehearse(model.warm)
        for query in model.pipeline.rehearsals():
            self._pace.learn(Batch(model, query), self._lanes.do(partial(_busy_ns, model, query), cores=1))

    def statistics(self, model: Model) -> Statistics:
        """Of this version of the model."""
        return self._statistics[model.name, model.version]

    @property
    def waiting(self) -> int:
        """How many queries wait."""
        return sum(not waiting.has_left for waiting in self._waiting)

    def close(self) -> None:
        """Turn away what waits, and give up what is computed."""
        self._is_closed = True
        while self._waiting:
            self._fail(self._waiting.popleft(), _closed())

    async def stop(self) -> None:
        """Let the threads come to the end of their steps."""
        await self._lanes.stop()

    def _drop_departed(self) -> None:
        """Forget the queries for whose answers nobody waits any more."""
        self._waiting = deque(waiting for waiting in self._waiting if not waiting.has_left)

    def _may_begin(self, waiting: _Waiting) -> bool:
        """Whether it need not wait for what is computed now."""
        model = waiting.model
        if not self._lanes.free or model in self._held_up:
            return False
        computing = [batch.model for batch in self._computing]
        if not model.pipeline.is_reentrant:
            may = all(other.pipeline.is_reentrant for other in computing)
        else:
            may = model not in computing or self._is_long(waiting)
        if not may:
            self._held_up.add(model)
        return may

    def _is_long(self, waiting: _Waiting) -> bool:
        """Whether it costs a device more than the event loop: else it is that which all wait for.

        To begin with it beside a batch of its model would bring nothing then, and to wait for that makes a larger one.
        """
        return self._pace.added_ns(Batch(waiting.model, waiting.query)) >= self._pace.around_ns

    def _compute_soon(self) -> None:
        """As soon as everything was read that has arrived by now."""
        self._is_soon = True
        asyncio.get_running_loop().call_soon(self._compute_next)

    def _compute_next(self) -> None:
        self._is_soon = False
        first = self._first()
        if first is None:
            self._drop_departed()
            return
        batch, members = self._gathered(first, self._most_with(first))
        began = perf_counter_ns()
        if self._pace.is_instant(batch, INSTANT_NS):
            self._finish(batch, members, began, self._lanes.here(self._compute, batch, members))
            return
        alone = len(members) == 1 and not self._waiting and not self._computing
        self._computing.append(batch)
        computing = self._lanes.run(self._compute, batch, members, alone=alone, wide=batch.is_wide)
        computing.add_done_callback(lambda done: self._come(batch, members, began, done))
        if self._waiting and self._lanes.free:
            self._compute_soon()

    def _first(self) -> _Waiting | None:
        """The first that waits and may begin; it waits no more."""
        for index, waiting in enumerate(self._waiting):
            if not waiting.has_left and self._may_begin(waiting):
                del self._waiting[index]
                return waiting
        return None

    def _most_with(self, first: _Waiting) -> int:
        """How many queries this one and those behind it may be at most, where more wait.

        All lanes share them with what is computed now: were a lane to take all that waits, the others would be left
        with what comes meanwhile, in batches too small to pay, and at its end all would wait for this lane again. And
        so that kernels, which are made for every number of rows, need not be made too often, it is one of four numbers
        between a power of two and the next. What is left is next.
        """
        most, model = len(self._waiting) + 1, first.model
        if model.pipeline.is_reentrant and self._is_long(first):
            begun = sum(len(batch.queries) for batch in self._computing if batch.model is model)
            share = max(FEWEST if first.query.is_whole else 1, -(-(most + begun) // self._lanes.count))
            most = share if most > WORTH_LEAVING * share else most
        return _rounded_down(most) if model.pipeline.is_at_home else most

    def _gathered(self, first: _Waiting, most: int) -> tuple[Batch, list[_Waiting]]:
        """This one, and those that go with it."""
        batch, members = Batch(first.model, first.query), [first]
        others: deque[_Waiting] = deque()
        while self._waiting and len(members) < most and batch.sequences < self._max_batch_size:
            other = self._waiting.popleft()
            if other.has_left:
                continue
            fits = batch.sequences + len(other.query.inputs) <= self._max_batch_size
            if fits and batch.takes(other.model, other.query):
                batch.take(other.query)
                members.append(other)
            else:
                others.append(other)
        self._waiting.extendleft(reversed(others))
        return batch, members

    def _compute(self, batch: Batch, members: list[_Waiting]) -> _Computed:
        """On a device's thread, or within an instant on the event loop."""

        def is_abandoned() -> bool:
            return self._is_closed or all(member.has_left for member in members)

        began, began_busy = perf_counter_ns(), thread_time_ns()
        try:
            query = batch.query().but(is_abandoned=is_abandoned)
            joined = perf_counter_ns()
            answer = batch.model.pipeline.answer(query)
            inferred = perf_counter_ns()
            answers: list[Answer | Exception] = [*batch.split(answer)]
        except Exception as error:  # noqa: BLE001 - whatever it is, it is one request's, and no other's
            return _Computed(self._one_by_one(batch, members, error), Took(0, perf_counter_ns() - began, 0))
        took = Took(joined - began, inferred - joined, perf_counter_ns() - inferred)
        return _Computed(answers, took, thread_time_ns() - began_busy)

    def _one_by_one(self, batch: Batch, members: list[_Waiting], error: Exception) -> list[Answer | Exception]:
        """The answers of a batch that failed: only those whose query fails alone are errors."""
        if len(members) == 1:
            return [error]
        alone = (self._compute(Batch(batch.model, member.query), [member]).answers for member in members)
        return [answer for answers in alone for answer in answers]

    def _come(self, batch: Batch, members: list[_Waiting], began: int, computing: asyncio.Future[_Computed]) -> None:
        """A device's thread is done with it."""
        self._computing.remove(batch)
        self._held_up.clear()
        if computing.cancelled():  # the service stops
            for member in members:
                self._fail(member, _closed())
        else:
            self._finish(batch, members, began, computing.result())

    def _finish(self, batch: Batch, members: list[_Waiting], began: int, computed: _Computed) -> None:
        if self._waiting and not self._is_soon:
            self._compute_soon()
        answers, took, busy_ns = computed
        if busy_ns is not None:
            self._pace.learn(batch, busy_ns)
        self._pace.answer(len(members))
        statistics = self.statistics(batch.model)
        statistics.computed(batch.queries, batch.sequences, took)
        for member, answer in zip(members, answers, strict=True):
            if isinstance(answer, Exception):
                self._fail(member, _closed() if self._is_closed and isinstance(answer, DeadlineExceeded) else answer)
            elif not member.has_left:
                statistics.answered(member.query, began - member.arrived, perf_counter_ns() - member.arrived)
                member.answer.set_result(answer)

    def _fail(self, member: _Waiting, error: Exception) -> None:
        self.statistics(member.model).fail.add(perf_counter_ns() - member.arrived)
        if not member.has_left:
            member.answer.set_exception(error)


def _busy_ns(model: Model, query: Query) -> int:
    """How long this thread computes for it."""
    began = thread_time_ns()
    model.pipeline.answer(query)
    return thread_time_ns() - began


def _closed() -> NotReady:
    return NotReady("the service is shutting down")


def _rounded_down(count: int) -> int:
    """One of 1, 2, 3, 4, 5, 6, 7, 8, 10, 12, 14, 16, 20, 24, …: four between a power of two and the next."""
    grain = 1 << max(0, count.bit_length() - _GRAIN_BITS)
    return count - count % grain
