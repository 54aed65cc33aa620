"""`Batcher`: the queue in front of a device; what waits when it comes free is computed together."""

from __future__ import annotations

import asyncio
from collections import defaultdict, deque
from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass, field
from time import perf_counter_ns
from typing import TypeVar

import torch

from app.errors import DeadlineExceeded, NotReady, Overloaded
from app.pipeline.query import Answer, Query
from app.repository.model import Model
from app.serving.batch import Batch
from app.serving.pace import Pace
from app.serving.statistics import Statistics, Took

T = TypeVar("T")

INSTANT_NS = 1_000_000
"""What takes no longer is computed on the event loop."""

_Computed = tuple[list[Answer | Exception], Took]


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
    """One thread owns the device and is never idle while something waits; a lone query waits for nothing.

    While a batch is computed, what arrives gathers; the first of it and what goes with that are the next batch. Torch
    releases the interpreter, so the event loop reads and writes meanwhile. But two threads that want the interpreter
    in turns take it from each other at every small operation, so what takes no longer than an instant is computed on
    the event loop itself.

    Args:
        max_queue_size: how many queries may wait.
        max_batch_size: how many sequences are computed together at most; a query with more is computed alone.
    """

    def __init__(self, max_queue_size: int, max_batch_size: int) -> None:
        self._max_queue_size, self._max_batch_size = max_queue_size, max_batch_size
        self._waiting: deque[_Waiting] = deque()
        self._device = ThreadPoolExecutor(
            max_workers=1,
            thread_name_prefix="device",
            initializer=torch.set_num_threads,  # each thread has a number of its own
            initargs=(torch.get_num_threads(),),
        )
        self._pace = Pace()
        self._is_computing = False
        self._is_closed = False
        self._statistics: defaultdict[tuple[str, str], Statistics] = defaultdict(Statistics)

    async def answer(self, model: Model, query: Query) -> Answer:
        """The model's answer; a query is dropped when its waiter is cancelled. Raises what `submit` raises."""
        return await self.submit(model, query)

    def submit(self, model: Model, query: Query) -> asyncio.Future[Answer]:
        """The answer that will be there; when it is cancelled, the query is dropped.

        Raises:
            Overloaded: as many queries wait as may.
            NotReady: the service is shutting down.
        """
        if self._is_closed:
            raise _closed()
        if len(self._waiting) >= self._max_queue_size:
            self._drop_departed()
            if len(self._waiting) >= self._max_queue_size:
                raise Overloaded(f"{self._max_queue_size} requests wait already; try again later")
        waiting = _Waiting(model, query, asyncio.get_running_loop().create_future())
        self._waiting.append(waiting)
        if not self._is_computing:
            self._compute_soon()
        return waiting.answer

    def do(self, job: Callable[[], T]) -> T:
        """Run this on the device's thread, between two batches; not to be called from the event loop."""
        return self._device.submit(job).result()

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
        """Let the thread come to the end of its step."""
        await asyncio.to_thread(self._device.shutdown, wait=True, cancel_futures=True)

    def _drop_departed(self) -> None:
        """Forget the queries for whose answers nobody waits any more."""
        self._waiting = deque(waiting for waiting in self._waiting if not waiting.has_left)

    def _compute_soon(self) -> None:
        """As soon as everything was read that has arrived by now."""
        self._is_computing = True
        asyncio.get_running_loop().call_soon(self._compute_next)

    def _compute_next(self) -> None:
        while self._waiting and self._waiting[0].has_left:
            self._waiting.popleft()
        if not self._waiting:
            self._is_computing = False
            return
        batch, members = self._gathered()
        began = perf_counter_ns()
        if self._pace.foreseen_ns(batch) <= INSTANT_NS:
            self._finish(batch, members, began, self._compute(batch, members))
        else:
            computing = asyncio.get_running_loop().run_in_executor(self._device, self._compute, batch, members)
            computing.add_done_callback(lambda done: self._come(batch, members, began, done))

    def _gathered(self) -> tuple[Batch, list[_Waiting]]:
        """The first that waits, and those that go with it."""
        first = self._waiting.popleft()
        batch, members = Batch(first.model, first.query), [first]
        others: deque[_Waiting] = deque()
        while self._waiting and batch.sequences < self._max_batch_size:
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
        """On the device's thread, or within an instant on the event loop."""

        def is_abandoned() -> bool:
            return self._is_closed or all(member.has_left for member in members)

        began = perf_counter_ns()
        try:
            query = batch.query().but(is_abandoned=is_abandoned)
            joined = perf_counter_ns()
            answer = batch.model.pipeline.answer(query)
            inferred = perf_counter_ns()
            answers: list[Answer | Exception] = [*batch.split(answer)]
        except Exception as error:  # noqa: BLE001 - whatever it is, it is one request's, and no other's
            return self._one_by_one(batch, members, error), Took(0, perf_counter_ns() - began, 0)
        return answers, Took(joined - began, inferred - joined, perf_counter_ns() - inferred)

    def _one_by_one(self, batch: Batch, members: list[_Waiting], error: Exception) -> list[Answer | Exception]:
        """The answers of a batch that failed: only those whose query fails alone are errors."""
        if len(members) == 1:
            return [error]
        alone = (self._compute(Batch(batch.model, member.query), [member])[0] for member in members)
        return [answer for answers in alone for answer in answers]

    def _come(self, batch: Batch, members: list[_Waiting], began: int, computing: asyncio.Future[_Computed]) -> None:
        """The device's thread is done with it."""
        if computing.cancelled():  # the service stops
            for member in members:
                self._fail(member, _closed())
        else:
            self._finish(batch, members, began, computing.result())

    def _finish(self, batch: Batch, members: list[_Waiting], began: int, computed: _Computed) -> None:
        if self._waiting:
            self._compute_soon()
        else:
            self._is_computing = False
        answers, took = computed
        if not any(isinstance(answer, Exception) for answer in answers):
            self._pace.learn(batch, took.infer)
        statistics = self.statistics(batch.model)
        statistics.computed(batch.sequences, len(members), took)
        for member, answer in zip(members, answers, strict=True):
            if isinstance(answer, Exception):
                self._fail(member, _closed() if self._is_closed and isinstance(answer, DeadlineExceeded) else answer)
            elif not member.has_left:
                statistics.answered(began - member.arrived, perf_counter_ns() - member.arrived)
                member.answer.set_result(answer)

    def _fail(self, member: _Waiting, error: Exception) -> None:
        self.statistics(member.model).fail.add(perf_counter_ns() - member.arrived)
        if not member.has_left:
            member.answer.set_exception(error)


def _closed() -> NotReady:
    return NotReady("the service is shutting down")
