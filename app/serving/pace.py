"""`Pace`: how long a batch will take, from those that were computed before."""

from __future__ import annotations

from math import inf
from time import thread_time_ns
from weakref import WeakKeyDictionary

from app.repository.model import Model
from app.serving.batch import Batch

_NEWEST = 0.2
"""So much a batch counts beside all that came before it."""


class Pace:
    """Knows what a time step of a sequence takes, model by model, with a trace and without."""

    def __init__(self) -> None:
        self._step_ns: WeakKeyDictionary[Model, dict[bool, float]] = WeakKeyDictionary()
        self._loop_ns = self._answered = 0.0  # of late
        self._loop_had_ns = thread_time_ns()

    def foreseen_ns(self, batch: Batch) -> float:
        """Nanoseconds; infinite where that can't be told."""
        if not _is_steady(batch):
            return inf
        known = self._step_ns.get(batch.model)
        return inf if known is None else known.get(_is_traced(batch), inf) * batch.padded_steps

    def is_instant(self, batch: Batch, most_ns: float) -> bool:
        """Whether it will surely take no longer than that: what a trace takes also hangs on what is wanted of it."""
        return not _is_traced(batch) and self.foreseen_ns(batch) <= most_ns

    def learn(self, batch: Batch, ns: int) -> None:
        """This batch took so long."""
        if _is_steady(batch):
            known, kind, step_ns = self._step_ns.setdefault(batch.model, {}), _is_traced(batch), ns / batch.padded_steps
            before = known.get(kind, step_ns)
            known[kind] = before + _NEWEST * (step_ns - before)

    @property
    def around_ns(self) -> float:
        """What each query cost the event loop of late, with all that it did beside them."""
        return self._loop_ns / self._answered if self._answered else 0.0

    def answer(self, queries: int) -> None:
        """So many are answered; to be called on the event loop."""
        had, self._loop_had_ns = self._loop_had_ns, thread_time_ns()
        self._loop_ns += _NEWEST * (self._loop_had_ns - had - self._loop_ns)
        self._answered += _NEWEST * (queries - self._answered)


def _is_traced(batch: Batch) -> bool:
    return batch.queries[0].trace is not None


def _is_steady(batch: Batch) -> bool:
    """Whether it takes as long as its steps, on the processor."""
    first, pipeline = batch.queries[0], batch.model.pipeline
    return pipeline.rows_are_independent and pipeline.is_at_home and first.explain is None and not first.horizon
