"""`Pace`: how long a batch will take, from those that were computed before."""

from __future__ import annotations

from math import inf
from time import thread_time_ns
from weakref import WeakKeyDictionary

from gatescope.pipeline.model import Model
from gatescope.server.serving.collate import Batch

_NEWEST = 0.2
"""So much of what the event loop did counts beside all that came before it."""

_QUICKER, _SLOWER = 0.5, 0.05
"""So much a batch counts beside those before it: what else a thread's time goes to can only make it longer."""

_BySize = dict[int, float]
_NOTHING: _BySize = {}

_SLIGHT = 3
"""So many times as long something may take the event loop that costs it less than half of what lies around it."""


class Pace:
    """Knows what a time step of a sequence takes, model by model, in batches of every size, with a trace and without.

    A step takes less the more of them a batch has, for much of a small batch is what lies around its kernels.
    """

    def __init__(self) -> None:
        self._step_ns: WeakKeyDictionary[Model, tuple[_BySize, _BySize]] = WeakKeyDictionary()  # untraced, traced
        self._loop_ns = self._answered = 0.0  # of late
        self._loop_had_ns = thread_time_ns()

    def foreseen_ns(self, batch: Batch) -> float:
        """Nanoseconds, as batches of about this size took; infinite where that can't be told."""
        known, size = self._known(batch), _size(batch)
        nearest = min(known, key=lambda other: abs(other - size), default=None)
        return inf if nearest is None else known[nearest] * batch.padded_steps

    def added_ns(self, batch: Batch) -> float:
        """What it takes where it shares a batch with many others; infinite where that can't be told."""
        return min(self._known(batch).values(), default=inf) * batch.padded_steps

    def is_instant(self, batch: Batch, most_ns: float) -> bool:
        """Whether it will surely take no longer than that: what a trace takes also hangs on what is wanted of it.

        Where each of its queries costs the event loop more than twice as much as the device, it may take longer: two
        threads that want the interpreter in turns would lose more than there is to be gained by the second.
        """
        if _is_traced(batch):
            return False
        is_slight = 2 * self.added_ns(batch) <= self.around_ns * len(batch.queries)
        return self.foreseen_ns(batch) <= most_ns * (_SLIGHT if is_slight else 1)

    def learn(self, batch: Batch, ns: int) -> None:
        """This batch took so long."""
        if _is_steady(batch):
            known, size = self._step_ns.setdefault(batch.model, ({}, {}))[_is_traced(batch)], _size(batch)
            step_ns = ns / batch.padded_steps
            before = known.get(size, step_ns)
            known[size] = before + (_QUICKER if step_ns < before else _SLOWER) * (step_ns - before)

    def _known(self, batch: Batch) -> _BySize:
        """What a step takes in batches of each size."""
        known = self._step_ns.get(batch.model) if _is_steady(batch) else None
        return _NOTHING if known is None else known[_is_traced(batch)]

    @property
    def around_ns(self) -> float:
        """What each query cost the event loop of late, with all that it did beside them."""
        return self._loop_ns / self._answered if self._answered else 0.0

    def answer(self, queries: int) -> None:
        """So many are answered; to be called on the event loop."""
        had, self._loop_had_ns = self._loop_had_ns, thread_time_ns()
        self._loop_ns += _NEWEST * (self._loop_had_ns - had - self._loop_ns)
        self._answered += _NEWEST * (queries - self._answered)


def _size(batch: Batch) -> int:
    """Batches of one size have at most twice as many steps as each other."""
    return batch.padded_steps.bit_length()


def _is_traced(batch: Batch) -> bool:
    return batch.queries[0].trace is not None


def _is_steady(batch: Batch) -> bool:
    """Whether it takes as long as its steps, on the processor."""
    first, pipeline = batch.queries[0], batch.model.pipeline
    return pipeline.rows_are_independent and pipeline.is_at_home and first.explain is None and not first.horizon
