"""Units that swing: a line in the spectrum of the state that stands above what is around it.

Of a series without a period each ordinate of its spectrum is about the mean of its neighbours times an exponential
number. Beside the mean of n neighbours the ratio exceeds x with probability (1 + x/n)^−n, whatever the spectrum's
shape, as long as it is smooth over the neighbours.
"""

from __future__ import annotations

import numpy as np

from gatescope.reporting.finding import Family, Finding
from gatescope.reporting.recording import Recording

NEIGHBOURS, LEFT_OUT = 20, 3
"""On either side; the nearest are left out, since the window spreads a line over them."""

FEWEST_STEPS = 200
MOST = 3
_INDEPENDENT = 0.5
"""Of Hann's window: neighbours that count as independent ones, in parts of all."""


def swings(recording: Recording) -> Family:
    """The units with the clearest period, in the longest sequence."""
    row = int(np.argmax(recording.lengths))
    steps = recording.lengths[row]
    if steps < FEWEST_STEPS:
        return Family("swings", note=f"A period needs a sequence of {FEWEST_STEPS} steps; the longest has {steps}.")
    start = recording.edges[row]
    power = _power(recording.state[start : start + steps])
    inputs = _power(recording.inputs[start : start + steps])
    best, chance, share = _lines(power)
    moves = recording.state[start : start + steps].std(axis=0) > 0
    chance = np.where(moves, chance, 1.0)
    tried = (len(power) - 2) * max(1, int(moves.sum()))
    driven = _lines(inputs)
    findings = []
    for column in np.argsort(chance, kind="stable")[:MOST]:
        also = (np.abs(driven[0] - best[column]) <= 1) & (driven[1] * tried < 0.01)  # noqa: PLR2004 - as sure
        figures = {
            "period": steps / float(best[column] + 1),
            "share": float(share[column]),
            "in_inputs": bool(also.any()),
        }
        p = 1.0 if also.any() else min(1.0, float(chance[column]) * tried)  # any unit follows what it reads
        findings.append(Finding("swings", recording.places[column], figures, p))
    return Family("swings", tuple(findings))


def _power(values: np.ndarray) -> np.ndarray:
    """(step, column) -> (frequency from 1, column)."""
    steps = len(values)
    line = np.linspace(-1, 1, steps)
    centred = values - values.mean(axis=0)
    centred = centred - np.outer(line, line @ centred / (line @ line))
    power: np.ndarray = np.abs(np.fft.rfft(centred * np.hanning(steps + 2)[1:-1, None], axis=0)[1:]) ** 2
    return power


def _lines(power: np.ndarray) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
    """(column,) the frequency of the clearest line, how often one ordinate is as high, and its share of the power."""
    size = len(power)
    ratio, number = np.zeros_like(power), np.ones(size)
    sums = np.concatenate([np.zeros((1, power.shape[1])), power.cumsum(axis=0)])
    for index in range(1, size - 1):
        low, high = max(0, index - LEFT_OUT - NEIGHBOURS), min(size, index + LEFT_OUT + 1 + NEIGHBOURS)
        left, right = max(low, index - LEFT_OUT), min(high, index + LEFT_OUT + 1)
        count = (left - low) + (high - right)
        around = (sums[left] - sums[low] + sums[high] - sums[right]) / max(count, 1)
        ratio[index] = np.divide(power[index], around, out=np.zeros_like(around), where=around > 0)
        number[index] = max(1.0, count * _INDEPENDENT)
    chance = (1 + ratio / number[:, None]) ** -number[:, None]
    best = chance.argmin(axis=0)
    columns = np.arange(power.shape[1])
    total = power.sum(axis=0)
    near = sum(power[np.clip(best + step, 0, size - 1), columns] for step in (-1, 0, 1))
    share = np.divide(near, total, out=np.zeros_like(total), where=total > 0)
    return best, chance[best, columns], share
