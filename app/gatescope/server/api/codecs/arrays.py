"""The arrays in a reply: their size, and the reply split into arrays and the rest, as binary formats need it."""

from __future__ import annotations

from typing import Any

import numpy as np

from gatescope.server.api.codecs.ragged import Ragged

MAY_HOLD_ARRAYS = frozenset((np.ndarray, Ragged, dict, list))


def size_of(value: Any) -> int:
    """Bytes of the arrays in a value; what stands around them is not counted."""
    kind = type(value)
    if kind is np.ndarray:
        return int(value.nbytes)
    if kind is Ragged:
        return int(value.padded.nbytes)
    if kind is dict:
        return sum([size_of(item) for item in value.values() if type(item) in MAY_HOLD_ARRAYS])
    return sum(map(size_of, value)) if _holds_arrays(value) else 0


def split(reply: dict[str, Any]) -> tuple[dict[str, np.ndarray], dict[str, Any]]:
    """A reply's arrays by name, padded, and its other fields. Of a trace, the signals alone are arrays.

    Of an analysis, each array is under its own name, and `axes` says what its axes are. Of an intervention, each array
    is under its path, such as `intervened.signals.cell_state`.
    """
    if "baseline" in reply:
        runs = {name: reply[name] | _lengths(reply[name]) for name in ("baseline", "intervened")}
        return _split(reply | runs)
    if "arrays" in reply:
        found: dict[str, dict[str, Any]] = reply["arrays"]
        axes = {name: each["axes"] for name, each in found.items()}
        rest = {name: value for name, value in reply.items() if name != "arrays"} | {"axes": axes}
        return {name: each["values"] for name, each in found.items()}, rest
    lengths = _lengths(reply)
    if "signals" not in reply:
        return _split(reply | lengths)
    signals: dict[str, np.ndarray] = reply["signals"]
    rest = {name: value for name, value in reply.items() if name not in ("signals", "sequence_lengths")}
    return lengths | signals, rest


def _lengths(reply: dict[str, Any]) -> dict[str, np.ndarray]:
    return {"sequence_lengths": np.array(reply["sequence_lengths"], dtype=np.int64)}


def _holds_arrays(value: Any) -> bool:
    return type(value) is list and bool(value) and type(value[0]) in MAY_HOLD_ARRAYS


def _split(reply: dict[str, Any], *path: str) -> tuple[dict[str, np.ndarray], dict[str, Any]]:
    """The arrays of a reply, each under its path with dots; and the rest."""
    found: dict[str, np.ndarray] = {}
    rest: dict[str, Any] = {}
    for name, value in reply.items():
        if isinstance(value, dict):
            inner, value = _split(value, *path, name)  # noqa: PLW2901 - what is left of it
            found |= inner
        if isinstance(value, Ragged):
            found[".".join((*path, name))] = value.padded
        elif isinstance(value, np.ndarray):
            found[".".join((*path, name))] = value
        elif value != {}:
            rest[name] = value
    return found, rest
