"""`Prepared`: bodies that differ in nothing but their numbers ask for the same thing of other numbers."""

from __future__ import annotations

from collections.abc import Callable
from typing import Generic, NamedTuple, TypeVar
from weakref import WeakKeyDictionary

import torch

from app.api import body, dense, query
from app.api.limits import Limits
from app.api.schemas import PredictRequest
from app.errors import AppError
from app.pipeline.features import FeatureInputs
from app.pipeline.query import Query
from app.repository.model import Model

Schema = TypeVar("Schema", bound=PredictRequest)

MOST_SHAPES = 1024
"""So many are remembered of each model."""

LONGEST = 32 * 1024
"""So many bytes the brackets and commas may have of a body that is remembered."""

_NO_NUMBERS = torch.empty(0)


class _Shape(NamedTuple):
    """What all bodies of a shape ask for."""

    sizes: tuple[int, ...]  # (batch, time, feature)
    numbers: int  # in all
    query: Query


class Prepared(Generic[Schema]):
    """Queries by the shape of the bodies that state them: the first of a shape is read as any, the next ones sooner.

    It knows rectangles of numbers without anything beside them, which most requests are.

    Args:
        schema: of the bodies.
        to_query: what a request of this schema means.
    """

    def __init__(self, schema: type[Schema], to_query: Callable[[Schema, Model, Limits], Query]) -> None:
        self._schema, self._to_query = schema, to_query
        self._shapes: WeakKeyDictionary[Model, dict[bytes, _Shape]] = WeakKeyDictionary()

    def query(self, content: bytes, model: Model, limits: Limits) -> Query | None:
        """The query that this body states; None of one that must be looked at more closely, and perhaps refused."""
        shapes = self._shapes.get(model)
        if shapes is None:
            shapes = self._shapes[model] = {}
        skeleton = dense.skeleton_of(content)
        shape = shapes.get(skeleton) or self._learnt(content, skeleton, shapes, model, limits)
        if shape is None:
            return None
        numbers = dense.numbers_of(content)
        if numbers is None or len(numbers) != shape.numbers:
            return None
        return shape.query.reading(torch.from_numpy(numbers.reshape(shape.sizes)))

    def _learnt(
        self, content: bytes, skeleton: bytes, shapes: dict[bytes, _Shape], model: Model, limits: Limits
    ) -> _Shape | None:
        """The shape of a body that is the first of it."""
        inputs = model.manifest.input
        if len(skeleton) > LONGEST or not isinstance(inputs, FeatureInputs) or inputs.has_categories:
            return None
        asked = body.dense_request(content, self._schema, query.expected(model).within(limits))
        if asked is None:
            return None
        try:
            first = self._to_query(asked, model, limits)
        except AppError:
            return None
        if first.is_ragged:
            return None
        if len(shapes) == MOST_SHAPES:
            shapes.clear()
        sizes, count = tuple(first.inputs.shape), first.inputs.numel()
        shape = shapes[skeleton] = _Shape(sizes, count, first.reading(_NO_NUMBERS))
        return shape
