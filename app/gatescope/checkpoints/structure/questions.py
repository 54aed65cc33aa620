"""`questions`: the ways in which a sample may be taken, by its layout and scaling."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from itertools import product
from typing import NoReturn

import numpy as np
import torch
from torch import Tensor

from gatescope import padding
from gatescope.checkpoints.given_sample import GivenSample
from gatescope.checkpoints.structure.search import Inputs, Question
from gatescope.errors import InvalidInput, Place
from gatescope.pipeline.graph import INPUTS, STATIC
from gatescope.pipeline.layers.layer import Shape, Steps
from gatescope.pipeline.vocabulary import UnknownToken, Vocabulary
from gatescope.state import State

_BATCH = 3  # axes of a batch of features; of ids one less
_SCALES = (1.0, 3.0, 0.3, 10.0, 100.0, 1000.0)
"""Parts of the sample's spread; of the largest, gates are shut or open."""
_ROWS = 6
_LEAST = 1e-3  # of a feature that does not vary in the sample


@dataclass(frozen=True)
class Scaling:
    """(raw − mean) / std, a number for each feature or output."""

    mean: np.ndarray
    std: np.ndarray

    def scaled(self, raw: np.ndarray) -> np.ndarray:
        """In float64."""
        scaled: np.ndarray = (raw - self.mean) / self.std
        return scaled

    def raw(self, scaled: np.ndarray) -> np.ndarray:
        """The reverse."""
        raw: np.ndarray = scaled * self.std + self.mean
        return raw


@dataclass(frozen=True)
class Asked:
    """What a model is asked with."""

    vocabulary_size: int | None = None
    """Of a model of tokens."""
    vocabulary: Vocabulary | None = None
    """Where a text can be read."""
    scaler: Scaling | None = None
    """Of the features."""
    static_scaler: Scaling | None = None
    output_scaler: Scaling | None = None
    sample: GivenSample | None = None

    @property
    def reads_tokens(self) -> bool:
        """Whether inputs are ids."""
        return self.vocabulary_size is not None


def questions(asked: Asked) -> list[Question]:
    """Every way to take the sample, the likeliest first.

    Raises:
        InvalidInput: the sample's inputs cannot be those of the model.
    """
    sample = asked.sample
    if sample is None:
        raise TypeError("there is no sample")
    made = []
    in_scales = (True, False) if asked.scaler is not None else (True,)
    out_scales = (True, False) if asked.output_scaler is not None else (True,)
    for time_first, scaled_inputs, scaled_outputs in product((False, True), in_scales, out_scales):
        sequences = sequences_of(asked, sample, time_first=time_first)
        if sequences is None or not _is_of_state(sample, len(sequences)):
            continue
        inputs = _inputs(asked, sample, sequences, is_raw=scaled_inputs)
        made.append(
            Question(inputs, _expected(asked, sample, is_raw=scaled_outputs), time_first, scaled_inputs, scaled_outputs)
        )
    if not made:
        _refuse("its states are not of as many sequences as its inputs")
    return made


def _is_of_state(sample: GivenSample, rows: int) -> bool:
    """Whether the states that a sample begins with, if any, are of so many sequences."""
    states = sample.state or {}
    return all(each.ndim == _BATCH and each.shape[1] == rows for each in states.values())


def sequences_of(asked: Asked, sample: GivenSample, *, time_first: bool) -> list[np.ndarray] | None:
    """The sample's sequences, each (time, feature) or (time,); None where the layout cannot be."""
    if sample.texts is not None:
        return None if time_first else [_encoded(asked, text) for text in sample.texts]
    inputs, axes = sample.inputs, _BATCH - asked.reads_tokens
    if inputs is None:
        return None
    if not isinstance(inputs, np.ndarray):
        return None if time_first else [_checked(asked, each) for each in inputs]
    if inputs.ndim == axes - 1:
        return None if time_first else [_checked(asked, inputs)]
    if inputs.ndim != axes:
        wanted = "(batch, time)" if asked.reads_tokens else "(batch, time, feature)"
        _refuse(f"its inputs have shape {list(inputs.shape)}; the model takes {wanted}")
    rows = inputs.swapaxes(0, 1) if time_first else inputs
    lengths = sample.lengths or (rows.shape[1],) * len(rows)
    if len(lengths) != len(rows) or not all(0 < length <= rows.shape[1] for length in lengths):
        if not time_first:
            _refuse(f"it has lengths {list(lengths)} for inputs of shape {list(inputs.shape)}")
        return None
    return [_checked(asked, row[:length]) for row, length in zip(rows, lengths, strict=True)]


def telling(asked: Asked, question: Question) -> Iterator[tuple[Inputs, np.ndarray]]:
    """Other inputs like those of the sample, as the training code would take them, and as the layers read them."""
    random = np.random.default_rng(0)
    sample = asked.sample
    sequences = sequences_of(asked, sample, time_first=question.time_first) if sample else None
    if sample is None or sequences is None:
        return
    longest = max(len(each) for each in sequences)
    joined = np.concatenate(sequences)
    for scale, time in product(_SCALES, (longest, 2 * longest + 1, max(1, longest // 2))):
        if asked.reads_tokens:
            made = random.integers(0, asked.vocabulary_size or 1, (_ROWS, time))
        else:
            drawn = random.standard_normal((_ROWS, time, joined.shape[1]))
            drawn[::2] += random.standard_normal((len(drawn[::2]), 1, joined.shape[1]))  # far off for a whole sequence
            made = joined.mean(0) + scale * (joined.std(0) + _LEAST * (1 + np.abs(joined.mean(0)))) * drawn
        static = None
        if sample.static is not None:
            static = np.resize(sample.static, (_ROWS, sample.static.shape[1]))
            static = static + scale * (sample.static.std(0) + _LEAST) * random.standard_normal(static.shape)
        given = GivenSample(made, None, None, None, static, made)
        inputs = _inputs(asked, given, [*made], is_raw=question.scaled_inputs)
        yield inputs, made.swapaxes(0, 1) if question.time_first else made


def _inputs(asked: Asked, sample: GivenSample, sequences: Sequence[np.ndarray], *, is_raw: bool) -> Inputs:
    if asked.reads_tokens:
        tensors = [torch.from_numpy(each.astype(np.int64)) for each in sequences]
        shape = Shape(asked.vocabulary_size or 1, is_ids=True)
    else:
        scaled = [asked.scaler.scaled(each) if asked.scaler is not None and is_raw else each for each in sequences]
        with np.errstate(over="ignore"):  # what float32 cannot hold is infinite, and no reading gives what is expected
            tensors = [torch.from_numpy(np.ascontiguousarray(each, dtype=np.float32)) for each in scaled]
        shape = Shape(tensors[0].shape[1])
    values, lengths = padding.pad(tensors)
    ragged = len(set(lengths.tolist())) > 1
    given: dict[str, tuple[Shape, Tensor]] = {INPUTS: (shape, values)}
    if sample.static is not None:
        static = (
            sample.static if asked.static_scaler is None or not is_raw else asked.static_scaler.scaled(sample.static)
        )
        width = sample.static.shape[1]
        given[STATIC] = (Shape(width, is_sequence=False, is_static=True), torch.from_numpy(static.astype(np.float32)))
    state = None if sample.state is None else State(*(torch.from_numpy(value) for value in sample.state.values()))
    return Inputs(given, Steps(lengths, values.shape[1], ragged=ragged), state)


def _expected(asked: Asked, sample: GivenSample, *, is_raw: bool) -> Sequence[np.ndarray] | np.ndarray:
    """In the units of the last layer: raw values are scaled back."""
    scaler = asked.output_scaler
    expected = sample.expected
    if isinstance(expected, np.ndarray):
        return scaler.scaled(expected.astype(np.float64)) if scaler and is_raw else expected.astype(np.float64)
    return [
        scaler.scaled(each.astype(np.float64)) if scaler and is_raw else each.astype(np.float64) for each in expected
    ]


def _checked(asked: Asked, sequence: np.ndarray) -> np.ndarray:
    """One sequence, whose ids are ids."""
    if asked.reads_tokens:
        size = asked.vocabulary_size or 1
        if sequence.ndim != 1 or sequence.dtype.kind not in "iu" or not ((sequence >= 0) & (sequence < size)).all():
            _refuse(f"its inputs must be token ids from 0 to {size - 1}, (batch, time)")
        return sequence
    if sequence.ndim != _BATCH - 1:
        _refuse(f"a sequence of it has shape {list(sequence.shape)}; it must be (time, feature)")
    return sequence.astype(np.float64)


def _encoded(asked: Asked, text: str) -> np.ndarray:
    if asked.vocabulary is None or not asked.vocabulary.reads_text:
        _refuse("it has a text, but the model reads none: give --vocabulary or --characters")
    try:
        return np.array(asked.vocabulary.encode(asked.vocabulary.split(text)))
    except UnknownToken as error:
        _refuse(f"its text has the token {error.token!r}, which is not in the vocabulary")


def _refuse(message: str) -> NoReturn:
    raise InvalidInput.at(Place(("sample",), message))
