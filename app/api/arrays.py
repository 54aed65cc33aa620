"""Arrays in requests: pydantic types that name their axes and check them.

`Annotated[np.ndarray, Axes("batch time feature")]` takes nested lists of numbers, answers a float32 array, and says
of anything else at which place it stops being one. Numbers are looked at by NumPy and by C-level iterators; Python
walks over them only to find the place of an error.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass, field
from itertools import chain, islice
from typing import Any

import numpy as np
from pydantic import GetCoreSchemaHandler, GetJsonSchemaHandler, ValidationError, ValidationInfo
from pydantic_core import InitErrorDetails, PydanticCustomError, core_schema

from app.errors import Place

Loc = tuple[str | int, ...]
MAX_PLACES = 10
FLOAT32_MAX = float(np.finfo(np.float32).max)

_ONE_AND_MANY = {
    "batch": ("sequence", "sequences"),
    "time": ("time step", "time steps"),
    "step": ("future step", "future steps"),
    "feature": ("feature", "features"),
    "layer_direction": ("entry", "entries (layers · directions)"),
    "hidden_unit": ("unit", "hidden units"),
    "cell_unit": ("unit", "cell units"),
}


@dataclass(frozen=True)
class Expected:
    """How long the named axes of this model are; goes along with the validation as its context."""

    model: str
    kind: str = "features"
    """What `inputs` holds: `features` or `tokens`."""
    sizes: Mapping[str, int] = field(default_factory=dict)


class ShapeError(Exception):
    """What is wrong with nested lists, and where."""

    def __init__(self, *places: Place) -> None:
        super().__init__(*places)
        self.places = places


@dataclass(frozen=True)
class Axes:
    """Nested lists of numbers with these axes, outermost first.

    Args:
        names: the axes, such as `"batch time feature"`.
        nulls: whether a value may be null; it becomes NaN.
        integers: whether values must be token ids (int64) rather than float32 numbers.
        optional_batch: whether the first axis may be left out, for a batch of one.
    """

    names: str
    nulls: bool = False
    integers: bool = False
    optional_batch: bool = False

    def parse(self, value: Any, expected: Expected, owner: str = "the array", loc: Loc = ()) -> np.ndarray:
        """The array.

        Args:
            value: what was sent.
            expected: the lengths of this model's axes.
            owner: what the value is, for messages.
            loc: where it stands.

        Raises:
            ShapeError: with up to `MAX_PLACES` places.
        """
        axes = self.names.split()
        if self.optional_batch and _depth(value) == len(axes) - 1:
            return self._parse(value, axes[1:], expected, owner, loc)[None]
        return self._parse(value, axes, expected, owner, loc)

    def _parse(self, value: Any, axes: list[str], expected: Expected, owner: str, loc: Loc) -> np.ndarray:
        array = self._convert(value, len(axes))
        if array is None or not self._fits(array, axes, expected):
            raise ShapeError(*islice(self._wrong(value, axes, expected, owner, loc), MAX_PLACES))
        return array

    def _convert(self, value: Any, depth: int) -> np.ndarray | None:
        """The array, if every leaf is a number of the right kind and the nesting is regular."""
        allowed = {int} if self.integers else {int, float, type(None)} if self.nulls else {int, float}
        leaves = value
        try:
            for _ in range(depth - 1):
                leaves = chain.from_iterable(leaves)
            if not set(map(type, leaves)) <= allowed:
                return None
            with np.errstate(over="ignore"):  # what overflows becomes infinite, and is refused as such
                return np.array(value, dtype=np.int64 if self.integers else np.float32)
        except (TypeError, ValueError, OverflowError):
            return None

    def _fits(self, array: np.ndarray, axes: list[str], expected: Expected) -> bool:
        if array.ndim != len(axes) or array.size == 0:
            return False
        if any(expected.sizes.get(axis, size) != size for axis, size in zip(axes, array.shape, strict=True)):
            return False
        if self.integers:
            return bool((array >= 0).all() and (array < expected.sizes.get("vocabulary", np.inf)).all())
        return bool((~np.isinf(array)).all()) if self.nulls else bool(np.isfinite(array).all())

    def _wrong(
        self, value: Any, axes: list[str], expected: Expected, owner: str, loc: Loc, usual: int | None = None
    ) -> Iterator[Place]:
        """Every place where something does not fit; `usual` is the length of the first sibling."""
        if not axes:
            if message := self._wrong_leaf(value, expected):
                yield Place(loc, message)
            return
        if message := _wrong_list(value, axes[0], expected, owner, usual):
            yield Place(loc, message)
            return
        first = len(value[0]) if isinstance(value[0], list) else None
        one, _ = _ONE_AND_MANY[axes[0]]
        for index, item in enumerate(value):
            yield from self._wrong(item, axes[1:], expected, one, (*loc, index), first)

    def _wrong_leaf(self, value: Any, expected: Expected) -> str | None:
        if value is None and self.nulls:
            return None
        if self.integers:
            return _wrong_token(value, expected)
        if type(value) not in (int, float):
            return f"must be a number, not {_shown(value)}"
        if not abs(value) <= FLOAT32_MAX:  # NaN compares false
            return f"must be a finite float32 number, not {value:.6g}"
        return None

    def __get_pydantic_core_schema__(self, source: Any, handler: GetCoreSchemaHandler) -> core_schema.CoreSchema:
        """A validator that reads the model's sizes from the validation's context."""

        def validate(value: Any, info: ValidationInfo) -> np.ndarray:
            with located():
                return self.parse(value, _context(info), info.field_name or "the array")

        return core_schema.with_info_plain_validator_function(validate)

    def __get_pydantic_json_schema__(
        self, schema: core_schema.CoreSchema, handler: GetJsonSchemaHandler
    ) -> dict[str, Any]:
        """Nested arrays, each titled with its axis."""
        return self.json_schema()

    def json_schema(self) -> dict[str, Any]:
        """Nested arrays, each titled with its axis."""
        leaf: dict[str, Any] = {"type": "integer", "minimum": 0} if self.integers else {"type": "number"}
        if self.nulls:
            leaf = {"anyOf": [leaf, {"type": "null"}]}
        for axis in reversed(self.names.split()):
            leaf = {"type": "array", "minItems": 1, "title": axis, "items": leaf}
        return leaf


BATCHES = {
    ("features", "batch_time_feature"): Axes("batch time feature"),
    ("features", "time_batch_feature"): Axes("time batch feature"),
    ("tokens", "batch_time_feature"): Axes("batch time", integers=True),
    ("tokens", "time_batch_feature"): Axes("time batch", integers=True),
}
"""What `inputs` is, by what the model takes and the layout of the request."""

SEQUENCES = {"features": Axes("time feature"), "tokens": Axes("time", integers=True)}
"""One sequence of it."""


class Sequences:
    """The pydantic type of `inputs`: a batch that may be ragged in time, or a lone sequence.

    It becomes a list of arrays, (time, feature) or (time,) each, and needs the field `layout` before it.
    """

    @staticmethod
    def parse(value: Any, layout: str, expected: Expected) -> list[np.ndarray]:
        """One array per sequence.

        Raises:
            ShapeError: with the places.
        """
        alone = SEQUENCES[expected.kind]
        if isinstance(value, list) and _depth(value) == len(alone.names.split()):
            return [alone.parse(value, expected, "the sequence")]
        if layout == "time_batch_feature":
            return list(BATCHES[expected.kind, layout].parse(value, expected, "inputs").swapaxes(0, 1))
        if message := _wrong_list(value, "batch", expected, "inputs", None):
            raise ShapeError(Place((), message))
        return [alone.parse(sequence, expected, "sequence", (index,)) for index, sequence in enumerate(value)]

    @classmethod
    def __get_pydantic_core_schema__(cls, source: Any, handler: GetCoreSchemaHandler) -> core_schema.CoreSchema:
        """A validator that reads `layout` from the request and the model's sizes from the context."""

        def validate(value: Any, info: ValidationInfo) -> list[np.ndarray]:
            with located():
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


@contextmanager
def located() -> Iterator[None]:
    """Raise a `ShapeError` as pydantic's own, which adds the field's place in front."""
    try:
        yield
    except ShapeError as error:
        lines = [
            InitErrorDetails(type=PydanticCustomError("shape", "{message}", {"message": message}), loc=loc, input=None)
            for loc, message in error.places
        ]
        raise ValidationError.from_exception_data("array", lines) from None


def _wrong_list(value: Any, axis: str, expected: Expected, owner: str, usual: int | None) -> str | None:
    one, many = _ONE_AND_MANY[axis]
    if not isinstance(value, list):
        return f"{owner} must be a list of {many}, not {_shown(value)}"
    if not value:
        return f"{owner} has no {many}"
    has = f"{owner} has {len(value)} {one if len(value) == 1 else many}"
    wanted = expected.sizes.get(axis)
    if wanted is not None:
        return None if len(value) == wanted else f"{has}; model '{expected.model}' takes {wanted}"
    return None if usual in (None, len(value)) else f"{has}; the first one has {usual}"


def _wrong_token(value: Any, expected: Expected) -> str | None:
    size = expected.sizes["vocabulary"]
    if type(value) is not int:
        return f"must be a token id, a whole number, not {_shown(value)}"
    if not 0 <= value < size:
        return f"token id {value} is outside the vocabulary of model '{expected.model}', 0 to {size - 1}"
    return None


def _depth(value: Any) -> int:
    depth = 0
    while isinstance(value, list):
        depth += 1
        value = value[0] if value else None
    return depth


def _shown(value: Any) -> str:
    if isinstance(value, str):
        return f"the string {value[:20]!r}"
    kinds = {list: "a list", dict: "an object", bool: str(value).lower(), type(None): "null"}
    return kinds.get(type(value), f"{value}")
