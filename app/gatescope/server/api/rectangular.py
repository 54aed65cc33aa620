"""Arrays that came as such: their axes are as long as they must be, or the place where they are not."""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np

from gatescope.errors import Place
from gatescope.server.api.nested import Expected, ShapeError, check_total, counted


def check(array: np.ndarray, axes: Sequence[str], expected: Expected, owner: str) -> None:
    """Refuse an array whose axes are not these.

    Args:
        array: what was sent.
        axes: their names, outermost first.
        expected: the lengths of this model's axes, and the most of the others.
        owner: what the array is, for messages.

    Raises:
        ShapeError: it has another number of axes, or one of another length.
    """
    shape = f"({', '.join(map(str, array.shape))})"
    if array.ndim != len(axes):
        raise ShapeError(Place((), f"{owner} has shape {shape}, but its axes are ({', '.join(axes)})"))
    for axis, length in zip(axes, array.shape, strict=True):
        wanted, most = expected.sizes.get(axis), expected.most.get(axis)
        has = f"{owner} of shape {shape} has {counted(length, axis)}"
        if not length:
            raise ShapeError(Place((), has))
        if most is not None and length > most:
            raise ShapeError(Place((), f"{has}; this server takes at most {most:,}"))
        if wanted not in (None, length):
            raise ShapeError(Place((), f"{has}; model '{expected.model}' takes {wanted}"))
    if len(axes) > 1:
        check_total(array.shape[0] * array.shape[1], axes[:2], expected, owner)
