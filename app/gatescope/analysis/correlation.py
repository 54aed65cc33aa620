"""Which units follow a series: Pearson's correlation with the state of each unit, also some steps later or earlier.

A state and a series both change slowly, so that even unrelated ones correlate. The control is therefore the same
correlation with the series shifted in a circle within each sequence, by many random offsets: its autocorrelation stays,
its place in time does not. Where a series repeats itself, after a year for one, a shift by whole periods would leave it
in its season; such shifts are not drawn.
"""

from __future__ import annotations

from collections.abc import Sequence
from itertools import pairwise
from typing import Any

import numpy as np
from pydantic import Field

from gatescope.analysis.analysis import EVERY_CELL, SCOPE_AXES, Analysis
from gatescope.analysis.periodicity import evident_periods
from gatescope.analysis.result import Check, Findings
from gatescope.analysis.series import SeriesParameters, values_of
from gatescope.analysis.states import States
from gatescope.analysis.subject import Subject

SHIFTS = 200
"""Random shifts of each series."""

LEVEL = 0.99
"""The control is this quantile over the shifts."""

NEAREST_SHIFT = 0.1
"""No shift is smaller than this share of a sequence, in either direction."""

NEAREST_SEASON = 1 / 8
"""No shift, and no rest of the circle, is nearer than this share of a period to a whole number of periods."""

TINY = 1e-12
"""A unit whose deviation times that of the series is below this stands still."""

_SEED = 0


class CorrelationParameters(SeriesParameters):
    """The series, and how far apart in time they may be."""

    max_lag: int = Field(default=0, ge=0, le=1000)
    """Correlate up to so many steps apart; a positive lag says that the unit follows the series."""


def correlation(subject: Subject, parameters: Any) -> Findings:
    """The correlation at the lag where it is strongest; the check is that of the largest unit with shifted series."""
    states = States.of(subject)
    series = values_of(parameters.series, states.lengths)
    lags = range(-parameters.max_lag, parameters.max_lag + 1)
    product = _Correlator(states, subject)
    found = np.stack([product.of(states.delayed(series, lag)) for lag in lags])  # (lag, series, unit)
    strongest = np.abs(np.nan_to_num(found)).argmax(axis=0)  # (series, unit)
    r = np.take_along_axis(found, strongest[None], axis=0)[0]
    generator = np.random.default_rng(_SEED)
    periods = _periods_of(series, states, subject.within(0, 2))
    offsets = [[_offsets_of(length, period) for length in states.lengths] for period in periods]
    draws = subject.within(1, 2).parts(range(SHIFTS))
    shifted = np.stack([_shifted(product, states, series, lags, offsets, generator) for _ in draws])
    control = np.quantile(shifted, LEVEL, axis=0)  # (series, unit)
    largest = float(np.quantile(shifted.max(axis=2), LEVEL, axis=0).max())
    arrays = {"r": r, "lag": np.array(lags)[strongest], "control": control}
    names = [each.name for each in parameters.series]
    return Findings(
        {name: states.by_unit(values) for name, values in arrays.items()},
        {"series": names},
        Check("control", largest),
        _notes(names, periods),
    )


def _notes(names: Sequence[str], periods: Sequence[float | None]) -> list[str]:
    """Which shifts were drawn."""
    drawn = f"{SHIFTS} shifts of the series in a circle, by {NEAREST_SHIFT:.0%} of a sequence at least"
    notes = [f"control: the {LEVEL:.0%} quantile of |r| over {drawn}; check: of the largest unit"]
    for name, period in zip(names, periods, strict=True):
        if period is not None:
            notes.append(f"'{name}' repeats itself after {period:.4g} steps: no shift is near whole periods of it")
    return notes


def _periods_of(series: np.ndarray, states: States, subject: Subject) -> list[float | None]:
    """Of each series (series, step) that of the longest sequence, gaps bridged; None where none is evident."""
    start, stop = max(pairwise(states.edges), key=lambda span: span[1] - span[0])
    steps, bridged = np.arange(stop - start), np.zeros((stop - start, len(series)))
    for column, own in zip(bridged.T, series[:, start:stop], strict=True):
        known = ~np.isnan(own)
        if 2 * known.sum() >= len(own):
            column[:] = np.interp(steps, steps[known], own[known])
    return evident_periods(bridged, subject)


def _offsets_of(length: int, period: float | None) -> np.ndarray:
    """The shifts of a sequence of this length that are drawn."""
    least = int(length * NEAREST_SHIFT)
    offsets = np.arange(least, max(least + 1, length - least))
    if period is None:
        return offsets
    cycles = np.stack([offsets, length - offsets]) / period  # a circle moves its two parts by these
    kept = offsets[(np.abs(cycles - np.round(cycles)) >= NEAREST_SEASON).all(axis=0)]
    return kept if len(kept) else offsets  # a sequence of less than a season


def _shifted(
    product: _Correlator,
    states: States,
    series: np.ndarray,
    lags: range,
    offsets: Sequence[Sequence[np.ndarray]],
    generator: np.random.Generator,
) -> np.ndarray:
    """(series, unit) the largest |r| over the lags, with each sequence's part of the series shifted in a circle.

    Args:
        product: correlates.
        states: of the units.
        series: (series, step).
        lags: that are tried.
        offsets: of each series and sequence, those that may be drawn.
        generator: of random numbers.
    """
    places = generator.random(len(states.lengths))
    drawn = [[own[int(place * len(own))] for own, place in zip(each, places, strict=True)] for each in offsets]
    moved = np.stack([states.rolled(values, each) for values, each in zip(series, drawn, strict=True)])
    found = [np.abs(np.nan_to_num(product.of(states.delayed(moved, lag)))) for lag in lags]
    largest: np.ndarray = np.maximum.reduce(found)
    return largest


class _Correlator:
    """Correlates series with all units at once."""

    def __init__(self, states: States, subject: Subject) -> None:
        self._states, self._subject = states.values - states.values.mean(axis=0), subject  # less is cancelled out
        self._squares = self._states**2

    def of(self, series: np.ndarray) -> np.ndarray:
        """(series, step), NaN where nothing is known -> (series, unit) r, NaN of units that stand still."""
        self._subject.raise_if_cancelled()
        known = ~np.isnan(series)
        count = known.sum(axis=1, keepdims=True)
        mean = np.where(known, series, 0).sum(axis=1, keepdims=True) / np.maximum(count, 1)
        centred = np.where(known, series - mean, 0)
        unit_mean = known @ self._states / np.maximum(count, 1)
        covariance = centred @ self._states
        unit_squares = known @ self._squares - count * unit_mean**2
        scale = np.sqrt((centred**2).sum(axis=1, keepdims=True) * np.maximum(unit_squares, 0))
        r: np.ndarray = np.divide(covariance, scale, out=np.full_like(covariance, np.nan), where=scale > TINY)
        return r


ANALYSIS = Analysis(
    name="correlation",
    title="Units that follow a series",
    question="Which unit follows the snow, the temperature, or any other series that is known?",
    arrays=dict.fromkeys(("r", "lag", "control"), ("series", *SCOPE_AXES)),
    cells=EVERY_CELL,
    parameters=CorrelationParameters,
    needs=("series",),
    run=correlation,
)
