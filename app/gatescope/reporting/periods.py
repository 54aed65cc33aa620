"""Units that swing: a line in the spectrum of the state that stands above what is on either side of it.

Of a series without a period each ordinate of its spectrum is about the mean of its neighbours times an exponential
number. Beside the mean of n neighbours the ratio exceeds x with probability (1 + x/n)^−n, whatever the spectrum's
shape, as long as it is smooth over the neighbours. It is not where it is steep: a state that changes slowly has most of
its power at the longest periods, one that jumps to and fro at the shortest. So each side is compared by itself, and the
larger probability counts; a period needs neighbours on both sides, that is `LEAST_TURNS` turns or more.

A network with feedback may resonate with what it reads without having learned a period: its spectrum has a hump. So a
line must also be clearer than that of any unit of networks with the same typical weights in no order.
"""

from __future__ import annotations

import numpy as np

from gatescope.reporting.finding import LEVEL, Family, Finding
from gatescope.reporting.recording import Recording
from gatescope.reporting.redrawn import Largest, largest, shortened

NEIGHBOURS, LEFT_OUT = 20, 3
"""On either side; the nearest are left out, since the window spreads a line over them."""

LEAST_TURNS = LEFT_OUT + 2
FEWEST_STEPS = 200
MOST = 3
_INDEPENDENT = 0.5
"""Of Hann's window: neighbours that count as independent ones, in parts of all."""

_LEAST_CLARITY, _SMALLEST = 0.1, 1e-300


def swings(recording: Recording) -> Family:
    """The units with the clearest period, in the longest sequence."""
    row = int(np.argmax(recording.lengths))
    steps = recording.lengths[row]
    if steps < FEWEST_STEPS:
        return Family("swings", note=f"A period needs a sequence of {FEWEST_STEPS} steps; the longest has {steps}.")
    start = recording.edges[row]
    best, chance, share = _lines(_power(recording.state[start : start + steps]))
    driven, tried = _lines(_power(recording.inputs[start : start + steps])), _tried(recording, steps)
    control = _control(recording) if chance.min() * tried <= LEVEL else None
    findings = []
    for column in np.argsort(chance, kind="stable")[:MOST]:
        also = (np.abs(driven[0] - best[column]) <= 1) & (driven[1] * tried < LEVEL)  # as sure
        figures = {
            "period": steps / float(best[column] + 1),
            "share": float(share[column]),
            "in_inputs": bool(also.any()),
        }
        p = 1.0 if also.any() else min(1.0, float(chance[column]) * tried)  # any unit follows what it reads
        if control is not None:
            p = max(p, float(control[column]))
        findings.append(Finding("swings", recording.places[column], figures, p))
    return Family("swings", tuple(findings))


def _tried(recording: Recording, steps: int) -> int:
    """How many ordinates of how many units are looked at."""
    return (steps // 2 - 2) * len(recording.places)


def _control(recording: Recording) -> np.ndarray:
    """(column,) how often a network with the same typical weights has a unit with as clear a line."""
    short = shortened(recording.subject)
    own = _clarity(recording if short is recording.subject else Recording.of(short, "state"))
    control = Largest(largest(short, lambda each: _clarity(Recording.of(each, "state")).max()), _LEAST_CLARITY)
    return np.array([control.p(value) for value in own])


def _clarity(recording: Recording) -> np.ndarray:
    """(column,) the logarithm of −ln of how often one ordinate is as high, in the longest sequence."""
    row = int(np.argmax(recording.lengths))
    part = slice(recording.edges[row], recording.edges[row + 1])
    chance = _lines(_power(recording.state[part]))[1]
    made: np.ndarray = np.log(1 - np.log(np.clip(chance, _SMALLEST, 1)))
    return made


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
    size, columns = len(power), np.arange(power.shape[1])
    sums = np.concatenate([np.zeros((1, power.shape[1])), power.cumsum(axis=0)])
    chance = np.ones_like(power)
    for index in range(LEAST_TURNS - 1, size - LEFT_OUT - 1):
        before = max(0, index - LEFT_OUT - NEIGHBOURS), index - LEFT_OUT
        behind = index + LEFT_OUT + 1, min(size, index + LEFT_OUT + 1 + NEIGHBOURS)
        sides = [_chance(power[index], sums[stop] - sums[start], stop - start) for start, stop in (before, behind)]
        chance[index] = np.maximum(*sides)
    best = chance.argmin(axis=0)
    total = power.sum(axis=0)
    near = sum(power[np.clip(best + step, 0, size - 1), columns] for step in (-1, 0, 1))
    share = np.divide(near, total, out=np.zeros_like(total), where=total > 0)
    return best, chance[best, columns], share


def _chance(power: np.ndarray, around: np.ndarray, count: int) -> np.ndarray:
    """(column,) how often an ordinate is so high beside the sum of so many others; 1 of states that do not move."""
    ratio = np.divide(power * count, around, out=np.zeros_like(around), where=around > 0)
    number = max(1.0, count * _INDEPENDENT)
    made: np.ndarray = (1 + ratio / number) ** -number
    return made
