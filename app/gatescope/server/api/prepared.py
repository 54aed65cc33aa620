"""`Prepared`: bodies that differ in nothing but their numbers ask for the same thing of other numbers."""

from __future__ import annotations

from abc import ABC, abstractmethod
from collections.abc import Callable
from typing import Any, Generic, NamedTuple, TypeVar
from weakref import WeakKeyDictionary

import numpy as np
import torch

from gatescope.errors import AppError
from gatescope.pipeline.features import FeatureInputs
from gatescope.pipeline.model import Model
from gatescope.pipeline.query import Query
from gatescope.server.api import body, dense, query, tensors
from gatescope.server.api.limits import Limits
from gatescope.server.api.nested import Expected
from gatescope.server.api.schemas import PredictRequest

Kept = TypeVar("Kept")
Schema = TypeVar("Schema", bound=PredictRequest)

MOST_SHAPES = 1024
"""So many are remembered of each model."""

LONGEST = 32 * 1024
"""So many bytes a body may have beside its numbers that is remembered."""

_FLOAT_BYTES = 4
_NO_NUMBERS = torch.empty(0)


class _Shape(NamedTuple):
    """What all bodies ask for that are alike but for their numbers."""

    sizes: tuple[int, ...]  # (batch, time, feature)
    numbers: int  # in all
    query: Query
    kept: Any


class Prepared(ABC, Generic[Kept]):
    """Queries by what bodies say beside their numbers: the first of its kind is read as any, the next ones sooner."""

    def __init__(self) -> None:
        self._shapes: WeakKeyDictionary[Model, dict[bytes, _Shape]] = WeakKeyDictionary()

    def find(self, head: bytes, content: bytes, model: Model, limits: Limits) -> tuple[Query, Kept] | None:
        """The query that a body states, and what was kept beside the first of its kind.

        Args:
            head: all that the body says beside its numbers; nothing where that cannot be told.
            content: the body.
            model: is asked.
            limits: the operator's.

        Returns:
            None where the body must be looked at more closely, and perhaps refused.
        """
        shapes = self._shapes.get(model)
        if shapes is None:
            shapes = self._shapes[model] = {}
        shape = shapes.get(head) or (head and self._learnt(head, content, shapes, model, limits))
        if not shape:
            return None
        numbers = self._numbers(content, head)
        if numbers is None or len(numbers) != shape.numbers:
            return None
        return shape.query.with_inputs(torch.from_numpy(numbers.reshape(shape.sizes))), shape.kept

    def _learnt(
        self, head: bytes, content: bytes, shapes: dict[bytes, _Shape], model: Model, limits: Limits
    ) -> _Shape | None:
        if len(head) > LONGEST or not _is_plain(model):
            return None
        try:
            read = self._read(head, content, model, limits)
        except AppError:
            return None
        if read is None or read[0].is_ragged:
            return None
        if len(shapes) == MOST_SHAPES:
            shapes.clear()
        first, kept = read
        sizes, count = tuple(first.inputs.shape), first.inputs.numel()
        shape = shapes[head] = _Shape(sizes, count, first.with_inputs(_NO_NUMBERS), kept)
        return shape

    @abstractmethod
    def _read(self, head: bytes, content: bytes, model: Model, limits: Limits) -> tuple[Query, Kept] | None:
        """What a body states, read as any; None of one whose next ones may state something else."""

    @abstractmethod
    def _numbers(self, content: bytes, head: bytes) -> np.ndarray | None:
        """All numbers as float32, flat; None where one is none, or they must be looked at one by one."""


class _Requests(Prepared[None], Generic[Schema]):
    """Of bodies that are one request.

    Args:
        schema: of the bodies.
        to_query: what a request of this schema means.
    """

    def __init__(self, schema: type[Schema], to_query: Callable[[Schema, Model, Limits], Query]) -> None:
        super().__init__()
        self._schema, self._to_query = schema, to_query

    def query(self, content: bytes, model: Model, limits: Limits) -> Query | None:
        """The query that a body states; None of one that must be looked at more closely."""
        found = self.find(self._head(content), content, model, limits)
        return None if found is None else found[0]

    def _read(self, head: bytes, content: bytes, model: Model, limits: Limits) -> tuple[Query, None] | None:
        asked = self._request(head, content, query.expected(model).within(limits))
        return None if asked is None else (self._to_query(asked, model, limits), None)

    @abstractmethod
    def _head(self, content: bytes) -> bytes:
        """All that a body says beside its numbers."""

    @abstractmethod
    def _request(self, head: bytes, content: bytes, expected: Expected) -> Schema | None:
        """What a body states, read as any; None of one whose next ones may state something else."""


class PreparedJSON(_Requests[Schema]):
    """Of bodies in JSON that have `inputs`, a rectangle of numbers, and nothing else."""

    def _head(self, content: bytes) -> bytes:
        return dense.skeleton_of(content)

    def _request(self, head: bytes, content: bytes, expected: Expected) -> Schema | None:  # noqa: ARG002 - no part of it
        return body.dense_request(content, self._schema, expected)

    def _numbers(self, content: bytes, head: bytes) -> np.ndarray | None:  # noqa: ARG002 - likewise
        return dense.numbers_of(content)


class PreparedTensors(_Requests[Schema]):
    """Of bodies in safetensors with one tensor, `inputs` in float32; whatever else they say stands in their head."""

    def _head(self, content: bytes) -> bytes:
        return tensors.head_of(content)

    def _request(self, head: bytes, content: bytes, expected: Expected) -> Schema | None:
        asked = body.checked(tensors.fields_of(content), self._schema, expected)
        described = {name: value for name, value in tensors.described_in(head).items() if name != tensors.METADATA}
        is_lone = described.keys() == {"inputs"} and described["inputs"]["dtype"] == "F32"
        return asked if is_lone else None

    def _numbers(self, content: bytes, head: bytes) -> np.ndarray | None:
        return floats_behind(content, len(head))


def _is_plain(model: Model) -> bool:
    """Whether it takes any numbers, and says nothing of its own about them."""
    inputs = model.manifest.input
    takes_any = isinstance(inputs, FeatureInputs) and not inputs.has_categories and model.vocabulary is None
    return takes_any and model.pipeline.rows_are_independent


def floats_behind(content: bytes, start: int) -> np.ndarray | None:
    """The rest of a body from there on as float32; None where it cannot be, or as `dense.finite` has it."""
    if start >= len(content) or (len(content) - start) % _FLOAT_BYTES:
        return None
    return dense.finite(np.frombuffer(content, dtype="<f4", offset=start))
