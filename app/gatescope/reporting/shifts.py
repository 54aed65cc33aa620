"""Correlations of series with the states of all units, beside those of the series shifted in time.

A state and a series both change slowly, so that unrelated ones correlate. A series that is shifted within each
sequence, by an offset of its own, keeps its autocorrelation and loses its place in time. It is compared where both
overlap; as r of fewer steps varies more, it is multiplied by the root of their share (Mrkvička et al.,
doi:10.1016/j.spasta.2020.100430; a shift in a circle has a seam, which makes r too small). All offsets at once are
products of Fourier transforms. A linear trend within a sequence is one event, not many: it is taken out of both before
they are compared.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np

DRAWS = 2_000
NEAREST = 0.1
"""No shift is smaller than this share of a sequence, in either direction."""

MOST_NUMBERS = 30_000_000
"""Sums for all offsets of some series that are held at once, about."""

AT_ONCE = 500_000
"""Correlations that are computed at once."""

FEW_SHIFTS = 0.01
"""One by the number of different shifts; with fewer of them, p is no smaller than that."""

WIDER = 1.15
"""As the deviation of few effective shifts is not known well."""

_TINY = 1e-9
_CLOSEST = 1 - 1e-9
_EULER = 0.5772156649
_SEED = 0


@dataclass(frozen=True)
class Shifted:
    """What was found.

    Args:
        r: (series, column) at the lag where |r| is largest, without trends.
        lag: (series, column) steps by which the unit follows the series.
        p: (series, column) how often the largest |r| of any series, unit and lag is as large with shifted series.
        is_short: whether there are so few shifts that they prove little.
    """

    r: np.ndarray
    lag: np.ndarray
    p: np.ndarray
    is_short: bool


def compare(states: np.ndarray, series: np.ndarray, lengths: Sequence[int], max_lag: int) -> Shifted:
    """Compare.

    Args:
        states: (step, column), sequences one after another.
        series: (series, step), NaN where nothing is known.
        lengths: of each sequence.
        max_lag: in steps, in both directions.
    """
    generator, lags = np.random.default_rng(_SEED), np.arange(-max_lag, max_lag + 1)
    ranges = [_offsets(length, max_lag) for length in lengths]
    signs = generator.choice((-1, 1), size=(DRAWS, len(lengths)))
    draws = signs * np.stack([generator.integers(first, stop, size=DRAWS) for first, stop in ranges], axis=1)
    largest, found = np.zeros(DRAWS), []
    at_once = max(1, MOST_NUMBERS // states.size)
    for first in range(0, len(series), at_once):
        sums = _Sums.of(states, series[first : first + at_once], lengths)
        here = sums.r(np.repeat(lags[:, None], len(lengths), axis=1))  # (lag, series, column)
        best = np.abs(here).argmax(axis=0)
        found.append((np.take_along_axis(here, best[None], axis=0)[0], lags[best]))
        part = max(1, AT_ONCE // here[0].size)
        for start in range(0, DRAWS, part):
            own = slice(start, start + part)
            for lag in lags:
                largest[own] = np.maximum(largest[own], np.abs(sums.r(draws[own] + lag)).max(axis=(1, 2)))
    r, at = (np.concatenate(each) for each in zip(*found, strict=True))
    least = 1 / (1 + min(DRAWS, float(np.prod([2 * (stop - first) for first, stop in ranges], dtype=float))))
    exceeded = DRAWS - np.searchsorted(np.sort(largest), np.abs(r))
    counted = exceeded / DRAWS if least < FEW_SHIFTS else np.maximum((1 + exceeded) / (1 + DRAWS), least)
    return Shifted(r, at, np.maximum(counted, _fitted(largest, r)), is_short=least >= FEW_SHIFTS)


def _fitted(largest: np.ndarray, r: np.ndarray) -> np.ndarray:
    """How often the largest |r| exceeds each, by Gumbel's distribution of maxima with the moments of Fisher's z.

    Shifts of a slow series are few in effect, whatever their number, so that none may exceed a value by chance; the fit
    knows how far they reach.
    """
    z = np.arctanh(np.minimum(largest, _CLOSEST))
    scale = max(WIDER * float(z.std()) * np.sqrt(6) / np.pi, _TINY)
    above = (np.arctanh(np.minimum(np.abs(r), _CLOSEST)) - z.mean()) / scale + _EULER
    made: np.ndarray = -np.expm1(-np.exp(-np.maximum(above, -50)))
    return made


@dataclass(frozen=True)
class _Sums:
    """Of each sequence, for every offset (modulo twice its length): sums over the steps that overlap.

    Args:
        mixed: of each sequence (3, offset, series, column): of state · series, of the state, and of its square.
        alone: of each sequence (3, offset, series): the number of steps, the series, and its square.
    """

    mixed: list[np.ndarray]
    alone: list[np.ndarray]

    @classmethod
    def of(cls, states: np.ndarray, series: np.ndarray, lengths: Sequence[int]) -> _Sums:
        """Of standardised states (step, column) and series (series, step), without trends."""
        states, series = _standard(states), _standard(series.T)
        mixed, alone, start = [], [], 0
        for length in lengths:
            own, other = _flattened(states[start : start + length]), _flattened(series[start : start + length])
            known = (~np.isnan(other)).astype(float)
            filled, ones = np.where(known > 0, other, 0), np.ones((length, 1))
            pairs = ((filled, own), (known, own), (known, own**2))
            mixed.append(np.stack([_sliding(left, right) for left, right in pairs]))
            alone.append(np.stack([_sliding(left, ones)[..., 0] for left in (known, filled, filled**2)]))
            start += length
        return cls(mixed, alone)

    def r(self, offsets: np.ndarray) -> np.ndarray:
        """(draw, sequence) -> (draw, series, column) r with each sequence's part of the series moved so many steps."""
        pairs = list(zip(self.mixed, self.alone, offsets.T, strict=True))
        product, state, square = (
            sum(mixed[part][own % mixed.shape[1]] for mixed, _, own in pairs) for part in range(3)
        )
        count, total, squares = (
            sum(alone[part][own % alone.shape[1]] for _, alone, own in pairs)[..., None] for part in range(3)
        )
        count = np.maximum(count, 1)
        variance = (square - state**2 / count) * (squares - total**2 / count)
        scale = np.sqrt(np.maximum(variance, 0))
        found = np.divide(product - state * total / count, scale, out=np.zeros_like(scale), where=scale > _TINY)
        whole = np.maximum(sum(alone[0, 0] for alone in self.alone), 1)[:, None]
        made: np.ndarray = found * np.sqrt(np.minimum(count / whole, 1))
        return made


def _sliding(series: np.ndarray, states: np.ndarray) -> np.ndarray:
    """(step, series), (step, column) -> (offset, series, column): Σ_t series[t − offset]·state[t] where both are."""
    size = 2 * len(series)
    left, right = np.fft.rfft(series, size, axis=0), np.fft.rfft(states, size, axis=0)
    return np.fft.irfft(np.conj(left)[:, :, None] * right[:, None, :], size, axis=0)


def _standard(values: np.ndarray) -> np.ndarray:
    """(step, column) less its mean, by its deviation; NaN stays."""
    deviation = np.nanstd(values, axis=0)
    made: np.ndarray = (values - np.nanmean(values, axis=0)) / np.where(deviation > _TINY, deviation, 1)
    return made


def _flattened(values: np.ndarray) -> np.ndarray:
    """(step, column) without the linear trend of each column; its mean stays, as sequences differ; NaN stays."""
    made, line = values.copy(), np.linspace(-1, 1, len(values))
    for column in made.T:
        known = ~np.isnan(column)
        if known.sum() >= 3:  # noqa: PLR2004 - two points are on a line
            own = line[known] - line[known].mean()
            column[known] -= own * (own @ column[known] / (own @ own))
    return made


def _offsets(length: int, max_lag: int) -> tuple[int, int]:
    """The smallest offset, and the one behind the largest, of which at least half of a sequence overlaps."""
    nearest = max(1, int(length * NEAREST), max_lag + 1)
    return (nearest, max(nearest + 1, length // 2 - max_lag + 1)) if length > 2 * nearest else (0, 1)
