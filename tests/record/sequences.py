"""Numbers to send, the same in each run."""

import random

Rows = list[list[float]]


def rows(length: int, width: int, seed: int = 0) -> Rows:
    """One sequence, (time, feature)."""
    chosen = random.Random(seed * 1000 + length * 10 + width)  # noqa: S311 - the same on every machine
    return [[round(chosen.uniform(-2, 2), 3) for _ in range(width)] for _ in range(length)]


def batch(*lengths: int, width: int, seed: int = 0) -> list[Rows]:
    """Several, (batch, time, feature)."""
    return [rows(length, width, seed + index) for index, length in enumerate(lengths)]


def filled(*shape: int, value: float = 0.25) -> list:
    """Nested lists of one number."""
    first, *rest = shape
    return [filled(*rest, value=value) if rest else value for _ in range(first)]


def levels(length: int, seed: int = 0) -> Rows:
    """A sequence for `forecaster`."""
    chosen = random.Random(seed)  # noqa: S311 - the same on every machine
    return [[round(10 + chosen.uniform(-2, 2), 2), float(hour % 24)] for hour in range(length)]
