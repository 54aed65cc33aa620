"""Nested lists -> their elements and the lengths on the way, or the places where they are not nested as they should be.

Lists are looked at level by level and by C-level iterators; Python walks only over the stretch that something is wrong
in. Limits are checked on the way down, so what is too long is refused before its numbers are looked at.
"""

from __future__ import annotations

from collections.abc import Callable, Collection, Iterator, Sequence
from dataclasses import dataclass
from itertools import chain, islice
from typing import Any

import numpy as np

from gatescope.errors import Place
from gatescope.server.api.schema.shapes import MAX_PLACES, ONE_AND_MANY, Expected, Loc, ShapeError, check_total, counted

STRETCH = 4096
"""So many items are looked at together in search of a wrong one."""

_SHOWN = 20


@dataclass(frozen=True)
class Nested:
    """The items of one level, and the lengths of the lists above them, outermost first."""

    items: list[Any]
    lengths: Sequence[np.ndarray] = ()

    @classmethod
    def of(cls, items: list[Any]) -> Nested:
        """One plain list."""
        return cls(items, (np.array([len(items)]),))

    @property
    def shape(self) -> tuple[int, ...]:
        """The lengths of the axes, where all lists of a level are equally long."""
        return tuple(int(lengths[0]) for lengths in self.lengths)

    def loc(self, index: int) -> Loc:
        """Where the item of this index stands."""
        path: list[int] = []
        for lengths in reversed(self.lengths):
            ends = np.cumsum(lengths)
            parent = int(np.searchsorted(ends, index, side="right"))
            path.append(index - int(ends[parent] - lengths[parent]))
            index = parent
        return tuple(reversed(path))

    def check(self, are_valid: Callable[[list[Any]], bool], describe_error: Callable[[Any], str | None]) -> None:
        """Refuse items that are not as they should be.

        Args:
            are_valid: whether all of these items are; it is quick.
            describe_error: what is wrong with one of them.

        Raises:
            ShapeError: with up to `MAX_PLACES` places.
        """
        if not are_valid(self.items):
            raise self.error(are_valid, describe_error)

    def error(self, are_valid: Callable[[list[Any]], bool], describe_error: Callable[[Any], str | None]) -> ShapeError:
        """What to raise when something among the items is wrong."""
        found = ((index, describe_error(item)) for index, item in find_suspects(self.items, are_valid))
        places = (Place(self.loc(index), message) for index, message in found if message)
        return ShapeError(*islice(places, MAX_PLACES))


def unnest(
    value: Any, axes: Sequence[str], expected: Expected, owner: str = "the array", ragged: Collection[str] = ()
) -> Nested:
    """The elements of nested lists with these axes, outermost first.

    Args:
        value: what was sent.
        axes: their names.
        expected: the lengths of this model's axes, and the most of the others.
        owner: what the value is, for messages.
        ragged: axes whose lists may differ in length.

    Raises:
        ShapeError: with up to `MAX_PLACES` places on one level.
    """
    nested = Nested([value])
    for depth, axis in enumerate(axes):
        name = ONE_AND_MANY[axes[depth - 1]][0] if depth else owner
        rule = _Rule(axis, name, expected, None if axis in ragged else _length_of_first(nested.items))
        nested.check(rule.are_valid, rule.describe_error)
        lengths = np.fromiter(map(len, nested.items), dtype=np.int64, count=len(nested.items))
        if depth == 1:
            check_total(int(lengths.sum()), axes[:2], expected, owner)
        nested = Nested(list(chain.from_iterable(nested.items)), (*nested.lengths, lengths))
    return nested


def find_suspects(items: list[Any], are_valid: Callable[[list[Any]], bool]) -> Iterator[tuple[int, Any]]:
    """The items, with their indices, of those stretches that hold an invalid one."""
    for start in range(0, len(items), STRETCH):
        stretch = items[start : start + STRETCH]
        if not are_valid(stretch):
            yield from enumerate(stretch, start)


def depth_of(value: Any) -> int:
    """How deep the first element lies."""
    if isinstance(value, np.ndarray):
        return value.ndim
    depth = 0
    while isinstance(value, list):
        depth += 1
        value = value[0] if value else None
    return depth


def shown(value: Any) -> str:
    """A value, or what kind of value it is, for a message."""
    if isinstance(value, str):
        return f"the string {value[:_SHOWN]!r}"
    kinds = {list: "a list", dict: "an object", bool: str(value is True).lower(), type(None): "null"}
    return kinds.get(type(value)) or f"{value}"


@dataclass(frozen=True)
class _Rule:
    """How long the lists of one level must be; `usual` is the length of the first one."""

    axis: str
    owner: str
    expected: Expected
    usual: int | None

    @property
    def wanted(self) -> int | None:
        return self.expected.sizes.get(self.axis, self.usual)

    def are_valid(self, items: list[Any]) -> bool:
        """Whether all of these are lists of the right length."""
        if not set(map(type, items)) <= {list}:
            return False
        lengths = set(map(len, items))
        most = self.expected.most.get(self.axis)
        return 0 not in lengths and (self.wanted is None or lengths <= {self.wanted}) and _at_most(lengths, most)

    def describe_error(self, item: Any) -> str | None:
        """What is wrong with one of them."""
        many = ONE_AND_MANY[self.axis][1]
        if not isinstance(item, list):
            return f"{self.owner} must be a list of {many}, not {shown(item)}"
        if not item:
            return f"{self.owner} has no {many}"
        has = f"{self.owner} has {counted(len(item), self.axis)}"
        most = self.expected.most.get(self.axis)
        if most is not None and len(item) > most:
            return f"{has}; this server takes at most {most:,}"
        if self.wanted in (None, len(item)):
            return None
        if self.axis in self.expected.sizes:
            return f"{has}; model '{self.expected.model}' takes {self.wanted}"
        return f"{has}; the first one has {self.wanted}"


def _at_most(lengths: set[int], most: int | None) -> bool:
    return most is None or max(lengths, default=0) <= most


def _length_of_first(items: list[Any]) -> int | None:
    return len(items[0]) or None if isinstance(items[0], list) else None
