"""`Templates`: bodies that differ in nothing but their numbers ask for the same thing of other numbers."""

from __future__ import annotations

from collections import OrderedDict
from typing import Generic, NamedTuple, TypeVar
from weakref import WeakKeyDictionary

import numpy as np
import torch

from gatescope.pipeline.model import Model
from gatescope.pipeline.query import Query

Kept = TypeVar("Kept")

MAX_TEMPLATES = 1024
"""How many are kept of each model; the least recently used is dropped first."""

MAX_BODY_BYTES = 60_000
"""Of a body that is read by a template: what is larger costs more to compute than to read."""

MAX_KEY_BYTES = 32 * 1024
"""Bytes that a body may have beside its numbers."""

_NO_NUMBERS = torch.empty(0)


class Template(NamedTuple, Generic[Kept]):
    """What all bodies ask for that are alike but for their numbers."""

    shape: tuple[int, ...]  # (batch, time, feature)
    numbers: int  # how many there are
    query: Query
    kept: Kept
    largest: float | None = None
    """How large each number may be, where the model scales them and they are float64; None of float32."""

    @classmethod
    def of(cls, query: Query, kept: Kept, largest: float | None = None) -> Template[Kept]:
        """The template of a body that states this query."""
        return cls(tuple(query.inputs.shape), query.inputs.numel(), query.with_inputs(_NO_NUMBERS), kept, largest)

    def filled(self, numbers: np.ndarray) -> Query:
        """The query with these numbers, which are as many; flat, and float32 or float64 as the template's body."""
        return self.query.with_inputs(torch.from_numpy(numbers.reshape(self.shape)))


class Templates(Generic[Kept]):
    """Templates of every model, by what bodies say beside their numbers. For the event loop alone."""

    def __init__(self) -> None:
        self._of_models: WeakKeyDictionary[Model, OrderedDict[bytes, Template[Kept]]] = WeakKeyDictionary()

    def get(self, model: Model, key: bytes) -> Template[Kept] | None:
        """The template of the bodies that say this beside their numbers."""
        templates = self._of_models.get(model)
        if templates is None or (template := templates.get(key)) is None:
            return None
        templates.move_to_end(key)
        return template

    def put(self, model: Model, key: bytes, template: Template[Kept]) -> None:
        """Keep one."""
        templates = self._of_models.setdefault(model, OrderedDict())
        templates[key] = template
        if len(templates) > MAX_TEMPLATES:
            templates.popitem(last=False)
