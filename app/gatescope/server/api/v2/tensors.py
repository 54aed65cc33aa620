"""Tensors as the protocol writes them, in binary or JSON, to and from arrays."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from itertools import chain
from math import prod
from typing import Any

import numpy as np

from gatescope.errors import Place
from gatescope.server.api.messages import Content
from gatescope.server.api.schema.elements import Floats
from gatescope.server.api.schema.nested_lists import Nested, shown
from gatescope.server.api.schema.shapes import Expected, ShapeError

_FLOATS = {"FP16": "<f2", "FP32": "<f4", "FP64": "<f8", "BF16": "<u2"}
_INTEGERS = {
    f"{sign}INT{bits}": f"<{kind}{bits // 8}" for sign, kind in (("", "i"), ("U", "u")) for bits in (8, 16, 32, 64)
}
_NUMBERS = _FLOATS | _INTEGERS
_DOUBLE = "double"
_DOUBLES = {_DOUBLE: float(np.finfo(np.float64).max)}
_LENGTH_BYTES = 4  # before each element of BYTES
_COPIED_BYTES = 32 * 1024  # so many cost less to copy than to look at without a copy

READ_AS = {"FP32": tuple(_NUMBERS), "INT64": tuple(_INTEGERS), "BYTES": ("BYTES",)}
"""The datatypes that may come where a model takes one of these: what is no loss to convert, or is refused if it is."""

Array = np.ndarray | list[str]


def from_binary(content: memoryview, datatype: str, shape: Sequence[int]) -> Array:
    """The tensor that these bytes are: little-endian, row after row; texts for BYTES.

    Raises:
        ShapeError: there are more or fewer bytes than the shape says, or they are no text.
    """
    if datatype == "BYTES":
        return _texts(content, prod(shape))
    wanted = prod(shape) * np.dtype(_NUMBERS[datatype]).itemsize
    if len(content) != wanted:
        raise _error(f"has {len(content):,} bytes; {datatype} of shape {list(shape)} has {wanted:,}")
    numbers = np.frombuffer(content, dtype=_NUMBERS[datatype]).reshape(shape)
    if datatype == "BF16":  # the upper half of a float32
        return (numbers.astype(np.uint32) << 16).view(np.float32)
    return _as_signed(numbers.copy())  # which aligns them: they may stand anywhere in the body


def from_json(data: Any, datatype: str, shape: Sequence[int], *, nulls: bool = False) -> Array:
    """The tensor that this list is: flat, or nested as the shape says; NaN stands for null where that may be.

    Raises:
        ShapeError: it has another number of elements than the shape says, or what is none of this datatype.
    """
    if datatype == "BF16":
        raise _error("BF16 comes as binary data only")
    nested = Nested(_flat(data, shape), _lengths(shape))
    if datatype in _FLOATS:
        expected = Expected("", doubles=_DOUBLES if datatype == "FP64" else {})
        return Floats(nulls=nulls, role=_DOUBLE).read(nested, expected).reshape(shape)
    if datatype in _INTEGERS:
        _check(nested, _fits(datatype), f"must be a whole number of {datatype}")
        return _as_signed(np.array(nested.items, dtype=_INTEGERS[datatype]).reshape(shape))
    _check(nested, lambda items: set(map(type, items)) <= {str}, "must be a text")
    return nested.items


def to_binary(values: np.ndarray) -> Content:
    """The bytes of float32 numbers, row after row; only a few of them are copied."""
    if values.nbytes <= _COPIED_BYTES:
        return values.astype("<f4", copy=False).tobytes()
    return np.ascontiguousarray(values, dtype="<f4").reshape(-1).view(np.uint8).data


def to_json(values: np.ndarray) -> np.ndarray:
    """The numbers, flat: NaN is written as null."""
    return np.ascontiguousarray(values).reshape(-1)


def _texts(content: memoryview, count: int) -> list[str]:
    texts, position = [], 0
    for index in range(count):
        start = position + _LENGTH_BYTES
        position = start + int.from_bytes(content[position:start], "little")
        if max(start, position) > len(content):
            raise _error(
                f"ends before element {index} of {count} does; each is four bytes of length, and then the text"
            )
        try:
            texts.append(str(content[start:position], "utf-8"))
        except UnicodeDecodeError as error:
            raise ShapeError(Place((index,), f"is no UTF-8 text: {error.reason}")) from None
    if position != len(content):
        raise _error(f"has {len(content):,} bytes, but its {count} elements end after {position:,}")
    return texts


def _flat(data: Any, shape: Sequence[int]) -> list[Any]:
    if not isinstance(data, list):
        raise _error(f"'data' must be a list, not {shown(data)}" if data is not None else "has no data")
    if not (data and isinstance(data[0], list)):
        return _counted(data, prod(shape), shape)
    items = [data]
    for axis, length in enumerate(shape):
        if not all(isinstance(item, list) and len(item) == length for item in items):
            raise _error(f"'data' is not nested as its shape {list(shape)} says: look at axis {axis}")
        items = list(chain.from_iterable(items))
    return _counted(items, prod(shape), shape)


def _counted(items: list[Any], wanted: int, shape: Sequence[int]) -> list[Any]:
    if len(items) != wanted:
        raise _error(f"'data' has {len(items):,} elements; a tensor of shape {list(shape)} has {wanted:,}")
    return items


def _lengths(shape: Sequence[int]) -> list[np.ndarray]:
    """The lengths of the lists of each level, as if they were nested."""
    return [np.full(prod(shape[:axis]), length) for axis, length in enumerate(shape)]


def _check(nested: Nested, are_valid: Callable[[list[Any]], bool], rule: str) -> None:
    nested.check(are_valid, lambda element: None if are_valid([element]) else f"{rule}, not {shown(element)}")


def _fits(datatype: str) -> Callable[[list[Any]], bool]:
    bounds = np.iinfo(_INTEGERS[datatype])
    return lambda items: set(map(type, items)) <= {int} and bounds.min <= min(items) and max(items) <= bounds.max


def _as_signed(numbers: np.ndarray) -> np.ndarray:
    """Unsigned numbers as int64, which holds whatever a token id or a length can be."""
    if numbers.dtype.kind != "u":
        return numbers
    signed: np.ndarray = np.minimum(numbers.astype(np.uint64), np.iinfo(np.int64).max).astype(np.int64)
    return signed


def _error(message: str) -> ShapeError:
    return ShapeError(Place((), message))
