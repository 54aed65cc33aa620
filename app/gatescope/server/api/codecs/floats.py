"""Many numbers at once as float32, or None where each must be checked."""

from __future__ import annotations

import numpy as np

_FLOAT_BYTES = 4

_LARGEST_SQUARE = float(np.finfo(np.float32).max) ** 2


def floats_behind(content: bytes, start: int) -> np.ndarray | None:
    """The rest of a body from there on as float32; None where it cannot be, or as `finite` has it."""
    if start >= len(content) or (len(content) - start) % _FLOAT_BYTES:
        return None
    return finite(np.frombuffer(content, dtype="<f4", offset=start))


def finite(numbers: np.ndarray) -> np.ndarray | None:
    """A copy as float32; None where there is none, or where a number may not be finite.

    The sum of squares bounds each of them, and one product costs a fourth of looking for the least and the greatest.
    """
    if not len(numbers):
        return None
    # NaN or infinite, where a number is, or where float32 cannot hold the sum; `vdot` warns of neither
    squares = float(np.vdot(numbers, numbers))
    return numbers.astype(np.float32) if squares <= _LARGEST_SQUARE else None
