"""A request's body: safetensors where there are arrays, at a fraction of what JSON costs to read; else JSON."""

from __future__ import annotations

import json
from collections.abc import Iterable, Mapping, Sequence
from typing import Any, NamedTuple

import numpy as np

from gatescope import safetensors_file
from gatescope.client.frames import with_names
from gatescope.errors import InvalidInput

JSON, SAFETENSORS, EVENTS = "application/json", "application/vnd.safetensors", "text/event-stream"

TENSORS = (
    "inputs",
    "sequence_lengths",
    "initial_state.hidden_state",
    "initial_state.cell_state",
    "future_inputs",
    "static_inputs",
)
"""What the API takes as a tensor; a dot leads into a field."""

_DTYPES = {"float64": np.float64, "float32": np.float32, "float16": np.float32, "int64": np.int64}


class Body(NamedTuple):
    """What is sent, and how it is to be read."""

    content: bytes
    media_type: str


def encode(fields: Mapping[str, Any]) -> Body:
    """The fields of a request that are not None.

    Raises:
        InvalidInput: something in it is neither a number, a text, a list, an array nor a data frame of numbers.
    """
    given = {name: value for name, value in with_names(fields).items() if value is not None}
    arrays, rest = _split(given)
    if not arrays:
        return Body(_json(given), JSON)
    metadata = {name: _json(value).decode() for name, value in rest.items()}
    return Body(bytes(safetensors_file.write(arrays, metadata)), SAFETENSORS)


def _split(given: Mapping[str, Any]) -> tuple[dict[str, np.ndarray], dict[str, Any]]:
    """What goes as a tensor, and what does not. Lists go as they are, so that the server says what is wrong in them."""
    flat = {name: value for name, value in given.items() if name != "initial_state"}
    state = given.get("initial_state", {})
    if isinstance(state, Mapping):
        flat |= {f"initial_state.{name}": value for name, value in state.items()}
    flat |= {name: _stacked(flat[name]) for name in TENSORS if name in flat and name != "inputs"}
    arrays = {name: array for name in TENSORS if (array := _array(flat.get(name))) is not None}
    padded = _padded(given.get("inputs"))
    if len(padded) == 1 or not {"layout", "sequence_lengths"} & given.keys():
        arrays |= padded
    rest = {name: value for name, value in given.items() if name not in arrays}
    if isinstance(state, Mapping) and {f"initial_state.{name}" for name in state} <= arrays.keys():
        rest.pop("initial_state", None)
    return arrays, rest


def _array(value: Any) -> np.ndarray | None:
    """An array or a tensor as the API reads it; None for anything else."""
    if not hasattr(value, "__array__"):
        return None
    try:
        array = np.asarray(value.detach().cpu() if hasattr(value, "detach") else value)
    except TypeError:  # a tensor of numbers that NumPy does not have
        return None
    wanted = _DTYPES.get(array.dtype.name, np.int64 if array.dtype.kind in "iu" else None)
    return None if wanted is None else np.asarray(array, dtype=wanted, order="C")


def _stacked(value: Any) -> Any:
    """Arrays in a list as one, where they are alike; anything else as it is."""
    arrays = [_array(each) for each in value] if isinstance(value, list | tuple) else []
    known = [array for array in arrays if array is not None]
    return (
        np.stack(known) if known and len(known) == len(arrays) and len({each.shape for each in known}) == 1 else value
    )


def _padded(value: Any) -> dict[str, np.ndarray]:
    """A list of arrays as one, and `sequence_lengths` where they differ; nothing where they do not go together."""
    if not isinstance(value, Sequence):
        return {}
    rows = [array for item in value if (array := _array(item)) is not None and array.ndim]
    lengths = np.array([len(row) for row in rows])
    if len(rows) < len(value) or len({row.shape[1:] for row in rows}) != 1:
        return {}
    padded = np.zeros((len(rows), lengths.max(), *rows[0].shape[1:]), dtype=np.result_type(*rows))
    for place, row in zip(padded, rows, strict=True):
        place[: len(row)] = row
    return {"inputs": padded} if len(set(lengths)) == 1 else {"inputs": padded, "sequence_lengths": lengths}


def _json(value: Any) -> bytes:
    """JSON. Python writes each float with as many digits as it takes to read the same float back.

    NaN and infinity are written as such, which JSON has not: so the server can say where they stand.
    """
    try:
        return json.dumps(value, default=_plain, ensure_ascii=False, separators=(",", ":")).encode()
    except (TypeError, ValueError, RecursionError) as error:
        raise InvalidInput(f"the request cannot be written as JSON: {error}") from None


def _plain(value: Any) -> Any:
    """What JSON has for arrays, tensors and series, and for anything else that can be listed."""
    if hasattr(value, "tolist"):
        return value.tolist()
    if isinstance(value, Iterable):
        return list(value)
    raise TypeError(f"{type(value).__name__} is neither a number, a text, a list nor an array")
