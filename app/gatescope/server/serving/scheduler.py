"""`Scheduler`: the queue in front of a device; what waits when it comes free is computed together."""

from __future__ import annotations

import asyncio
import traceback
from collections import defaultdict, deque
from collections.abc import Iterable
from functools import partial
from itertools import chain
from time import perf_counter_ns, thread_time_ns
from typing import NamedTuple

from gatescope.errors import AppError, DeadlineExceeded, NotReady, Overloaded
from gatescope.pipeline.model import Model
from gatescope.pipeline.query import Answer, Query
from gatescope.server.gil import GilYielder
from gatescope.server.serving import tuning
from gatescope.server.serving.collate import Batch
from gatescope.server.serving.deadline import Deadline
from gatescope.server.serving.policy import INLINE, Policy
from gatescope.server.serving.request import WHOLE, Part, Request
from gatescope.server.serving.statistics import BatchTimes, Statistics
from gatescope.server.serving.workers import Workers, run_here

_TIMER_SLACK_S = 0.001
"""A timer's own resolution: it must not come just before the deadline."""


class _Job(NamedTuple):
    """A batch that is computed, and the requests whose answers it gives."""

    batch: Batch
    requests: list[Request]
    started_ns: int

    @property
    def is_background(self) -> bool:
        """Whether nobody waits for any of it."""
        return self.requests[0].is_background


class _Result(NamedTuple):
    answers: list[Answer | Exception]
    times: BatchTimes
    busy_ns: int | None = None
    """What the thread itself has computed: waiting for the GIL and for a core is left out.

    None where that tells nothing of the next batch, for this one was not computed in one go.
    """


class Scheduler:
    """A device is never idle while something waits for it; a lone request waits for nothing.

    While a batch is computed, what arrives gathers; the first of it and what goes with that are the next batch. Torch
    releases the GIL, so the event loop reads and writes meanwhile. What is short is computed on the event loop itself,
    for which no worker need be idle.

    Requests of the background, for which nobody waits, have a queue of their own. A batch of them is started while no
    other request waits, and leaves one worker idle where there are several. So that they are done at all, one batch of
    them is the next one at the latest `BACKGROUND_WAIT_S` after the one before it.

    Args:
        max_queue_size: how many requests may wait, those of the background left out.
        policy: who shares a batch, how large it may be, and where it is computed.
        workers: the device's threads.
    """

    def __init__(self, max_queue_size: int, policy: Policy, workers: Workers) -> None:
        self._max_queue_size, self._policy, self.workers = max_queue_size, policy, workers
        self._queue: deque[Request] = deque()
        self._background: deque[Request] = deque()
        self._is_overdue = False  # whether the background has waited for long enough
        self._background_timer: asyncio.TimerHandle | None = None
        self._running: list[_Job] = []  # one of each worker that computes
        self._held: set[Model] = set()  # those of which nothing is started until a batch is done
        self._is_scheduled = self._is_closed = False
        self._gil = GilYielder()
        self._timer: asyncio.TimerHandle | None = None
        self._timer_ends = 0.0  # the deadline at which it comes
        self._statistics: defaultdict[tuple[str, str], Statistics] = defaultdict(Statistics)
        workers.on_idle = self._schedule

    def submit(
        self,
        model: Model,
        query: Query,
        deadline: Deadline | None = None,
        part: Part = WHOLE,
        *,
        is_background: bool = False,
    ) -> asyncio.Future[Answer]:
        """The answer that will be there; when it is cancelled, the query is dropped.

        The future fails with `DeadlineExceeded` when the deadline passes, whether or not the query is being computed.

        Raises:
            Overloaded: as many requests wait as may; later parts of a request that was admitted always are, and those
                of the background, whose number is bounded by the jobs that run at once.
            DeadlineExceeded: it has passed already.
            NotReady: the service is shutting down.
        """
        if self._is_closed:
            raise _closed()
        if deadline is not None and deadline.has_passed:
            raise deadline.exceeded()
        if part.is_first and not is_background:
            self._admit()
        request = Request(model, query, deadline, part, is_background=is_background)
        if is_background and all(each.done() for each in self._background):
            self._restart_background_timer()
        self._queue_of(request).append(request)
        if deadline is not None:
            self._watch(deadline)
        if self._running:
            self._gil.give_way()
        if not self._is_scheduled and self._may_start(request):
            self._schedule()
        return request

    async def warm(self, model: Model) -> None:
        """Have a model ready for batches of every kind, and learn how long they take."""
        for cores in self.workers.core_counts:
            await self.workers.reserve(cores, model.warm)
        for query in model.pipeline.warmup_queries():
            busy_ns = await self.workers.reserve(1, _busy_ns, model, query)
            self._policy.computed(Batch(model, query), busy_ns)

    def statistics(self, model: Model) -> Statistics:
        """Of this version of the model."""
        return self._statistics[model.name, model.version]

    @property
    def waiting(self) -> int:
        """How many requests wait, those of the background left out."""
        return sum(not request.done() for request in self._queue)

    def close(self) -> None:
        """Turn away what waits, and give up what is computed."""
        self._is_closed = True
        for timer in (self._timer, self._background_timer):
            if timer is not None:
                timer.cancel()
        for queue in (self._queue, self._background):
            while queue:
                self._fail(queue.popleft(), _closed())

    async def stop(self) -> None:
        """Let the workers finish what they do."""
        await self.workers.stop()

    # ---- admission ----

    def _admit(self) -> None:
        if len(self._queue) >= self._max_queue_size:
            self._drop_done()
            if len(self._queue) >= self._max_queue_size:
                raise Overloaded(f"{self._max_queue_size} requests wait already; try again later")

    def _drop_done(self) -> None:
        """Forget the requests for whose answers nobody waits any more."""
        self._queue, self._background = (
            deque(request for request in queue if not request.done()) for queue in (self._queue, self._background)
        )

    def _watch(self, deadline: Deadline) -> None:
        """Have the timer come no later than this deadline: one timer serves all requests."""
        if self._timer is not None:
            if self._timer_ends <= deadline.ends:
                return
            self._timer.cancel()
        delay_s = max(0.0, deadline.remaining_s) + _TIMER_SLACK_S
        self._timer, self._timer_ends = asyncio.get_running_loop().call_later(delay_s, self._expire), deadline.ends

    def _expire(self) -> None:
        """Fail the requests whose deadline has passed, and wait for the next deadline."""
        self._timer = None
        for request in self._open():
            if request.deadline is not None and request.deadline.has_passed:
                self._fail(request, request.deadline.exceeded())
        self._drop_done()
        deadlines = [request.deadline for request in self._open() if request.deadline is not None]
        if deadlines:
            self._watch(min(deadlines, key=lambda deadline: deadline.ends))

    def _open(self) -> Iterable[Request]:
        """Every request that waits or is computed, and whose waiter is still there."""
        running = chain.from_iterable(job.requests for job in self._running)
        return (request for request in chain(self._queue, self._background, running) if not request.done())

    # ---- the background ----

    def _queue_of(self, request: Request) -> deque[Request]:
        """Where it waits."""
        return self._background if request.is_background else self._queue

    def _restart_background_timer(self) -> None:
        """Its next batch need not wait for more than `BACKGROUND_WAIT_S` from now."""
        if self._background_timer is not None:
            self._background_timer.cancel()
        self._is_overdue = False
        loop = asyncio.get_running_loop()
        self._background_timer = loop.call_later(tuning.BACKGROUND_WAIT_S, self._end_background_wait)

    def _end_background_wait(self) -> None:
        self._is_overdue = True
        self._schedule()

    def _may_background_start(self, request: Request) -> bool:
        """Whether a request of the background is in nobody's way, or has waited for long enough."""
        needed = 1
        if not self._is_overdue:
            if any(not each.done() for each in self._queue):
                return False
            needed = min(2, self.workers.count)
        if self.workers.idle < needed and not self._runs_inline(request):
            return False
        return self._policy.may_start(request, self._running_beside(request))

    # ---- the next batch ----

    def _schedule(self) -> None:
        """Start the next batch as soon as everything was read that has arrived by now."""
        if (self._queue or self._background) and not self._is_scheduled:
            self._is_scheduled = True
            asyncio.get_running_loop().call_soon(self._start_next)

    def _start_next(self) -> None:
        self._is_scheduled = False
        first = self._first()
        if first is None:
            self._drop_done()
            return
        batch, requests = self._gathered(first)
        is_alone = len(requests) == 1 and not self._queue and not self._running and not first.is_background
        if first.is_background:
            self._restart_background_timer()
        placement = self._policy.place(batch, is_alone=is_alone)
        while not placement.is_inline and not self.workers.idle:  # the first one alone was found to be short
            batch, requests = self._halved(requests)
            placement = INLINE if len(requests) == 1 else self._policy.place(batch, is_alone=False)
        job = _Job(batch, requests, perf_counter_ns())
        if placement.is_inline:
            self._finish(job, run_here(placement.cores, self._compute, job))
            return
        self._running.append(job)
        computing = self.workers.run(placement.cores, self._compute, job)
        computing.add_done_callback(partial(self._computed, job))
        self._schedule()

    def _first(self) -> Request | None:
        """The first that waits and may start; it waits no more."""
        queues = (self._background, self._queue) if self._is_overdue else (self._queue, self._background)
        for queue in queues:
            for index, request in enumerate(queue):
                if not request.done() and self._may_start(request):
                    del queue[index]
                    return request
        return None

    def _may_start(self, request: Request) -> bool:
        """Whether it need not wait for what is computed now.

        Where no worker is idle, a batch of its model that is computed is waited for: it will be part of a larger one.
        """
        if request.is_background:
            return self._may_background_start(request)
        if request.model in self._held:
            return False
        running = self._running_beside(request)
        if self.workers.idle or all(batch.model is not request.model for batch in running):
            if not (self.workers.idle or self._runs_inline(request)):
                return False
            if self._policy.may_start(request, running):
                return True
        self._held.add(request.model)
        return False

    def _running_beside(self, request: Request) -> list[Batch]:
        """What is computed now and matters to it: the background and the others do not wait to share a batch.

        What is computed for either matters where its model cannot run beside another one.
        """
        return [
            job.batch
            for job in self._running
            if not (request.is_background or job.is_background) or not job.batch.model.pipeline.is_reentrant
        ]

    def _runs_inline(self, request: Request) -> bool:
        """Whether it needs no worker; asked once, for the queue is looked through often while no worker is idle."""
        if request.runs_inline is None:
            request.runs_inline = self._policy.place(Batch(request.model, request.query), is_alone=False).is_inline
        return request.runs_inline

    def _gathered(self, first: Request) -> tuple[Batch, list[Request]]:
        """This one, and those that go with it; the others keep their order."""
        queue = self._queue_of(first)
        most = self._policy.max_requests(first, len(queue), self._running_beside(first))
        batch, requests = Batch(first.model, first.query), [first]
        others: deque[Request] = deque()
        while queue and len(requests) < most:
            other = queue.popleft()
            if other.done():
                continue
            if self._policy.joins(batch, other):
                batch.add(other.query)
                requests.append(other)
            else:
                others.append(other)
        queue.extendleft(reversed(others))
        return batch, requests

    def _halved(self, requests: list[Request]) -> tuple[Batch, list[Request]]:
        """The first half, small enough for the event loop in the end, for no worker is idle; the others wait again."""
        half = len(requests) // 2
        self._queue_of(requests[0]).extendleft(reversed(requests[half:]))
        batch = Batch(requests[0].model, requests[0].query)
        for request in requests[1:half]:
            batch.add(request.query)
        return batch, requests[:half]

    # ---- computing ----

    def _compute(self, job: _Job) -> _Result:
        """On a worker, or on the event loop."""

        def is_cancelled() -> bool:
            return self._is_closed or all(request.done() for request in job.requests)

        batch = job.batch
        started_ns, started_busy_ns = perf_counter_ns(), thread_time_ns()
        try:
            query = batch.query().evolve(is_cancelled=is_cancelled)
            collated_ns = perf_counter_ns()
            answer = batch.model.pipeline.answer(query)
            inferred_ns = perf_counter_ns()
            answers: list[Answer | Exception] = [*batch.split(answer)]
        except Exception as error:  # noqa: BLE001 - whatever it is, it is one request's, and no other's
            return _Result(
                self._one_by_one(job, _without_frames(error)), BatchTimes(0, perf_counter_ns() - started_ns, 0)
            )
        times = BatchTimes(collated_ns - started_ns, inferred_ns - collated_ns, perf_counter_ns() - inferred_ns)
        return _Result(answers, times, thread_time_ns() - started_busy_ns)

    def _one_by_one(self, job: _Job, error: Exception) -> list[Answer | Exception]:
        """The answers of a batch that failed: only those whose query fails alone are errors."""
        if len(job.requests) == 1:
            return [error]
        alone = (
            _Job(Batch(job.batch.model, query), [request], job.started_ns)
            for request, query in zip(job.requests, job.batch.queries, strict=True)
        )
        return [answer for each in alone for answer in self._compute(each).answers]

    def _computed(self, job: _Job, computing: asyncio.Future[_Result]) -> None:
        """A worker is done with it."""
        self._running.remove(job)
        self._held.clear()
        if not computing.cancelled():
            self._finish(job, computing.result())
            return
        for request in job.requests:  # the service stops
            self._fail(request, _closed())

    def _finish(self, job: _Job, result: _Result) -> None:
        self._schedule()
        if result.busy_ns is not None:
            self._policy.computed(job.batch, result.busy_ns)
        self._policy.answered(len(job.requests))
        statistics = self.statistics(job.batch.model)
        statistics.computed(job.batch, [request.part for request in job.requests], result.times)
        for request, answer in zip(job.requests, result.answers, strict=True):
            if isinstance(answer, Exception):
                self._fail(request, _closed() if self._is_closed and isinstance(answer, DeadlineExceeded) else answer)
            elif not request.done():
                now_ns = perf_counter_ns()
                statistics.answered(request.part, job.started_ns - request.arrived_ns, now_ns - request.arrived_ns)
                request.answer(answer)

    def _fail(self, request: Request, error: Exception) -> None:
        if not request.done():
            request.set_exception(error)
        elif not request.cancelled():  # it was late already
            return
        self.statistics(request.model).fail.add(perf_counter_ns() - request.arrived_ns)


def _busy_ns(model: Model, query: Query) -> int:
    """How long this thread computes for it."""
    started_ns = thread_time_ns()
    model.pipeline.answer(query)
    return thread_time_ns() - started_ns


def _closed() -> NotReady:
    return NotReady("the service is shutting down")


def _without_frames(error: Exception) -> Exception:
    """The error without its traceback, whose frames hold the query; for the log that is kept as text.

    A waiter that holds its future and its error would else hold the query, and in a cycle with them.
    """
    if not isinstance(error, AppError):
        error.add_note("".join(traceback.format_exception(error)))
    linked: BaseException | None = error
    while linked is not None:
        linked.__traceback__ = None
        linked = linked.__cause__ or linked.__context__
    return error
