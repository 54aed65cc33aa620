"""Many numbers at once as float32, or float64 where a model scales them; or None where each must be checked."""

from __future__ import annotations

import numpy as np

_FLOAT_BYTES = 4

_LARGEST_SQUARE = float(np.finfo(np.float32).max) ** 2


def floats_behind(content: bytes, start: int, largest: float | None = None) -> np.ndarray | None:
    """The rest of a body from there on, float32, as `finite` gives it; None where it cannot be, or as that has it."""
    if start >= len(content) or (len(content) - start) % _FLOAT_BYTES:
        return None
    return finite(np.frombuffer(content, dtype="<f4", offset=start), largest)


def finite(numbers: np.ndarray, largest: float | None = None) -> np.ndarray | None:
    """A copy; None where there is no number, or where one may not be finite.

    The sum of squares bounds each of them, and one product costs a fourth of looking for the least and the greatest.

    Args:
        numbers: flat.
        largest: how large each may be, for a copy in float64; None for one in float32.
    """
    if not len(numbers):
        return None
    # NaN or infinite, where a number is, or where float32 cannot hold the sum; `vdot` warns of neither
    squares = float(np.vdot(numbers, numbers))
    if largest is None:
        return numbers.astype(np.float32) if squares <= _LARGEST_SQUARE else None
    return numbers.astype(np.float64) if squares <= largest * largest else None
