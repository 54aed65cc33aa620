"""The test of a finding: what editing the unit does to the prediction, beside random units of its layer.

A correlation shows no use. What becomes of the prediction where the gate that keeps the unit's state is clamped, or the
unit is silenced, does; and beside random units it shows how special that is.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass, replace
from typing import Any

import numpy as np
import torch
from torch import Tensor

from gatescope.analysis.subject import Head, Subject
from gatescope.analysis.variants import deviation_of, effect, predicted_of, predictions
from gatescope.interventions import Intervention
from gatescope.reporting.finding import Place
from gatescope.reporting.recording import Recording
from gatescope.selection import Selection

CONTROLS = 20
"""Random units of the same layer and direction, at most."""

_SEED = 0


@dataclass(frozen=True)
class Edit:
    """What is done to a unit: a signal is set to a number, or to its mean over its sequence (None)."""

    signal: str
    to: float | None


@dataclass(frozen=True)
class Trial:
    """What one edit of one unit does.

    Args:
        edit: what was done, at every step.
        effect: root mean square change of the prediction, in units of its deviation.
        percentile: the share of the random units, in percent, for which the same edit changes it less.
        usual: the median effect of these units; None where the layer has no other.
        units: how many they are.
        changed: the share of steps, or sequences, with another label; None of quantities.
        usual_changed: the median of these units.
        error: before and after, the root mean square error beside what was measured, or the share of labels that are
            wrong; None where nothing is known.
    """

    edit: Edit
    effect: float
    percentile: float | None
    usual: float | None
    units: int
    changed: float | None = None
    usual_changed: float | None = None
    error: tuple[float, float] | None = None


@dataclass(frozen=True)
class Output:
    """In place of a head that is not known: the output itself; a `Head`."""

    names: Sequence[str] = ()

    def __call__(self, output: Tensor) -> Tensor:
        """Itself."""
        return output

    def only(self, row: int) -> Head:  # noqa: ARG002 - as `Head` has it
        """Itself."""
        return self


def edits_of(recording: Recording) -> list[Edit]:
    """What is tried on each unit."""
    clamped = [] if recording.retention is None else [Edit(recording.retention.gate, to) for to in (0.0, 1.0, None)]
    silenced = [] if recording.subject.spec.proj_size else [Edit("hidden_state", None)]
    return [*clamped, *silenced]


def try_edits(
    recording: Recording,
    places: Sequence[Place],
    error: Callable[[Tensor], float] | None = None,
    *,
    has_labels: bool = False,
) -> dict[Place, list[Trial]]:
    """Try each edit on each of these units, and on random ones of their layers.

    Args:
        recording: of the run.
        places: the units.
        error: of a prediction, NaN in the padding.
        has_labels: whether the prediction is scores, so that the largest is the label.
    """
    subject = recording.subject
    if subject.head is None:
        subject = replace(subject, head=Output())
    before = predicted_of(subject, subject.trace(Selection(signals=())).output)
    made: dict[Place, list[Trial]] = {place: [] for place in places}
    for layer, direction in dict.fromkeys((place.layer, place.direction) for place in places):
        asked = [place.unit for place in places if place[:2] == (layer, direction)]
        units = np.random.default_rng(_SEED).permutation(recording.subject.spec.hidden_size)[: CONTROLS + 1].tolist()
        tried = list(dict.fromkeys([*asked, *units]))
        for edit in edits_of(recording):
            after = dict(zip(tried, _edited(subject, edit, (layer, direction), tried), strict=True))
            measured = {unit: _measured(values, before, has_labels=has_labels) for unit, values in after.items()}
            for unit in asked:
                errors = None if error is None else (error(before), error(after[unit]))
                others = [measured[each] for each in units if each != unit][:CONTROLS]
                made[Place(layer, direction, unit)].append(_trial(edit, measured[unit], others, errors))
    return made


def _edited(subject: Subject, edit: Edit, place: tuple[int, str], units: Sequence[int]) -> list[Tensor]:
    """The prediction with the edit of each of these units."""
    operation: dict[str, Any] = {"mean": True} if edit.to is None else {"set": edit.to}
    return predictions(subject, [Intervention(edit.signal, *place, units=(unit,), **operation) for unit in units])


def _measured(after: Tensor, before: Tensor, *, has_labels: bool) -> tuple[float, float | None]:
    """The effect, and the share of labels that changed."""
    size = effect(after - before, deviation_of(before))
    if not has_labels or before.shape[-1] == 1:
        return size, None
    valid = ~torch.isnan(before).any(-1)
    changed = after.argmax(-1)[valid] != before.argmax(-1)[valid]
    return size, float(changed.double().mean())


def _trial(
    edit: Edit,
    own: tuple[float, float | None],
    others: Sequence[tuple[float, float | None]],
    error: tuple[float, float] | None,
) -> Trial:
    sizes = np.array([size for size, _ in others])
    labels = [share for _, share in others if share is not None]
    return Trial(
        edit,
        own[0],
        float(100 * (sizes < own[0]).mean()) if len(sizes) else None,
        float(np.median(sizes)) if len(sizes) else None,
        len(sizes),
        own[1],
        float(np.median(labels)) if labels else None,
        error,
    )
