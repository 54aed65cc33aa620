"""Units that swing: the strongest period in the state of each, and its share of the variance.

The control is what a series of the same length and autocorrelation from step to step, but without a period, shows: red
noise, x_t = a·x_{t−1} + e_t, with each unit's own a (Allen, Smith: Monte Carlo SSA, J. Climate 1996, for the idea).
"""

from __future__ import annotations

from typing import Any

import numpy as np

from gatescope.analysis.analysis import EVERY_CELL, SCOPE_AXES, Analysis, OneSequence
from gatescope.analysis.result import Check, Findings
from gatescope.analysis.states import States
from gatescope.analysis.subject import Subject
from gatescope.errors import InvalidInput

LEAST_STEPS = 8
SURROGATES, AT_ONCE = 200, 10
LEVEL = 0.99
FINER = 201
"""Frequencies at which a peak is looked for between its two neighbours."""
_SEED = 0


class PeriodicityParameters(OneSequence):
    """Which sequence."""

    def check(self, subject: Subject) -> None:
        """Refuse a sequence that is not there or is too short."""
        (steps,) = subject.only(self.sequence).lengths
        if steps < LEAST_STEPS:
            raise InvalidInput(f"the sequence has {steps} steps; a period needs {LEAST_STEPS} at least")


def periodicity(subject: Subject, parameters: Any) -> Findings:
    """Period in steps and share of the variance; the check is the largest share of red noise.

    A peak is the strongest frequency with its two neighbours. Slow drift, of less than two periods in the sequence, is
    no period. Units whose share is no larger than red noise's have no period: NaN.
    """
    one = subject.only(parameters.sequence)
    states = States.of(one)
    period, share = _strongest(states.values)
    control = _of_noise(states.values, one)  # (surrogate, unit)
    by_chance = np.quantile(control, LEVEL, axis=0)
    period = np.where(share > by_chance, period, np.nan)
    arrays = {"period": states.by_unit(period), "share": states.by_unit(share)}
    largest = float(np.quantile(control.max(axis=1), LEVEL))
    notes = [
        f"period: null where the share is not above the {LEVEL:.0%} quantile of red noise with that autocorrelation"
    ]
    return Findings(arrays, check=Check("control", largest), notes=notes)


def evident_periods(values: np.ndarray, subject: Subject) -> list[float | None]:
    """The period of each series (step, series) in steps; None where red noise shows as strong a one.

    They need not be whole numbers: the peak is looked for between the frequencies of the transform, too.
    """
    steps = len(values)
    if steps < LEAST_STEPS:
        return [None] * values.shape[1]
    periods, shares = _strongest(values)
    by_chance = np.quantile(_of_noise(values, subject), LEVEL, axis=0)
    windowed = (values - values.mean(axis=0)) * np.hanning(steps + 2)[1:-1, None]
    found: list[float | None] = []
    for period, is_evident, series in zip(periods, shares > by_chance, windowed.T, strict=True):
        cycles = steps / period + np.linspace(-1, 1, FINER) if is_evident else np.zeros(1)
        power = np.abs(np.exp(-2j * np.pi * np.outer(cycles / steps, np.arange(steps))) @ series)
        found.append(float(steps / cycles[power.argmax()]) if is_evident else None)
    return found


def _strongest(values: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
    """(step, …) -> the period and the share of its peak (…); NaN and 0 where nothing changes."""
    steps = len(values)
    line = np.linspace(-1, 1, steps)
    centred = values - values.mean(axis=0)
    slope = np.tensordot(line, centred, 1) / (line @ line)
    window = np.hanning(steps + 2)[1:-1]
    power = np.abs(np.fft.rfft((centred - np.multiply.outer(line, slope)).T * window)).T ** 2  # (frequency, …)
    total = power[1:].sum(axis=0)
    peaks = power[2:].copy()
    peaks[1:] += power[2:-1]
    peaks[:-1] += power[3:]
    peaks[0] += power[1]
    best = peaks.argmax(axis=0)
    largest = np.take_along_axis(peaks, best[None], axis=0)[0]
    moves = total > 1e-12 * max(1.0, float(total.max()))
    share = np.divide(largest, total, out=np.zeros_like(total), where=moves)
    return np.where(moves, steps / (best + 2), np.nan), share


def _of_noise(values: np.ndarray, subject: Subject) -> np.ndarray:
    """(surrogate, unit) the share of the strongest peak of red noise like each unit."""
    centred = values - values.mean(axis=0)
    squares = (centred**2).sum(axis=0)
    products = (centred[1:] * centred[:-1]).sum(axis=0)
    keep = np.clip(np.divide(products, squares, out=np.zeros_like(squares), where=squares > 0), 0, 0.9999)
    generator = np.random.default_rng(_SEED)
    found = []
    for _ in subject.parts(range(0, SURROGATES, AT_ONCE)):
        noise = generator.standard_normal((len(values), AT_ONCE, len(keep)))
        noise[0] /= np.sqrt(1 - keep**2)
        for step in range(1, len(noise)):
            noise[step] += keep * noise[step - 1]
        found.append(_strongest(noise)[1])
    return np.concatenate(found)


ANALYSIS = Analysis(
    name="periodicity",
    title="Units that swing",
    question="Which units repeat themselves, and after how many steps?",
    arrays=dict.fromkeys(("period", "share"), SCOPE_AXES),
    cells=EVERY_CELL,
    parameters=PeriodicityParameters,
    run=periodicity,
)
