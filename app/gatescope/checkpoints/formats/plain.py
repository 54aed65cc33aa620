"""Containers and NumPy values as an unpickler makes them; nothing is hashed that a file could choose to hash slowly.

Keys that are text are hashed: Python salts their hash in every process, so a file cannot make them collide. Keys of
every other kind are kept beside their values in a list of pairs and never hashed: whole numbers and tuples hash without
a salt, and tuples hash as deep as they nest. The same holds for the items of sets.
"""

from __future__ import annotations

import math
import re
from typing import Any

import numpy as np

MOST_ARRAY_ITEMS = 65_536
MOST_DIMENSIONS = 16

NAMESPACE = "namespace"

ARRAY_CODE = re.compile(r"[biufc]\d{1,2}|[SU]\d{1,5}")


class Entries:
    """A mapping of any class: what stands under text, and pairs of all other keys and their values."""

    __slots__ = ("kind", "named", "others")

    def __init__(self, kind: str = "dict") -> None:
        """An empty one; `kind` is `NAMESPACE` where the entries are attributes of an object."""
        self.kind = kind
        self.named: dict[str, Any] = {}
        self.others: list[tuple[Any, Any]] = []

    def fill(self, keys: list[Any], values: list[Any]) -> None:
        """Add entries; under text the last one stays."""
        for key, value in zip(keys, values, strict=True):
            if type(key) is str:
                self.named[key] = value
            else:
                self.others.append((key, value))

    def share(self, other: Entries) -> None:
        """Become the same as the other, without a copy."""
        self.named, self.others = other.named, other.others


class Items:
    """A set or frozenset: its items as they came, possibly several times."""

    __slots__ = ("frozen", "items")

    def __init__(self, items: list[Any], *, frozen: bool = False) -> None:
        """Keep the list, without a copy."""
        self.items = items
        self.frozen = frozen


class ArrayType:
    """A `numpy.dtype`: its code and its byte order."""

    __slots__ = ("code", "order")

    def __init__(self, code: str) -> None:
        """Little-endian until its state says something else."""
        self.code = code
        self.order = "<"

    def build(self, state: Any) -> None:
        """Take the byte order from the state."""
        match state:
            case (int(), "<" | ">" as order, *_):
                self.order = order


class Array:
    """A `numpy.ndarray` or NumPy scalar: what is in the pickle of it."""

    __slots__ = ("fortran", "raw", "shape", "type")

    def __init__(self, array_type: ArrayType | None = None, shape: tuple[Any, ...] = (), raw: Any = None) -> None:
        """Without a type and values until its state gives them."""
        self.type = array_type
        self.shape = shape
        self.raw = raw
        self.fortran = False

    def build(self, state: Any) -> None:
        """Take shape, type and values from the state."""
        match state:
            case (int(), tuple(shape), ArrayType() as array_type, bool(fortran), raw):
                self.shape, self.type, self.fortran, self.raw = shape, array_type, fortran, raw

    def value(self) -> Any:
        """Python's own numbers, texts or booleans, nested in lists as the shape says; None if this is not simple."""
        if self.type is None or not all(type(size) is int and 0 <= size <= MOST_ARRAY_ITEMS for size in self.shape):
            return None
        count = math.prod(self.shape)
        if self.type.code == "O8" and isinstance(self.raw, list) and self.shape == (len(self.raw),):
            return self.raw
        if not ARRAY_CODE.fullmatch(self.type.code) or count > MOST_ARRAY_ITEMS or len(self.shape) > MOST_DIMENSIONS:
            return None
        try:
            dtype = np.dtype(self.type.order + self.type.code)
            if not isinstance(self.raw, bytes | bytearray) or len(self.raw) != count * dtype.itemsize:
                return None
            flat = np.frombuffer(self.raw, dtype)
            return flat.reshape(self.shape, order="F" if self.fortran else "C").tolist()
        except (TypeError, ValueError):  # no such type, no bytes behind it, or no characters in them
            return None
