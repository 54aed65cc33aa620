"""`Policy`: which requests are computed next, together with which others, and where.

To schedule in another way is to write another `Policy`; `Scheduler` knows only the protocol.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import NamedTuple, Protocol

from gatescope.server.serving import tuning
from gatescope.server.serving.collate import Batch
from gatescope.server.serving.cost import CostModel
from gatescope.server.serving.request import Request


class Placement(NamedTuple):
    """Where a batch is computed."""

    is_inline: bool
    """On the event loop; else on a worker."""
    cores: int


INLINE = Placement(is_inline=True, cores=1)


class Policy(Protocol):
    """Is asked by the scheduler, on the event loop."""

    def may_start(self, request: Request, running: Sequence[Batch]) -> bool:
        """Whether this request need not wait for a batch that workers compute now."""

    def max_requests(self, first: Request, waiting: int, running: Sequence[Batch]) -> int:
        """How many requests a batch may have that begins with this one, where so many others wait."""

    def joins(self, batch: Batch, request: Request) -> bool:
        """Whether this request is to be computed along."""

    def place(self, batch: Batch, *, is_alone: bool) -> Placement:
        """Where to compute it; `is_alone` if it is one request, and nothing else waits or is computed."""

    def computed(self, batch: Batch, ns: int) -> None:
        """Learn that a thread computed for so long."""

    def answered(self, requests: int) -> None:
        """Learn that so many requests were answered."""


class BatchingPolicy:
    """Large batches where they pay, several batches beside one another where those pay more.

    A short request waits for the batch of its model that is computed now, to be part of a larger one. A long one, which
    costs a device more than it costs the event loop, is computed beside it (decision 14).

    Args:
        max_batch_size: how many sequences are computed together; a request with more is computed alone.
        workers: how many batches are computed beside one another.
        cores: of all workers together.
    """

    def __init__(self, max_batch_size: int, workers: int, cores: int) -> None:
        self._max_batch_size, self._workers = max_batch_size, workers
        self._cores, self._worker_cores = cores, max(1, cores // workers)
        self.cost = CostModel()

    def may_start(self, request: Request, running: Sequence[Batch]) -> bool:
        """Whether no batch of its model is computed now, or it is long.

        Modules with code of their own are never computed beside one another: that code need not bear it.
        """
        model = request.model
        if not model.pipeline.is_reentrant:
            return all(batch.model.pipeline.is_reentrant for batch in running)
        return all(batch.model is not model for batch in running) or self._is_long(request)

    def max_requests(self, first: Request, waiting: int, running: Sequence[Batch]) -> int:
        """A share of what waits and what is computed.

        Were a worker to take all that waits, the others would be left with what comes meanwhile, in batches too small
        to pay, and at its end all would wait for this worker again.
        """
        most, model = waiting + 1, first.model
        if model.pipeline.is_reentrant and self._is_long(first):
            started = sum(len(batch.queries) for batch in running if batch.model is model)
            least = tuning.MIN_SHARE_QUERIES if first.part.is_whole else 1
            share = max(least, -(-(most + started) // self._workers))
            most = share if most > tuning.UNDIVIDED_SHARES * share else most
        return min(rounded_down(most) if model.pipeline.is_cpu_float32 else most, self._max_batch_size)

    def joins(self, batch: Batch, request: Request) -> bool:
        """Whether it goes with the others, and the batch does not become too large."""
        query = request.query
        fits = batch.sequences + query.sequences <= self._max_batch_size
        return fits and batch.accepts(request.model, query)

    def place(self, batch: Batch, *, is_alone: bool) -> Placement:
        """On the event loop, where it is short; else on one core, on a worker's cores, or on all of them."""
        if self._is_short(batch):
            return INLINE
        if not batch.is_wide:
            return Placement(is_inline=False, cores=1)
        return Placement(is_inline=False, cores=self._cores if is_alone else self._worker_cores)

    def computed(self, batch: Batch, ns: int) -> None:
        """Predict from it."""
        self.cost.computed(batch, ns)

    def answered(self, requests: int) -> None:
        """Compare the event loop's work with it."""
        self.cost.answered(requests)

    def _is_long(self, request: Request) -> bool:
        """Whether it costs a device more than the event loop; else the event loop is what all wait for."""
        return self.cost.marginal_ns(Batch(request.model, request.query)) >= self.cost.loop_ns

    def _is_short(self, batch: Batch) -> bool:
        """Whether it will surely take no longer than the event loop may be kept busy.

        What a trace takes also depends on what is wanted of it, so it is never sure. Where each query costs the event
        loop more than twice as much as the device, a batch may take longer: two threads that want the GIL would lose
        more than the second gains.
        """
        if batch.is_traced:
            return False
        is_slight = 2 * self.cost.marginal_ns(batch) <= self.cost.loop_ns * len(batch.queries)
        limit_ns = tuning.INLINE_NS * (tuning.INLINE_SLIGHT_FACTOR if is_slight else 1)
        return self.cost.predicted_ns(batch) <= limit_ns


def rounded_down(count: int) -> int:
    """One of 1, 2, 3, 4, 5, 6, 7, 8, 10, 12, 14, 16, 20, 24, …: four between a power of two and the next."""
    grain = 1 << max(0, count.bit_length() - tuning.SIZES_PER_OCTAVE_BITS - 1)
    return count - count % grain
