"""The elements of arrays in requests: `Floats` and `Tokens`, read from nested lists or checked in an array."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

import numpy as np

from gatescope.errors import Place
from gatescope.server.api.schema.nested_lists import Nested, shown
from gatescope.server.api.schema.shapes import Expected, ShapeError


@dataclass(frozen=True)
class Floats:
    """Finite float32 numbers, or float64 where the model scales them; null becomes NaN where one may be missing."""

    nulls: bool = False
    """Whether each may be missing, of any model."""
    role: str = ""
    """Under which `Expected.doubles` has them."""

    def read(self, nested: Nested, expected: Expected) -> np.ndarray:
        """All of them, flat.

        Raises:
            ShapeError: with the places of what is none.
        """
        largest, nulls = expected.doubles.get(self.role), self._takes_nulls(expected)
        array = _array(nested.items, largest, nulls=nulls)
        if array is None:
            raise nested.error(
                lambda elements: _array(elements, largest, nulls=nulls) is not None,
                lambda element: _describe_float_error(element, largest, nulls=nulls),
            )
        return array

    def convert(self, array: np.ndarray, expected: Expected) -> np.ndarray:
        """The numbers of an array that came as such; NaN is null.

        Raises:
            ShapeError: with the first place of what is none.
        """
        largest = expected.doubles.get(self.role)
        with np.errstate(over="ignore"):
            numbers = array.astype(_dtype(largest), copy=False)
        is_valid = _is_finite(numbers, largest)
        if self._takes_nulls(expected):
            is_valid |= np.isnan(numbers)
        if not is_valid.all():
            loc = tuple(int(index) for index in np.argwhere(~is_valid)[0])
            raise ShapeError(Place(loc, _too_large(array[loc], largest)))
        return numbers

    def json_schema(self) -> dict[str, Any]:
        """What one of them is."""
        number = {"type": "number"}
        return {"anyOf": [number, {"type": "null"}]} if self.nulls or self.role == INPUTS else number

    def _takes_nulls(self, expected: Expected) -> bool:
        return self.nulls or (expected.takes_gaps and self.role == INPUTS)


@dataclass(frozen=True)
class Tokens:
    """Token ids of the model's vocabulary, int64."""

    def read(self, nested: Nested, expected: Expected) -> np.ndarray:
        """All of them, flat.

        Raises:
            ShapeError: with the places of what is none.
        """
        size = expected.sizes["vocabulary"]
        nested.check(
            lambda elements: set(map(type, elements)) <= {int} and min(elements) >= 0 and max(elements) < size,
            lambda element: _describe_token_error(element, size, expected.model),
        )
        return np.array(nested.items, dtype=np.int64)

    def convert(self, array: np.ndarray, expected: Expected) -> np.ndarray:
        """The ids of an array that came as such.

        Raises:
            ShapeError: with the first place of what is none.
        """
        if array.dtype.kind != "i":
            raise ShapeError(Place((), f"token ids are whole numbers (int64 or int32), not {array.dtype}"))
        size = expected.sizes["vocabulary"]
        is_invalid = (array < 0) | (array >= size)
        if is_invalid.any():
            loc = tuple(int(index) for index in np.argwhere(is_invalid)[0])
            raise ShapeError(Place(loc, str(_describe_token_error(int(array[loc]), size, expected.model))))
        return array.astype(np.int64, copy=False)

    def json_schema(self) -> dict[str, Any]:
        """What one of them is."""
        return {"type": "integer", "minimum": 0}


FLOATS, TOKENS = Floats(), Tokens()

INPUTS, STATIC = "inputs", "static"
"""The roles of raw values: of each time step, and of a sequence as a whole."""

RAW, RAW_OR_NULL, STATIC_RAW = Floats(role=INPUTS), Floats(nulls=True, role=INPUTS), Floats(role=STATIC)

LARGEST = float(np.finfo(np.float32).max)


def _array(elements: list[Any], largest: float | None, *, nulls: bool) -> np.ndarray | None:
    """The numbers, NaN for null; None where one is none."""
    if not set(map(type, elements)) <= ({int, float, type(None)} if nulls else {int, float}):
        return None
    try:
        with np.errstate(over="ignore"):  # what overflows becomes infinite, and is refused as such
            array = np.array(elements, dtype=_dtype(largest))
    except OverflowError:
        return None
    absent = elements.count(None) if nulls else 0
    return array if np.count_nonzero(_is_finite(array, largest)) == len(elements) - absent else None


def _describe_float_error(element: Any, largest: float | None, *, nulls: bool) -> str | None:
    if element is None and nulls:
        return None
    if type(element) not in (int, float):
        return f"must be a number, not {shown(element)}"
    return None if _array([element], largest, nulls=nulls) is not None else _too_large(element, largest)


def _dtype(largest: float | None) -> type[np.floating[Any]]:
    return np.float32 if largest is None else np.float64


def _is_finite(numbers: np.ndarray, largest: float | None) -> np.ndarray:
    """Whether each is a number, and no larger than may be."""
    is_finite: np.ndarray = np.isfinite(numbers) if largest is None else np.abs(numbers) <= largest
    return is_finite


def _too_large(number: Any, largest: float | None) -> str:
    if largest is None or largest >= LARGEST or not abs(number) <= LARGEST:
        return f"must be a finite float32 number, not {number:.6g}"
    return f"must be at most {largest:.6g} in size, for the model scales it to float32, not {number:.6g}"


def _describe_token_error(element: Any, size: int, model: str) -> str | None:
    if type(element) is not int:
        return f"must be a token id, a whole number, not {shown(element)}"
    if not 0 <= element < size:
        return f"token id {element} is outside the vocabulary of model '{model}', 0 to {size - 1}"
    return None
