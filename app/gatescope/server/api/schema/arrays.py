"""Arrays in requests: pydantic types that name their axes and check them.

`Annotated[np.ndarray, Axes("batch time feature")]` takes nested lists of numbers, answers a float32 array, or float64
where the model scales them, and says of anything else at which place it stops being one.
"""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import dataclass
from typing import Any

import numpy as np
from pydantic import GetCoreSchemaHandler, GetJsonSchemaHandler, ValidationInfo
from pydantic_core import core_schema

from gatescope.server.api.schema.elements import FLOATS, RAW, TOKENS, Floats, Tokens
from gatescope.server.api.schema.nested_lists import depth_of, unnest
from gatescope.server.api.schema.shapes import Expected, Loc, as_validation_error, check_array


@dataclass(frozen=True)
class Axes:
    """Nested lists of numbers with these axes, outermost first.

    Args:
        names: the axes, such as `"batch time feature"`.
        elements: the numbers that it holds.
        optional_batch: whether the first axis may be left out, for a batch of one; the array then lacks it, too.
    """

    names: str
    elements: Floats | Tokens = FLOATS
    optional_batch: bool = False

    def parse(self, value: Any, expected: Expected, owner: str = "the array") -> np.ndarray:
        """The array.

        Args:
            value: what was sent.
            expected: the lengths of this model's axes.
            owner: what the value is, for messages.

        Raises:
            ShapeError: with the places.
        """
        axes, expected = self.names.split(), self._fitting(value, expected)
        if self.optional_batch and depth_of(value) == len(axes) - 1:
            axes = axes[1:]
        if isinstance(value, np.ndarray):
            check_array(value, axes, expected, owner)
            return self.elements.convert(value, expected)
        nested = unnest(value, axes, expected, owner)
        return self.elements.read(nested, expected).reshape(nested.shape)

    def parse_ragged(self, value: Any, expected: Expected, owner: str) -> list[np.ndarray]:
        """One array for each item of the first axis; they may differ in length along the second.

        Raises:
            ShapeError: with the places.
        """
        if isinstance(value, np.ndarray):
            return list(self.parse(value, expected, owner))
        axes, expected = self.names.split(), self._fitting(value, expected)
        nested = unnest(value, axes, expected, owner, ragged=axes[1:2])
        rows = self.elements.read(nested, expected).reshape(-1, *(int(lengths[0]) for lengths in nested.lengths[2:]))
        lengths = nested.lengths[1].tolist()
        ends = np.cumsum(nested.lengths[1]).tolist()
        return [rows[end - length : end] for end, length in zip(ends, lengths, strict=True)]

    def _fitting(self, value: Any, expected: Expected) -> Expected:
        """What is expected of numbers that may lack the features that follow from times: the first step shows it."""
        if expected.stated_features is None or not self.names.endswith(" feature"):
            return expected
        if isinstance(value, np.ndarray):
            return expected.of_features(value.shape[-1] if value.ndim else None)
        while isinstance(value, list) and value and isinstance(value[0], list):
            value = value[0]
        return expected.of_features(len(value) if isinstance(value, list) else None)

    def __get_pydantic_core_schema__(self, source: Any, handler: GetCoreSchemaHandler) -> core_schema.CoreSchema:
        """A validator that reads the model's sizes from the validation's context."""

        def validate(value: Any, info: ValidationInfo) -> np.ndarray:
            with as_validation_error():
                return self.parse(value, _context(info), info.field_name or "the array")

        return core_schema.with_info_plain_validator_function(validate)

    def __get_pydantic_json_schema__(
        self, schema: core_schema.CoreSchema, handler: GetJsonSchemaHandler
    ) -> dict[str, Any]:
        """Nested arrays, each titled with its axis."""
        return self.json_schema()

    def json_schema(self) -> dict[str, Any]:
        """Nested arrays, each titled with its axis."""
        axes = self.names.split()
        whole = self._json_schema(axes)
        if not self.optional_batch:
            return whole
        choices = (whole | {"title": " × ".join(axes)}, self._json_schema(axes[1:]) | {"title": " × ".join(axes[1:])})
        return {"anyOf": list(choices)}

    def _json_schema(self, axes: list[str]) -> dict[str, Any]:
        schema = self.elements.json_schema()
        for axis in reversed(axes):
            schema = {"type": "array", "minItems": 1, "title": axis, "items": schema}
        return schema


BATCHES = {
    ("features", "batch_time_feature"): Axes("batch time feature", RAW),
    ("features", "time_batch_feature"): Axes("time batch feature", RAW),
    ("tokens", "batch_time_feature"): Axes("batch time", TOKENS),
    ("tokens", "time_batch_feature"): Axes("time batch", TOKENS),
}
"""What `inputs` is, by what the model takes and the layout of the request."""

SEQUENCES = {"features": Axes("time feature", RAW), "tokens": Axes("time", TOKENS)}
"""One sequence of it."""


class Sequences(list[np.ndarray]):
    """`inputs`: a batch that may be ragged in time, or a lone sequence, as arrays (time, feature) or (time,).

    A pydantic type; it needs the field `layout` before it. It remembers how it was sent.
    """

    def __init__(self, sequences: Iterable[np.ndarray], *, is_single: bool = False, time_first: bool = False) -> None:
        super().__init__(sequences)
        self.is_single, self.time_first = is_single, time_first

    def loc(self, row: int | str, *within: int | str) -> Loc:
        """Where in what was sent a sequence stands, or a time step of it, or a feature of that."""
        if self.is_single:
            return within
        if not self.time_first:
            return (row, *within)
        return (within[0], row, *within[1:]) if within else ()

    @classmethod
    def parse(cls, value: Any, layout: str, expected: Expected) -> Sequences:
        """One array per sequence.

        Raises:
            ShapeError: with the places.
        """
        single = SEQUENCES[expected.kind]
        if depth_of(value) == len(single.names.split()):
            return cls([single.parse(value, expected, "the sequence")], is_single=True)
        axes = BATCHES[expected.kind, layout]
        if layout == "time_batch_feature":
            return cls(axes.parse(value, expected, "inputs").swapaxes(0, 1), time_first=True)
        return cls(axes.parse_ragged(value, expected, "inputs"))

    @classmethod
    def __get_pydantic_core_schema__(cls, source: Any, handler: GetCoreSchemaHandler) -> core_schema.CoreSchema:
        """A validator that reads `layout` from the request and the model's sizes from the context."""

        def validate(value: Any, info: ValidationInfo) -> Sequences:
            with as_validation_error():
                return cls.parse(value, info.data.get("layout", "batch_time_feature"), _context(info))

        return core_schema.with_info_plain_validator_function(validate)

    @classmethod
    def __get_pydantic_json_schema__(
        cls, schema: core_schema.CoreSchema, handler: GetJsonSchemaHandler
    ) -> dict[str, Any]:
        """A batch, or a lone sequence, of features or of tokens."""
        choices = [*BATCHES.values(), *SEQUENCES.values()]
        return {"anyOf": [axes.json_schema() | {"title": axes.names.replace(" ", " × ")} for axes in choices]}


def _context(info: ValidationInfo) -> Expected:
    if not isinstance(info.context, Expected):
        raise TypeError("arrays are validated with the model's `Expected` as context")
    return info.context
