"""Units that remember long, and gates that hardly move: each beside networks with the same typical weights."""

from __future__ import annotations

import math

import numpy as np

from gatescope.reporting.finding import Finding
from gatescope.reporting.recording import Recording
from gatescope.reporting.redrawn import Largest, largest, shortened

SHUT, OPEN = 0.1, 0.9
LONGEST = 1e6
"""Steps; a unit that remembers longer counts as if it did so for so many."""

_LEAST_LOGARITHM, _LEAST_SHARE = 0.1, 0.03
MOST = 3


def slow_and_saturated(recording: Recording) -> tuple[list[Finding], list[Finding]]:
    """The units with the longest timescales, and the gates that are nearly shut or open at the largest share of steps.

    A timescale is τ = −1/ln f, f the geometric mean of the gate that keeps the state.
    """
    gate = recording.keeping
    if gate is None:
        return [], []
    short = shortened(recording.subject)
    others = largest(short, lambda each: _both(Recording.of(each, "gates")))
    compared = recording if short is recording.subject else Recording.of(short, "gates")
    slow = _slow(recording, gate, _logarithms(compared), Largest(others[:, 0], _LEAST_LOGARITHM))
    return slow, _saturated(recording, _shares(compared), Largest(others[:, 1], _LEAST_SHARE))


def _both(recording: Recording) -> np.ndarray:
    """The largest ln τ of any unit, and the largest share of steps at which a gate is shut or open."""
    return np.array([_logarithms(recording).max(), _shares(recording).max()])


def _slow(recording: Recording, gate: np.ndarray, compared: np.ndarray, control: Largest) -> list[Finding]:
    timescales, found = np.exp(_logarithms(recording)), []
    for column in np.argsort(-compared, kind="stable")[:MOST]:
        figures = {
            "timescale": float(timescales[column]),
            "half_life": math.log(2) * float(timescales[column]),
            "gate": "" if recording.retention is None else recording.retention.gate,
            "gate_mean": float(gate[:, column].mean()),
            "gate_deviation": float(gate[:, column].std()),
            "median_timescale": float(np.median(timescales)),
            "control": math.exp(control.usual),
        }
        found.append(Finding("slow", recording.places[column], figures, control.p(float(compared[column]))))
    return found


def _saturated(recording: Recording, shares: np.ndarray, control: Largest) -> list[Finding]:
    best, found = shares.max(axis=0), []
    for column in np.argsort(-best, kind="stable")[:MOST]:
        index = int(shares[:, column].argmax())
        name, side = recording.gates[index // 2], ("shut", "open")[index % 2]
        values = recording.signals[name][:, column]
        figures = {
            "gate": name,
            "side": side,
            "share": float(((values < SHUT) if side == "shut" else (values > OPEN)).mean()),
            "gate_mean": float(values.mean()),
            "control": control.usual,
        }
        found.append(Finding("saturated", recording.places[column], figures, control.p(float(best[column]))))
    return found


def _logarithms(recording: Recording) -> np.ndarray:
    """(column,) ln τ."""
    gate = recording.keeping
    if gate is None:
        raise TypeError("no gate keeps the state")
    with np.errstate(divide="ignore"):
        kept = np.log(gate).mean(axis=0)
        made: np.ndarray = np.log(np.clip(-1 / np.minimum(kept, -1e-300), 1e-3, LONGEST))
    return made


def _shares(recording: Recording) -> np.ndarray:
    """(2 · gate, column) the share of steps at which each gate is shut, and open."""
    rows = []
    for name in recording.gates:
        values = recording.signals[name]
        rows += [(values < SHUT).mean(axis=0), (values > OPEN).mean(axis=0)]
    return np.stack(rows)
