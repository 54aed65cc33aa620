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
    """Finite float32 numbers; with `nulls` also null, which becomes NaN."""

    nulls: bool = False

    def read(self, nested: Nested, _: Expected) -> np.ndarray:
        """All of them, flat.

        Raises:
            ShapeError: with the places of what is none.
        """
        array = self._array(nested.items)
        if array is None:
            raise nested.error(lambda elements: self._array(elements) is not None, self._describe_error)
        return array

    def convert(self, array: np.ndarray, _: Expected) -> np.ndarray:
        """The numbers of an array that came as such; NaN is null.

        Raises:
            ShapeError: with the first place of what is none.
        """
        with np.errstate(over="ignore"):
            numbers = array.astype(np.float32, copy=False)
        is_invalid = np.isinf(numbers) if self.nulls else ~np.isfinite(numbers)
        if is_invalid.any():
            loc = tuple(int(index) for index in np.argwhere(is_invalid)[0])
            raise ShapeError(Place(loc, f"must be a finite float32 number, not {array[loc]:.6g}"))
        return numbers

    def json_schema(self) -> dict[str, Any]:
        """What one of them is."""
        number = {"type": "number"}
        return {"anyOf": [number, {"type": "null"}]} if self.nulls else number

    def _array(self, elements: list[Any]) -> np.ndarray | None:
        if not set(map(type, elements)) <= ({int, float, type(None)} if self.nulls else {int, float}):
            return None
        try:
            with np.errstate(over="ignore"):  # what overflows becomes infinite, and is refused as such
                array = np.array(elements, dtype=np.float32)
        except OverflowError:
            return None
        absent = elements.count(None) if self.nulls else 0
        return array if np.count_nonzero(np.isfinite(array)) == len(elements) - absent else None

    def _describe_error(self, element: Any) -> str | None:
        if element is None and self.nulls:
            return None
        if type(element) not in (int, float):
            return f"must be a number, not {shown(element)}"
        return None if self._array([element]) is not None else f"must be a finite float32 number, not {element:.6g}"


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


FLOATS, FLOATS_OR_NULL, TOKENS = Floats(), Floats(nulls=True), Tokens()


def _describe_token_error(element: Any, size: int, model: str) -> str | None:
    if type(element) is not int:
        return f"must be a token id, a whole number, not {shown(element)}"
    if not 0 <= element < size:
        return f"token id {element} is outside the vocabulary of model '{model}', 0 to {size - 1}"
    return None
