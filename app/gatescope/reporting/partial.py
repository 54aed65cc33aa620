"""How closely states follow a series beyond what the inputs of the same step tell.

A state and a series that both follow an input correlate without a memory: in a year of weather each unit that reads the
temperature follows each series that has a season. The partial correlation (Fisher 1924) is that of what is left of both
where a linear regression on the inputs of the same step, and on a trend, is taken out. Inputs of earlier steps are not
taken out: to carry them on is what a unit with a memory does.

Each sequence has a regression of its own, and its states are in units of their own deviation there, since a network
that reads what sequence it is in (a site, a person) may hold the same thing at another scale in each. The series keeps
its unit: the mean over the sequences has the weight of the deviation of what is left of the series, so that a sequence
in which the series hardly moves hardly counts.
"""

from __future__ import annotations

from collections.abc import Sequence
from itertools import pairwise

import numpy as np

STEPS_EACH = 10
"""Of a sequence, for each input that varies, at least; shorter ones are left out: few steps fit anything."""

_TINY = 1e-12


def partial(
    states: np.ndarray, series: np.ndarray, inputs: np.ndarray, lengths: Sequence[int], max_lag: int
) -> np.ndarray | None:
    """(column,) the mean partial correlation of each state with the series, at the lag where it is largest.

    Args:
        states: (step, column), sequences one after another.
        series: (step,), NaN where nothing is known.
        inputs: (step, feature), as the module reads them.
        lengths: of each sequence.
        max_lag: in steps, in both directions.

    Returns:
        None where no sequence is long enough, or nothing is left of the series.
    """
    lags = range(-max_lag, max_lag + 1)
    total, weight = np.zeros((len(lags), states.shape[1])), 0.0
    for start, stop in pairwise([0, *np.cumsum(lengths)]):
        own, known = series[start:stop], ~np.isnan(series[start:stop])
        regressors = _regressors(inputs[start:stop])
        if known.sum() < STEPS_EACH * regressors.shape[1]:
            continue
        left = np.full(len(own), np.nan)
        left[known] = _rest(regressors[known], own[known])
        deviation = float(np.nanstd(left))
        if deviation <= _TINY * max(float(np.nanstd(own)), _TINY):
            continue
        moving, rest = known.sum() * deviation, _rest(regressors, states[start:stop])
        total += moving * np.stack([_at_lag(rest, left, lag) for lag in lags])
        weight += moving
    if not weight:
        return None
    made: np.ndarray = np.take_along_axis(total, np.abs(total).argmax(axis=0)[None], axis=0)[0] / weight
    return made


def _regressors(inputs: np.ndarray) -> np.ndarray:
    """(step, regressor) one, a trend, and the inputs that vary."""
    varying = inputs[:, np.ptp(inputs, axis=0) > 0]
    deviation = varying.std(axis=0)
    line = np.linspace(-1, 1, len(inputs))
    return np.column_stack([np.ones(len(inputs)), line, (varying - varying.mean(axis=0)) / deviation])


def _rest(regressors: np.ndarray, values: np.ndarray) -> np.ndarray:
    made: np.ndarray = values - regressors @ np.linalg.lstsq(regressors, values, rcond=None)[0]
    return made


def _at_lag(states: np.ndarray, series: np.ndarray, lag: int) -> np.ndarray:
    """(column,) r of each state with the series so many steps before; 0 of states that do not move."""
    steps = len(states)
    moved, own = series[max(0, -lag) : steps - max(0, lag)], states[max(0, lag) : steps - max(0, -lag)]
    known = ~np.isnan(moved)
    left, right = moved[known], own[known]
    scale = np.sqrt((left**2).sum() * (right**2).sum(axis=0))
    made: np.ndarray = np.divide(left @ right, scale, out=np.zeros_like(scale), where=scale > _TINY)
    return made
