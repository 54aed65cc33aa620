"""The plain data that stood beside the weights, as Python's own values.

A mapping becomes a dict. Keys that are no text are hashed here, with bounds: whole numbers from 0 to 299,999 always,
and up to 10,000 others in all, each a number of at most 64 bits, a boolean, None, bytes, or a short tuple of such.
A mapping with any other key is left out, as are tensors, placeholders, optimizers' states and what is nested too deep.
"""

from __future__ import annotations

from collections.abc import Callable, Collection, Iterable
from itertools import chain
from typing import Any

import torch

from gatescope.checkpoints.formats.plain import Array, Entries, Items
from gatescope.checkpoints.formats.state_dict import is_optimizer

MOST_BYTES = 64 * 2**20
MOST_BYTES_EACH = 32 * 2**20
"""Of all values and of those under one name; what stands in several containers is counted in each."""
VALUE_BYTES = 16
CONTAINER_BYTES = 200
"""About what they take in memory, the length of texts and bytes apart."""
MOST_LEVELS = 32

SMALL = range(300_000)
MOST_OTHER_KEYS = 10_000
MOST_KEY_ITEMS = 8

PLAIN = (type(None), bool, int, float, complex, str, bytes, bytearray, torch.Size, torch.device, torch.dtype)
PLAIN_TYPES = frozenset(PLAIN)
LEFT_OUT = object()


def plain(named: Iterable[tuple[str, Any]]) -> tuple[dict[str, Any], list[str]]:
    """What is plain under its name, the first of each name; and the names of what is too large."""
    kept: dict[str, Any] = {}
    too_large: list[str] = []
    left, other_keys = MOST_BYTES, MOST_OTHER_KEYS
    for name, value in named:
        if name in kept:
            continue
        copy = _Copy(min(left, MOST_BYTES_EACH), other_keys)
        try:
            made = copy.of(value, 0)
        except _TooLargeError:
            too_large.append(name)
        else:
            if made is not LEFT_OUT:
                kept[name] = made
        left -= copy.spent
        other_keys -= copy.other_keys
    return kept, too_large


class _TooLargeError(Exception):
    """There is more under a name than is kept."""


class _Copy:
    """Copies one value; `spent` and `other_keys` are what it has cost."""

    def __init__(self, most_bytes: int, most_other_keys: int) -> None:
        self.spent = 0
        self.other_keys = 0
        self._most_bytes = most_bytes
        self._most_other_keys = most_other_keys

    def of(self, value: Any, level: int) -> Any:
        """The value as Python's own; `LEFT_OUT` if it is not plain."""
        if isinstance(value, PLAIN):
            self._spend_on([value])
            return value
        self._spend(CONTAINER_BYTES)
        return LEFT_OUT if level == MOST_LEVELS else self._container(value, level)

    def _container(self, value: Any, level: int) -> Any:
        if isinstance(value, list | tuple):
            return self._several(value, list if isinstance(value, list) else tuple, level)
        if isinstance(value, Entries):
            return self._mapping(value, level)
        if isinstance(value, Items):
            return self._set(value)
        if isinstance(value, Array):
            numbers = value.value()
            return LEFT_OUT if numbers is None else self.of(numbers, level + 1)
        return LEFT_OUT

    def _spend(self, count: int) -> None:
        if self.spent + count > self._most_bytes:
            raise _TooLargeError
        self.spent += count

    def _spend_on(self, values: Collection[Any]) -> None:
        """Pay for plain values."""
        self._spend(len(values) * VALUE_BYTES)
        self._spend(sum(len(value) for value in values if isinstance(value, str | bytes | bytearray)))

    def _several(self, values: Collection[Any], kind: Callable[[Iterable[Any]], Any], level: int) -> Any:
        if PLAIN_TYPES.issuperset(map(type, values)):
            self._spend_on(values)
            return kind(values)
        kept = [each for value in values if (each := self.of(value, level + 1)) is not LEFT_OUT]
        return kind(kept) if kept else LEFT_OUT

    def _mapping(self, entries: Entries, level: int) -> Any:
        if is_optimizer(entries):
            return LEFT_OUT
        self._spend_on(entries.named)
        if not entries.others and PLAIN_TYPES.issuperset(map(type, entries.named.values())):
            self._spend_on(entries.named.values())
            return dict(entries.named)
        kept: dict[Any, Any] = {}
        for key, value in chain(entries.named.items(), entries.others):
            if not self._may_hash(key):
                return LEFT_OUT
            if (copied := self.of(value, level + 1)) is not LEFT_OUT:
                kept[key] = copied
        return kept or LEFT_OUT

    def _set(self, items: Items) -> Any:
        self._spend(len(items.items) * CONTAINER_BYTES)
        if not all(self._may_hash(item) for item in items.items):
            return LEFT_OUT
        return frozenset(items.items) if items.frozen else set(items.items)

    def _may_hash(self, key: Any) -> bool:
        """Whether hashing this, and all keys before it, takes little time whatever the file chose."""
        if isinstance(key, str) or (type(key) is int and key in SMALL):
            return True
        if self.other_keys == self._most_other_keys:
            return False
        self.other_keys += 1
        if isinstance(key, tuple):
            return len(key) <= MOST_KEY_ITEMS and all(_is_scalar(item) for item in key)
        return _is_scalar(key)


def _is_scalar(key: Any) -> bool:
    if type(key) is int:
        return -(2**63) <= key < 2**64
    return isinstance(key, str | bytes | bool | float | complex | None)
