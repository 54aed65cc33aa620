"""`responses_of`: where one unit is highest and lowest, and what it does on average at each token or input value."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass
from typing import Any, NamedTuple

import numpy as np

from gatescope.zarr_store import Reader

BINS = 10
"""Equal spans between the least and the largest value of a feature."""
_ROWS = 2**16


class Peak(NamedTuple):
    """A step at which the value is higher, or lower, than at those beside it."""

    sequence: int
    step: int
    value: float


@dataclass(frozen=True)
class TokenMean:
    """What a unit does at one token."""

    token: str
    mean: float
    count: int


class FeatureMeans(NamedTuple):
    """What a unit does in each bin of one feature."""

    feature: str
    edges: list[float]
    means: list[float]
    """NaN of a bin without values."""
    counts: list[int]


class Responses(NamedTuple):
    """What is known of one unit."""

    highest: list[Peak]
    lowest: list[Peak]
    tokens: list[TokenMean] | None
    """The highest means first; None of a model of features."""
    features: list[FeatureMeans] | None
    """None of a model of tokens."""


def responses_of(
    reader: Reader,
    place: tuple[str, int, int, int],
    most: int,
    names: Sequence[str] = (),
    is_cancelled: Callable[[], bool] = lambda: False,
) -> Responses:
    """What one unit does over all sequences.

    Args:
        reader: of the traces.
        place: the signal, and of the layer, the direction and the unit which of those in the file.
        most: so many peaks are told.
        names: of the features.
        is_cancelled: asked now and then.

    Raises:
        InterruptedError: it was cancelled.
    """
    signal, layer, direction, unit = place
    array: Any = reader.signals[signal]
    values = np.empty(array.shape[0], dtype=np.float32)
    for rows in _blocks(len(values), is_cancelled):
        values[rows] = array[rows, layer, direction, unit]
    tokens, inputs = reader.array("tokens"), reader.array("inputs")
    return Responses(
        _peaks(values, reader.offsets, most),
        [peak._replace(value=-peak.value) for peak in _peaks(-values, reader.offsets, most)],
        None if tokens is None else _token_means(tokens, values, is_cancelled),
        None if inputs is None else _feature_means(inputs, values, names, is_cancelled),
    )


def _peaks(values: np.ndarray, offsets: np.ndarray, most: int) -> list[Peak]:
    """The highest steps that are higher than the one before and no lower than the one behind, within a sequence."""
    rises, falls = np.ones(len(values), dtype=bool), np.ones(len(values), dtype=bool)
    rises[1:] = values[1:] > values[:-1]
    falls[:-1] = values[:-1] >= values[1:]
    rises[offsets[:-1][offsets[:-1] < len(values)]] = True
    falls[offsets[1:] - 1] = True
    steps = np.flatnonzero(rises & falls)
    best = steps[np.argsort(-values[steps], kind="stable")[:most]]
    sequences = np.searchsorted(offsets, best, side="right") - 1
    return [
        Peak(int(sequence), int(step - offsets[sequence]), float(values[step]))
        for sequence, step in zip(sequences, best, strict=True)
    ]


def _token_means(tokens: Any, values: np.ndarray, is_cancelled: Callable[[], bool]) -> list[TokenMean]:
    index: dict[str, int] = {}
    sums, counts = np.zeros(0), np.zeros(0, dtype=np.int64)
    for rows in _blocks(len(values), is_cancelled):
        names = map(str, np.asarray(tokens[rows]))
        which = np.fromiter((index.setdefault(name, len(index)) for name in names), dtype=np.int64)
        more = len(index) - len(sums)
        sums = np.pad(sums, (0, more)) + np.bincount(which, values[rows].astype(np.float64), minlength=len(index))
        counts = np.pad(counts, (0, more)) + np.bincount(which, minlength=len(index))
    told = map(TokenMean, index, (sums / counts).tolist(), counts.tolist())
    return sorted(told, key=lambda each: (-each.mean, each.token))


def _feature_means(
    inputs: Any, values: np.ndarray, names: Sequence[str], is_cancelled: Callable[[], bool]
) -> list[FeatureMeans]:
    width = inputs.shape[1]
    low, high = np.full(width, np.inf), np.full(width, -np.inf)
    for rows in _blocks(len(values), is_cancelled):
        part = np.asarray(inputs[rows], dtype=np.float64)
        low = np.minimum(low, np.where(np.isnan(part), np.inf, part).min(axis=0))
        high = np.maximum(high, np.where(np.isnan(part), -np.inf, part).max(axis=0))
    known = np.isfinite(low) & np.isfinite(high)  # a feature that was never sent has no values
    low, high = np.where(known, low, 0.0), np.where(known, high, 0.0)
    sums, counts = np.zeros((width, BINS)), np.zeros((width, BINS), dtype=np.int64)
    spans = np.where(high > low, high - low, 1.0)
    for rows in _blocks(len(values), is_cancelled):
        part = np.asarray(inputs[rows], dtype=np.float64)
        places = np.clip(np.nan_to_num((part - low) / spans * BINS), 0, BINS - 1).astype(np.int64)
        for feature in np.flatnonzero(known):
            is_there = ~np.isnan(part[:, feature])
            which = places[is_there, feature]
            sums[feature] += np.bincount(which, values[rows][is_there].astype(np.float64), minlength=BINS)
            counts[feature] += np.bincount(which, minlength=BINS)
    with np.errstate(invalid="ignore"):
        means = sums / counts
    named = names if len(names) == width else [str(each) for each in range(width)]
    return [
        FeatureMeans(
            name, np.linspace(low[each], high[each], BINS + 1).tolist(), means[each].tolist(), counts[each].tolist()
        )
        for each, name in enumerate(named)
    ]


def _blocks(count: int, is_cancelled: Callable[[], bool]) -> Iterator[slice]:
    for first in range(0, count, _ROWS):
        if is_cancelled():
            raise InterruptedError("nobody waits for it any more")
        yield slice(first, min(first + _ROWS, count))
