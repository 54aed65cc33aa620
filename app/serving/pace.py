"""`Pace`: how long a batch will take, from those that were computed before."""

from __future__ import annotations

from math import inf
from weakref import WeakKeyDictionary

from app.repository.model import Model
from app.serving.batch import Batch

_NEWEST = 0.2
"""So much a batch counts beside all that came before it."""


class Pace:
    """Knows what a time step of a sequence takes, model by model."""

    def __init__(self) -> None:
        self._step_ns: WeakKeyDictionary[Model, float] = WeakKeyDictionary()

    def foreseen_ns(self, batch: Batch) -> float:
        """Nanoseconds; infinite where that can't be told."""
        if not batch.is_foreseeable:
            return inf
        return self._step_ns.get(batch.model, inf) * batch.padded_steps

    def learn(self, batch: Batch, ns: int) -> None:
        """This batch took so long."""
        if batch.is_foreseeable:
            step_ns = ns / batch.padded_steps
            before = self._step_ns.get(batch.model, step_ns)
            self._step_ns[batch.model] = before + _NEWEST * (step_ns - before)
