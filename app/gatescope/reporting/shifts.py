"""Correlations of series with the states of all units, beside those of the series shifted in a circle.

A state and a series both change slowly, so that unrelated ones correlate. A series that is shifted in a circle within
each sequence, by an offset of its own, keeps its autocorrelation and loses its place in time. All offsets at once are
one product of Fourier transforms. A linear trend within a sequence is one event, not many: it is taken out of both
before they are compared.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np

DRAWS = 4_000
NEAREST = 0.1
"""No shift is smaller than this share of a sequence, in either direction."""

MOST_NUMBERS = 30_000_000
"""Sums for all offsets of some series that are held at once, about."""

_TINY = 1e-9
_SEED = 0


@dataclass(frozen=True)
class Shifted:
    """What was found.

    Args:
        r: (series, column) at the lag where |r| is largest, without trends.
        lag: (series, column) steps by which the unit follows the series.
        p: (series, column) how often the largest |r| of any series, unit and lag is as large with shifted series.
        least: the smallest p that sequences of these lengths can give.
    """

    r: np.ndarray
    lag: np.ndarray
    p: np.ndarray
    least: float


def compare(states: np.ndarray, series: np.ndarray, lengths: Sequence[int], max_lag: int) -> Shifted:
    """Compare.

    Args:
        states: (step, column), sequences one after another.
        series: (series, step), NaN where nothing is known.
        lengths: of each sequence.
        max_lag: in steps, in both directions.
    """
    generator = np.random.default_rng(_SEED)
    ranges = [_offsets(length, max_lag) for length in lengths]
    draws = np.stack([generator.integers(first, stop, size=DRAWS) for first, stop in ranges], axis=1)
    lags, largest, found = np.arange(-max_lag, max_lag + 1), np.zeros(DRAWS), []
    at_once = max(1, MOST_NUMBERS // states.size)
    for first in range(0, len(series), at_once):
        parts = _parts(states, series[first : first + at_once], lengths)
        here = np.stack([_r(parts, [lag] * len(parts)) for lag in lags])  # (lag, series, column)
        best = np.abs(here).argmax(axis=0)
        found.append((np.take_along_axis(here, best[None], axis=0)[0], lags[best]))
        for index, offsets in enumerate(draws):
            for lag in lags:
                largest[index] = max(largest[index], float(np.abs(_r(parts, offsets + lag)).max()))
    r, lag = (np.concatenate(each) for each in zip(*found, strict=True))
    least = 1 / (1 + min(DRAWS, float(np.prod([stop - first for first, stop in ranges], dtype=float))))
    exceeded = DRAWS - np.searchsorted(np.sort(largest), np.abs(r))
    return Shifted(r, lag, np.maximum((1 + exceeded) / (1 + DRAWS), least), least)


@dataclass(frozen=True)
class _Part:
    """One sequence: sums over its steps for every offset, (offset, series, column), or (series, …) of all offsets."""

    products: np.ndarray  # of the state and the series
    states: np.ndarray  # of the state where the series is known
    squares: np.ndarray  # of its square there
    series: np.ndarray  # (series, 3): known steps, their sum, their sum of squares


def _parts(states: np.ndarray, series: np.ndarray, lengths: Sequence[int]) -> list[_Part]:
    made, start = [], 0
    states = states - states.mean(axis=0)
    scale = states.std(axis=0)
    states = states / np.where(scale > _TINY, scale, 1)
    known_mean = np.nanmean(series, axis=1, keepdims=True)
    deviation = np.nanstd(series, axis=1, keepdims=True)
    series = (series - known_mean) / np.where(deviation > _TINY, deviation, 1)
    for length in lengths:
        own, other = _flattened(states[start : start + length]), _flattened_gaps(series[:, start : start + length].T)
        known = ~np.isnan(other)
        filled = np.where(known, other, 0)
        sums = np.stack([known.sum(axis=0), filled.sum(axis=0), (filled**2).sum(axis=0)], axis=1)
        mask = known.astype(float)
        made.append(_Part(_circular(filled, own), _circular(mask, own), _circular(mask, own**2), sums))
        start += length
    return made


def _circular(series: np.ndarray, states: np.ndarray) -> np.ndarray:
    """(step, series), (step, column) -> (offset, series, column): Σ_t series[t − offset]·state[t]."""
    length = len(series)
    if (series == series[0]).all():
        sums = np.multiply.outer(series[0], states.sum(axis=0))
        return np.broadcast_to(sums, (length, *sums.shape))
    product = np.conj(np.fft.rfft(series, axis=0))[:, :, None] * np.fft.rfft(states, axis=0)[:, None, :]
    return np.fft.irfft(product, n=length, axis=0)


def _r(parts: Sequence[_Part], offsets: Sequence[int] | np.ndarray) -> np.ndarray:
    """(series, column) Pearson's r with each sequence's part of the series shifted by an offset of its own."""
    pairs = [(part, offset % len(part.products)) for part, offset in zip(parts, offsets, strict=True)]
    products = sum(part.products[offset] for part, offset in pairs)
    sums = sum(part.states[offset] for part, offset in pairs)
    squares = sum(part.squares[offset] for part, offset in pairs)
    count, total, square = sum(part.series for part, _ in pairs).T[..., None]  # type: ignore[union-attr]
    covariance = products - sums * total / np.maximum(count, 1)
    variance = (squares - sums**2 / np.maximum(count, 1)) * (square - total**2 / np.maximum(count, 1))
    scale = np.sqrt(np.maximum(variance, 0))
    made: np.ndarray = np.divide(covariance, scale, out=np.zeros_like(covariance), where=scale > _TINY)
    return made


def _flattened(values: np.ndarray) -> np.ndarray:
    """(step, column) without the linear trend of each column."""
    if len(values) < 3:  # noqa: PLR2004 - two points are on a line
        return values - values.mean(axis=0)
    line = np.linspace(-1, 1, len(values))
    made: np.ndarray = values - values.mean(axis=0) - np.outer(line, line @ values / (line @ line))
    return made


def _flattened_gaps(values: np.ndarray) -> np.ndarray:
    """The same of columns with NaN; the mean of a sequence stays, as sequences differ."""
    made = values.copy()
    line = np.linspace(-1, 1, len(values))
    for column in made.T:
        known = ~np.isnan(column)
        if known.sum() >= 3 and np.ptp(column[known]) > 0:  # noqa: PLR2004 - two points are on a line
            own = line[known] - line[known].mean()
            column[known] -= own * (own @ column[known] / (own @ own))
    return made


def _offsets(length: int, max_lag: int) -> tuple[int, int]:
    """The first offset, and the one behind the last."""
    nearest = max(1, int(length * NEAREST), max_lag + 1)
    return (nearest, length - nearest) if length > 2 * nearest else (1 if length > 1 else 0, max(length, 1))
