"""What becomes of the prediction where one unit is silenced.

A unit's hidden state is replaced by its mean over its own sequence, or by zero; the mean leads less far away from what
the network has seen. The scope says who sees the edit (arXiv:1903.07435 asks that it be stated): the layer itself at
its next step, whoever reads it above, or both. Beside it stands what the same does to other units of that layer.

All units are silenced in one batched run, some variants at a time.
"""

from __future__ import annotations

from collections.abc import Sequence
from itertools import product
from typing import Any, Literal

import numpy as np
import torch
from pydantic import Field
from torch import Tensor

from gatescope.analysis.analysis import EVERY_CELL, SCOPE_AXES, Analysis, Parameters
from gatescope.analysis.result import Check, Findings
from gatescope.analysis.states import check_lengths
from gatescope.analysis.subject import Subject
from gatescope.analysis.variants import deviation_of, effect, predicted_of, predictions
from gatescope.errors import InvalidInput, Place
from gatescope.interventions import Intervention
from gatescope.selection import Selection

CONTROLS = 100
"""So many units of a layer and direction at most are the control."""

LEVEL = 0.99
_PER_STEP = 3  # axes of a prediction (batch, time, value)
_SEED = 0


class LesionsParameters(Parameters):
    """How units are silenced, and what the prediction is compared with."""

    scope: Literal["both", "recurrent", "outgoing"] = "both"
    """Who sees the silenced unit: the layer at its next step, whoever is above, or both."""

    to: Literal["mean", "zero"] = "mean"
    """What its hidden state becomes: its mean over its own sequence, or zero."""

    targets: list[list[float | None]] | list[float | None] | None = Field(default=None, min_length=1)
    """[batch][time] what was measured of the only output, null where nothing was: then `error_change` is told."""

    def check(self, subject: Subject) -> None:
        """Refuse targets of other steps than there are, or none at all."""
        if self.targets is not None:
            _measured(subject, self.targets)


def lesions(subject: Subject, parameters: Any) -> Findings:
    """The effect of each unit of the scope: the root mean square change of the prediction, in units of its deviation.

    `percentile` is the share of other units of its layer and direction whose effect is smaller. With targets,
    `error_change` is how much the root mean square error grows. The check is the effect that 1 in 100 of all silenced
    units exceeds.
    """
    scope, spec = subject.scope, subject.spec
    before = predicted_of(subject, subject.trace(Selection(signals=())).output)
    targets = _targets(subject, parameters.targets, before)
    deviation = deviation_of(before)
    names = ("effect", "percentile", *(() if targets is None else ("error_change",)))
    arrays = {name: np.full(scope.shape, np.nan) for name in names}  # NaN of units that a projected state does not have
    units, everyone = [unit for unit in scope.units if unit < spec.hidden_state_size], []
    places = list(product(range(len(scope.layers)), range(len(scope.directions))))
    for index, place in enumerate(places):
        at = scope.layers[place[0]], scope.directions[place[1]]
        found = _silenced(
            subject.within(index, len(places)), parameters, at, _with_control(units, spec.hidden_state_size)
        )
        effects = np.array([effect(values - before, deviation) for values in found.values()])
        everyone += effects.tolist()
        arrays["effect"][place][: len(units)] = effects[: len(units)]
        arrays["percentile"][place][: len(units)] = [_percentile(effects, index) for index in range(len(units))]
        if targets is not None:
            changes = [_error(found[unit], targets) - _error(before, targets) for unit in units]
            arrays["error_change"][place][: len(units)] = changes
    note = f"control: the {LEVEL:.0%} quantile of the effects of {len(everyone)} units silenced in the same way"
    return Findings(arrays, check=Check("control", float(np.quantile(everyone, LEVEL))), notes=[note])


def _with_control(units: Sequence[int], size: int) -> list[int]:
    """The units that are silenced: those that are asked for, and random ones beside them if they are few."""
    others = [unit for unit in range(size) if unit not in set(units)]
    np.random.default_rng(_SEED).shuffle(others)
    return [*units, *others[: max(0, CONTROLS - len(units))]]


def _silenced(subject: Subject, parameters: Any, place: tuple[int, str], units: Sequence[int]) -> dict[int, Tensor]:
    """The prediction with each of these units silenced."""
    operation: dict[str, Any] = {"mean": True} if parameters.to == "mean" else {"set": 0.0}
    edits = [Intervention("hidden_state", *place, units=(unit,), scope=parameters.scope, **operation) for unit in units]
    return dict(zip(units, predictions(subject, edits), strict=True))


def _percentile(effects: np.ndarray, index: int) -> float:
    """The share of the other effects that are smaller."""
    others = np.delete(effects, index)
    return float(100 * (others < effects[index]).mean()) if len(others) else np.nan


def _targets(subject: Subject, given: Any, before: Tensor) -> Tensor | None:
    """What was measured, (batch, time, 1), NaN where nothing was."""
    if given is None:
        return None
    if before.dim() < _PER_STEP or before.shape[-1] != 1:
        message = "go with a model that predicts one output at each step"
        raise InvalidInput.at(Place(("targets",), message))
    targets = torch.full_like(before, torch.nan)
    for row, values in enumerate(_measured(subject, given)):
        targets[row, : len(values), 0] = values
    return targets


def _measured(subject: Subject, given: Any) -> list[Tensor]:
    """(time,) of each sequence, NaN where nothing was measured."""
    rows = given if isinstance(given[0], list) else [given]
    check_lengths(rows, subject.lengths, "targets")
    made = [
        torch.tensor([np.nan if value is None else value for value in values], dtype=torch.float64) for values in rows
    ]
    if all(bool(values.isnan().all()) for values in made):
        raise InvalidInput.at(Place(("targets",), "nothing was measured at any step"))
    return made


def _error(predicted: Tensor, targets: Tensor) -> float:
    return float((predicted - targets).square().nanmean().sqrt())


ANALYSIS = Analysis(
    name="lesions",
    title="What a unit is needed for",
    question="Which units does the prediction need?",
    arrays=dict.fromkeys(("effect", "percentile", "error_change"), SCOPE_AXES),
    cells=EVERY_CELL,
    parameters=LesionsParameters,
    needs=("head",),
    run=lesions,
)
