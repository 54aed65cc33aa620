"""Units that the prediction needs far more than others of their layer: the largest lesions."""

from __future__ import annotations

import math
from typing import Any

import numpy as np

from gatescope.analysis.registry import analyse
from gatescope.reporting.finding import Family, Finding
from gatescope.reporting.recording import Recording

FEWEST_UNITS = 8
MOST = 3

LEAST_LOGARITHM = 0.1
"""The least deviation of the logarithms of the effects: of chaotic networks any edit of any unit does the same."""

_GRID = 20_001


def needed(recording: Recording, targets: list[list[float | None]] | None) -> Family:
    """The units whose silencing changes the prediction most, beside the other units of their layer and direction.

    p is that of an outlier among the logarithms of the effects (Grubbs 1950): Student's t of the unit's beside the mean
    and deviation of the others, `LEAST_LOGARITHM` at least, times the number of units.
    """
    if recording.subject.head is None:
        return Family("needed", note="What makes the prediction is not known, so no unit was silenced.")
    parameters: dict[str, Any] = {} if targets is None else {"targets": targets}
    found = analyse(recording.subject, "lesions", **parameters)
    effects, percentiles = found["effect"].reshape(-1), found["percentile"].reshape(-1)
    known = [int(column) for column in np.flatnonzero(~np.isnan(effects))]
    chances = {column: _chance(effects[column], _others(recording, effects, column)) for column in known}
    findings = []
    for column in sorted(chances, key=lambda each: (chances[each], -effects[each]))[:MOST]:
        figures = {
            "effect": float(effects[column]),
            "percentile": float(percentiles[column]),
            "median_effect": float(np.median([effects[column], *_others(recording, effects, column)])),
        }
        if targets is not None:
            figures["error_change"] = float(found["error_change"].reshape(-1)[column])
        p = min(1.0, len(known) * chances[column])
        findings.append(Finding("needed", recording.places[column], figures, p))
    few = all(len(_others(recording, effects, column)) + 1 < FEWEST_UNITS for column in known)
    note = f"A layer has fewer than {FEWEST_UNITS} units: too few to tell whether one is needed more than others."
    return Family("needed", tuple(findings), note if few else "")


def _others(recording: Recording, effects: np.ndarray, column: int) -> np.ndarray:
    """The effects of the other units of its layer and direction."""
    place = recording.places[column]
    alike = [
        effects[index]
        for index, each in enumerate(recording.places)
        if each[:2] == place[:2] and index != column and not np.isnan(effects[index])
    ]
    return np.array(alike)


def _chance(effect: float, others: np.ndarray) -> float:
    """How often one effect is as far above the others, if their logarithms are normal."""
    others = others[others > 0]
    if len(others) + 1 < FEWEST_UNITS or effect <= 0:
        return 1.0
    logarithms = np.log(others)
    deviation = max(float(logarithms.std(ddof=1)), LEAST_LOGARITHM) * math.sqrt(1 + 1 / len(others))
    return _above((math.log(effect) - float(logarithms.mean())) / deviation, len(others) - 1)


def _above(t: float, freedom: int) -> float:
    """The probability that Student's t exceeds this; t = √n·tan θ has the density cos^(n−1) θ."""
    whole = np.cos(np.linspace(-np.pi / 2, np.pi / 2, _GRID)) ** (freedom - 1)
    tail = np.cos(np.linspace(math.atan(t / math.sqrt(freedom)), np.pi / 2, _GRID)) ** (freedom - 1)
    width = np.pi / 2 - math.atan(t / math.sqrt(freedom))
    return float(tail.mean() * width / (whole.mean() * np.pi))
