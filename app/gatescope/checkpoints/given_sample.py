"""`GivenSample`: a file with inputs and what the training code computed of them, as an import takes it."""

from __future__ import annotations

import json
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace
from io import BytesIO
from pathlib import Path
from typing import Any, NoReturn
from zipfile import BadZipFile

import numpy as np

from gatescope import safetensors_file
from gatescope.errors import InvalidInput, Place
from gatescope.pipeline.sample import DEFAULT_TOLERANCE, MAX_TOLERANCE

MAX_BYTES = 64 * 2**20
MAX_NUMBERS = 200_000
"""Of a sample, inputs and expected values together: it is kept beside the weights and shown as an example."""

_INPUTS = ("inputs", "input", "x")
_EXPECTED = ("expected", "output", "outputs", "prediction", "y")
_LENGTHS = ("sequence_lengths", "lengths")
_STATES = {"hidden_state": ("hidden_state", "h0", "h_0"), "cell_state": ("cell_state", "c0", "c_0")}
_STATIC = ("static_inputs", "static")
_KNOWN = {
    *_INPUTS,
    *_EXPECTED,
    *_LENGTHS,
    *_STATIC,
    "text",
    "initial_state",
    *(n for names in _STATES.values() for n in names),
}


@dataclass(frozen=True)
class GivenSample:
    """What is in the file."""

    inputs: Sequence[np.ndarray] | np.ndarray | None
    """(batch, time, feature) or (batch, time) ids, as the training code took them; or one array for each sequence."""
    texts: tuple[str, ...] | None
    """In place of inputs."""
    lengths: tuple[int, ...] | None
    """Of padded inputs."""
    state: Mapping[str, np.ndarray] | None
    """Each (layers · directions, batch, size)."""
    static: np.ndarray | None
    """(batch, feature)."""
    expected: Sequence[np.ndarray] | np.ndarray
    """What was computed."""
    tolerance: float = DEFAULT_TOLERANCE
    """How far a prediction may be from it, as a part of the largest expected value."""


def read(path: Path, tolerance: float = DEFAULT_TOLERANCE) -> GivenSample:
    """The sample in a file of .npz, .json or .safetensors.

    Raises:
        InvalidInput: it cannot be read, or lacks what a sample needs, or the tolerance cannot be.
        OSError: there is no such file.
    """
    if not 0 < tolerance <= MAX_TOLERANCE:
        message = f"must be above 0 and at most {MAX_TOLERANCE:g}, not {tolerance:g}"
        raise InvalidInput.at(Place(("tolerance",), message))
    if path.stat().st_size > MAX_BYTES:
        _refuse(f"{path.name} has more than {MAX_BYTES} bytes; a few sequences are enough")
    try:
        found = _contents(path)
    except (ValueError, BadZipFile, RecursionError, KeyError) as error:
        _refuse(f"{path.name} cannot be read: {error}")
    if unknown := sorted(found.keys() - _KNOWN):
        _refuse(
            f"{path.name} has '{unknown[0]}'; a sample has inputs or text, expected, and if needed lengths, "
            "static_inputs, hidden_state and cell_state"
        )
    return replace(_sample(path.name, found), tolerance=tolerance)


def _contents(path: Path) -> dict[str, Any]:
    content = path.read_bytes()
    if content.startswith(b"PK"):
        with np.load(BytesIO(content), allow_pickle=False) as file:
            return {name: file[name] for name in file.files}
    if content[8:9] == b"{":
        read = safetensors_file.read(content)
        texts = {"text": json.loads(read.metadata["text"])} if "text" in read.metadata else {}
        return {**read.arrays, **texts}
    found = json.loads(content)
    if not isinstance(found, dict):
        raise ValueError("it is no JSON object")  # noqa: TRY004 - of the file
    return found


def _sample(name: str, found: dict[str, Any]) -> GivenSample:
    inputs, expected = (_first(found, names) for names in (_INPUTS, _EXPECTED))
    texts = found.get("text")
    if (inputs is None) == (texts is None):
        _refuse(f"{name} needs `inputs` or `text`, one of them")
    if expected is None:
        _refuse(f"{name} has no `expected`: what the training code computed of the inputs")
    lengths, static = _first(found, _LENGTHS), _first(found, _STATIC)
    state = _state(found)
    sample = GivenSample(
        None if inputs is None else _arrays(f"{name}: inputs", inputs),
        None if texts is None else tuple(np.atleast_1d(np.asarray(texts)).astype(str).tolist()),
        None if lengths is None else tuple(int(length) for length in np.asarray(lengths).reshape(-1)),
        state,
        None if static is None else np.atleast_2d(np.asarray(static, dtype=np.float64)),
        _arrays(f"{name}: expected", expected),
    )
    count = sum(np.size(each) for part in (sample.inputs, sample.expected) if part is not None for each in part)
    if count > MAX_NUMBERS:
        _refuse(f"{name} has {count:,} numbers, more than {MAX_NUMBERS:,}; a few sequences are enough")
    return sample


def _state(found: dict[str, Any]) -> dict[str, np.ndarray] | None:
    stated = found.get("initial_state") or {}
    given = {state: _first({**found, **stated}, names) for state, names in _STATES.items()}
    if all(value is None for value in given.values()):
        return None
    if given["hidden_state"] is None:
        _refuse("a state needs hidden_state, and of an LSTM cell_state")
    return {state: np.asarray(value, dtype=np.float32) for state, value in given.items() if value is not None}


def _arrays(what: str, value: Any) -> Sequence[np.ndarray] | np.ndarray:
    """One array where all sequences are equally long, else one for each."""
    try:
        try:
            made: Any = np.asarray(value)
        except ValueError:
            made = [np.asarray(row) for row in value]
        parts = [made] if isinstance(made, np.ndarray) else made
        if any(part.dtype.kind not in "fiub" for part in parts):
            _refuse(f"{what} is no array of numbers")
        if not all(np.isfinite(part).all() for part in parts):
            _refuse(f"{what} holds NaN or Infinity")
    except (TypeError, ValueError) as error:
        _refuse(f"{what} is no array of numbers: {error}")
    return made  # type: ignore[no-any-return]


def _first(found: Mapping[str, Any], names: Sequence[str]) -> Any:
    return next((found[name] for name in names if found.get(name) is not None), None)


def _refuse(message: str) -> NoReturn:
    raise InvalidInput.at(Place(("sample",), message))
