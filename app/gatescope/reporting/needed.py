"""Units that the prediction needs far more than others of their layer: the largest lesions."""

from __future__ import annotations

import math

import numpy as np

from gatescope.analysis.registry import analyse
from gatescope.reporting.finding import Family, Finding
from gatescope.reporting.recording import Recording

FEWEST_UNITS = 8
MOST = 3
_MEDIAN = 0.6744897501960817  # of the size of standard normal numbers


def needed(recording: Recording, targets: list[list[float | None]] | None) -> Family:
    """The units whose silencing changes the prediction most.

    Of a network whose units differ by chance, effects are about as large as normal numbers of the median's size. p is
    how often the largest of so many would be as large.
    """
    if recording.subject.head is None:
        return Family("needed", note="What makes the prediction is not known, so no unit was silenced.")
    parameters = {} if targets is None else {"targets": targets}
    found = analyse(recording.subject, "lesions", **parameters)
    effects, percentiles = found["effect"].reshape(-1), found["percentile"].reshape(-1)
    known = np.flatnonzero(~np.isnan(effects))
    usual = np.array([_usual(recording, effects, column) for column in range(len(effects))])
    factor = np.divide(effects, usual, out=np.full_like(effects, -1.0), where=usual > 0)
    findings = []
    for column in sorted(known, key=lambda each: (-factor[each], -effects[each]))[:MOST]:
        figures = {
            "effect": float(effects[column]),
            "percentile": float(percentiles[column]),
            "median_effect": float(usual[column]),
        }
        if targets is not None:
            figures["error_change"] = float(found["error_change"].reshape(-1)[column])
        chance = math.erfc(factor[column] * _MEDIAN / math.sqrt(2)) if factor[column] > 0 else 1.0
        findings.append(Finding("needed", recording.places[column], figures, min(1.0, len(known) * chance)))
    few = all(value == 0 for value in usual)
    note = f"A layer has fewer than {FEWEST_UNITS} units: too few to tell whether one is needed more than others."
    return Family("needed", tuple(findings), note if few else "")


def _usual(recording: Recording, effects: np.ndarray, column: int) -> float:
    """The median effect in the layer and direction of a column; 0 where there are too few to tell."""
    place = recording.places[column]
    alike = [index for index, each in enumerate(recording.places) if each[:2] == place[:2]]
    own = effects[alike]
    own = own[~np.isnan(own)]
    return float(np.median(own)) if len(own) >= FEWEST_UNITS else 0.0
