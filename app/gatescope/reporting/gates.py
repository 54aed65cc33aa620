"""Units that remember long, and gates that hardly move: each beside networks with the same typical weights."""

from __future__ import annotations

import math

import numpy as np

from gatescope.analysis.subject import Subject
from gatescope.reporting.finding import Finding
from gatescope.reporting.recording import Recording
from gatescope.reporting.redrawn import Largest, largest, shortened

SHUT, OPEN = 0.1, 0.9
LONGEST = 1e6
"""Steps; a unit that remembers longer counts as if it did so for so many."""

_LEAST_LOGARITHM, _LEAST_SHARE = 0.1, 0.03
MOST = 3


def slow(recording: Recording) -> list[Finding]:
    """The units with the longest timescales τ = −1/ln f, f the geometric mean of the gate that keeps the state."""
    gate = recording.keeping
    if gate is None or recording.retention is None:
        return []
    short = shortened(recording.subject)
    control = Largest(
        largest(short, lambda each: _logarithms(Recording.of(each, only_gate=True)).max()), _LEAST_LOGARITHM
    )
    compared = _logarithms(recording if short is recording.subject else Recording.of(short, only_gate=True))
    timescales = np.exp(_logarithms(recording))
    found = []
    for column in np.argsort(-compared, kind="stable")[:MOST]:
        figures = {
            "timescale": float(timescales[column]),
            "half_life": math.log(2) * float(timescales[column]),
            "gate": recording.retention.gate,
            "gate_mean": float(gate[:, column].mean()),
            "gate_deviation": float(gate[:, column].std()),
            "median_timescale": float(np.median(timescales)),
            "control": math.exp(control.usual),
        }
        found.append(Finding("slow", recording.places[column], figures, control.p(float(compared[column]))))
    return found


def saturated(recording: Recording) -> list[Finding]:
    """The gates that are nearly shut, or nearly open, at the largest share of steps."""
    if not recording.gates:
        return []
    short = shortened(recording.subject)
    control = Largest(largest(short, _most_saturated), _LEAST_SHARE)
    names, shares = _shares(recording if short is recording.subject else Recording.of(short, only_gate=True))
    found = []
    best = shares.max(axis=0)
    for column in np.argsort(-best, kind="stable")[:MOST]:
        index = int(shares[:, column].argmax())
        name, side = names[index // 2], ("shut", "open")[index % 2]
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


def _most_saturated(subject: Subject) -> np.ndarray:
    return np.asarray(_shares(Recording.of(subject, only_gate=True))[1].max())


def _shares(recording: Recording) -> tuple[list[str], np.ndarray]:
    """The gates, and (2 · gate, column) the share of steps at which each is shut, and open."""
    rows = []
    for name in recording.gates:
        values = recording.signals[name]
        rows += [(values < SHUT).mean(axis=0), (values > OPEN).mean(axis=0)]
    return recording.gates, np.stack(rows)
