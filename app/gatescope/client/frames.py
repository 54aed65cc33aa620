"""Data frames in place of arrays: their columns' names go along, so that the server matches features by name.

A frame is whatever has `columns` and `to_numpy`, as those of pandas and polars do; neither is imported.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

import numpy as np

from gatescope.client import pandas_tables, polars_tables
from gatescope.client.xarray_tables import frames_of
from gatescope.errors import InvalidInput, Place

_FIELDS = {"inputs": "columns", "future_inputs": "columns", "static_inputs": "static_columns"}
"""A field that may be a frame, or a list of frames, and the field that names its columns."""

KINDS = (pandas_tables, polars_tables)


def with_names(fields: Mapping[str, Any]) -> dict[str, Any]:
    """The same fields with an array for each frame, and the names of its columns.

    Frames of one request may have their columns in different orders; they are brought into that of the first.

    Raises:
        InvalidInput: a frame has other columns than another one, or than the field that names them, or holds what is no
            number.
    """
    made = dict(fields)
    for field, names in _FIELDS.items():
        value, _ = (fields.get(field), None) if field == "static_inputs" else frames_of(fields.get(field), None, None)
        frames: list[Any] = [value] if is_frame(value) else list(value) if isinstance(value, list | tuple) else []
        if not frames or not all(map(is_frame, frames)):
            continue
        made.setdefault(names, None)
        if made[names] is None:
            made[names] = [str(name) for name in frames[0].columns]
        arrays = [array_of(frame, made[names], field) for frame in frames]
        made[field] = arrays[0] if is_frame(value) else arrays
    return made


def is_frame(value: Any) -> bool:
    """Whether it is a data frame."""
    return hasattr(value, "columns") and hasattr(value, "to_numpy")


def kind_of(value: Any) -> Any:
    """The module for frames like this one, None for those of neither pandas nor polars."""
    return next((kind for kind in KINDS if kind.is_frame(value)), None)


def array_of(frame: Any, names: Sequence[str], field: str) -> np.ndarray:
    """(row, column) float64, with the columns in the order of these names.

    Args:
        frame: a data frame.
        names: of all its columns.
        field: of the request that it is, for messages.

    Raises:
        InvalidInput: it has other columns, or one holds what is no number.
    """
    own = [str(name) for name in frame.columns]
    if sorted(own) != sorted(names):
        other = sorted(set(own) ^ set(names)) or own
        message = f"a frame has the columns {', '.join(own)}, but {', '.join(names)} are named: '{other[0]}' differs"
        raise InvalidInput.at(Place((field,), message))
    places, kind = [own.index(name) for name in names], kind_of(frame)
    try:
        if kind is None:
            return np.ascontiguousarray(np.asarray(frame.to_numpy(), dtype=np.float64)[:, places])
        return np.stack([kind.numbers(frame, place) for place in places], axis=1)
    except (TypeError, ValueError) as error:
        hint = "drop columns that are no features; name those of times and ids (timestamps=, id=)"
        raise InvalidInput.at(Place((field,), f"a frame holds what is no number ({error}): {hint}")) from None
