"""`CostModel`: predicts how long a batch takes, from those that were computed before."""

from __future__ import annotations

from math import inf
from time import thread_time_ns
from weakref import WeakKeyDictionary

from gatescope.pipeline.model import Model
from gatescope.server.serving import tuning
from gatescope.server.serving.collate import Batch

_BySize = dict[int, float]
_NOTHING: _BySize = {}


class CostModel:
    """Knows what a time step of a sequence takes, by model, by the size of the batch, with a trace and without.

    A step takes less in a larger batch: much of a small one is what lies around its kernels.
    """

    def __init__(self) -> None:
        self._step_ns: WeakKeyDictionary[Model, tuple[_BySize, _BySize]] = WeakKeyDictionary()  # untraced, traced
        self._loop_ns = self._answered = 0.0  # weighted sums
        self._loop_had_ns = thread_time_ns()

    def predicted_ns(self, batch: Batch) -> float:
        """Nanoseconds, as batches of about this size took; infinite where nothing is known."""
        known, size = self._known(batch), _size(batch)
        nearest = min(known, key=lambda other: abs(other - size), default=None)
        return inf if nearest is None else known[nearest] * batch.padded_steps

    def marginal_ns(self, batch: Batch) -> float:
        """Nanoseconds that it takes as a part of the largest batches; infinite where nothing is known."""
        return min(self._known(batch).values(), default=inf) * batch.padded_steps

    def computed(self, batch: Batch, ns: int) -> None:
        """Learn that this batch took so long."""
        if not _is_steady(batch):
            return
        known, size = self._step_ns.setdefault(batch.model, ({}, {}))[batch.is_traced], _size(batch)
        step_ns = ns / batch.padded_steps
        before = known.get(size, step_ns)
        weight = tuning.FASTER_WEIGHT if step_ns < before else tuning.SLOWER_WEIGHT
        known[size] = before + weight * (step_ns - before)

    def answered(self, queries: int) -> None:
        """Learn that so many were answered since the last call; to be called on the event loop."""
        had, self._loop_had_ns = self._loop_had_ns, thread_time_ns()
        self._loop_ns += tuning.LOOP_WEIGHT * (self._loop_had_ns - had - self._loop_ns)
        self._answered += tuning.LOOP_WEIGHT * (queries - self._answered)

    @property
    def loop_ns(self) -> float:
        """What each query cost the event loop of late, with all that it did beside them."""
        return self._loop_ns / self._answered if self._answered else 0.0

    def _known(self, batch: Batch) -> _BySize:
        """What a step takes in batches of each size."""
        known = self._step_ns.get(batch.model) if _is_steady(batch) else None
        return _NOTHING if known is None else known[batch.is_traced]


def _size(batch: Batch) -> int:
    """Batches of one size have at most twice as many steps as each other."""
    return batch.padded_steps.bit_length()


def _is_steady(batch: Batch) -> bool:
    """Whether it takes as long as its steps, on the processor."""
    first, pipeline = batch.queries[0], batch.model.pipeline
    is_plain = first.explain is None and not first.horizon and not first.interventions
    return pipeline.rows_are_independent and pipeline.is_cpu_float32 and is_plain
