"""Cases by the hundred: `make test` has some of each, `make test-random` all.

A test that has more cases than `make test` runs bears the mark `random`.
"""

import os
from collections.abc import Iterable
from typing import TypeVar

T = TypeVar("T")
IS_ALL = "TEST_RANDOM" in os.environ


def number(few: int, every: int) -> int:
    """How many to draw."""
    return every if IS_ALL else few


def some(cases: Iterable[T], each: int) -> list[T]:
    """The first case and each so-many-th behind it.

    Of a product of axes, take a number that has no divisor in common with an axis's length: then each value of each
    axis occurs, if as many cases are left as the longest axis has values.
    """
    return list(cases)[:: 1 if IS_ALL else each]
