"""What the states know: a series predicted from them by ridge regression, beside what is predicted without them.

Lees et al. 2022 (HESS 26:3079) find soil moisture and snow in the cell states of hydrological LSTMs so. A probe proves
nothing by itself: untrained networks are good memories of their inputs, and what changes slowly is easily predicted
from anything that changes slowly. Four controls say what such a probe finds where nothing was learnt:

- the inputs themselves with lags of up to 30 steps;
- untrained networks of the same shape, with PyTorch's initial weights and with the trained network's own gate biases;
- the same states, with the series shifted in a circle.

All are out of fold: blocks of time with a gap around them.
"""

from __future__ import annotations

import copy
from dataclasses import replace
from typing import Any

import numpy as np
import torch
from pydantic import Field
from torch import nn

from gatescope.analysis import ridge
from gatescope.analysis.analysis import EVERY_CELL, Analysis
from gatescope.analysis.result import Check, Findings
from gatescope.analysis.series import SeriesParameters, values_of
from gatescope.analysis.states import States
from gatescope.analysis.subject import Subject
from gatescope.errors import InvalidInput, Place

LAGS = range(31)
FEWER_LAGS = (0, 1, 2, 4, 8, 16, 30)
MOST_LAGGED = 600
"""With more inputs times lags than this, `FEWER_LAGS` are taken."""

SEEDS = 3
SHIFTS = 5
LEAST_STEPS_PER_FOLD = 10
_SEED = 0


class ProbeParameters(SeriesParameters):
    """The series, and how they are predicted."""

    folds: int = Field(default=5, ge=2, le=20)
    """Into so many blocks of time the sequences are cut; each is predicted from the others."""

    def check(self, subject: Subject) -> None:
        """Refuse series that `values_of` refuses, and those with too few steps for the folds."""
        _check_steps(values_of(self.series, subject.lengths), self.folds)


def probe(subject: Subject, parameters: Any) -> Findings:
    """R² of the states and of each control; a series whose R² is not above its controls is not found.

    Of several layers or directions it is the last layer's and the first direction's states that are read.
    """
    one, notes = _one_layer(subject)
    states = States.of(one)
    series, gap = values_of(parameters.series, states.lengths), max(LAGS)
    controls = {"r2_inputs": [_lagged(one, states)], "r2_untrained": _untrained(one)}
    found: dict[str, list[Any]] = {"r2": [], **{name: [] for name in controls}, "r2_shifted": [], "weights": []}
    generator = np.random.default_rng(_SEED)
    names = [each.name for each in parameters.series]
    for index in subject.parts(range(len(names))):
        name, target = names[index], series[index]
        fitted = ridge.fit(states.values, target, parameters.folds, gap)
        found["r2"].append(fitted.r2)
        found["weights"].append(fitted.weights)
        for control, features in controls.items():
            found[control].append(max(ridge.fit(each, target, parameters.folds, gap).r2 for each in features))
        shifts = subject.within(index, len(names)).parts(range(SHIFTS))
        shifted = (states.rolled(target, _offsets(states.lengths, generator)) for _ in shifts)
        found["r2_shifted"].append(max(ridge.fit(states.values, each, parameters.folds, gap).r2 for each in shifted))
        notes.append(_verdict(name, {key: values[-1] for key, values in found.items() if key != "weights"}))
    best = max(max(found[name]) for name in (*controls, "r2_shifted"))
    arrays = {name: np.array(values) for name, values in found.items()}
    return Findings(arrays, {"series": names}, Check("control", best), notes)


def _one_layer(subject: Subject) -> tuple[Subject, list[str]]:
    scope = subject.scope
    if len(scope.layers) == len(scope.directions) == 1:
        return subject, []
    note = f"of layer {scope.layers[-1]}, {scope.directions[0]}; select another to look at it"
    return subject.at(scope.layers[-1], scope.directions[0]), [note]


def _check_steps(series: np.ndarray, folds: int) -> None:
    for index, values in enumerate(series):
        known, least = int((~np.isnan(values)).sum()), folds * LEAST_STEPS_PER_FOLD + 4 * max(LAGS)
        if known < least:
            message = f"has {known} known steps; {folds} folds with gaps of {max(LAGS)} steps need {least}"
            raise InvalidInput.at(Place(("series", index, "values"), message))


def _lagged(subject: Subject, states: States) -> np.ndarray:
    """(step, feature · lag) the inputs at this step and before; 0 where there is nothing before."""
    rows = zip(subject.inputs.double().cpu().numpy(), subject.lengths, strict=True)
    inputs = np.concatenate([row[:length] for row, length in rows]).T  # (feature, step)
    lags = LAGS if len(inputs) * len(LAGS) <= MOST_LAGGED else FEWER_LAGS
    return np.concatenate([np.nan_to_num(states.delayed(inputs, lag)) for lag in lags]).T


def _untrained(subject: Subject) -> list[np.ndarray]:
    """(step, unit) the states of untrained networks."""
    found = []
    for seed in range(SEEDS):
        with torch.random.fork_rng(devices=[]):
            torch.manual_seed(seed)
            module = subject.spec.build()
        module = module.to(subject.inputs).requires_grad_(requires_grad=False)
        for other in (module, _with_biases(module, subject.module)):
            untrained = replace(subject, module=other, initial_state=subject.initial_state, known=None)
            found.append(States.of(untrained).values)
    return found


def _with_biases(module: nn.RNNBase, trained: nn.RNNBase) -> nn.RNNBase:
    """The same weights with the trained biases, on which timescales depend most."""
    other = copy.deepcopy(module)
    biases = {name: value for name, value in trained.state_dict().items() if name.startswith("bias")}
    other.load_state_dict(module.state_dict() | biases)
    return other


def _offsets(lengths: list[int], generator: np.random.Generator) -> list[int]:
    return [int(generator.integers(length // 10, max(length // 10 + 1, length - length // 10))) for length in lengths]


def _verdict(name: str, found: dict[str, float]) -> str:
    """One sentence for each series."""
    controls = {key.removeprefix("r2_"): value for key, value in found.items() if key != "r2"}
    strongest = max(controls, key=controls.__getitem__)
    by_control = f"R² {controls[strongest]:.2f} of the control '{strongest}'"
    if found["r2"] <= max(controls[strongest], 0):
        return f"{name}: nothing found; R² {found['r2']:.2f} is not above {by_control}"
    return f"{name}: R² {found['r2']:.2f} is above all controls, of which the strongest is {by_control}"


ANALYSIS = Analysis(
    name="probe",
    title="What the states know",
    question="Can a series that the network never saw be read from its states, and better than from its inputs?",
    arrays={
        **dict.fromkeys(("r2", "r2_inputs", "r2_untrained", "r2_shifted"), ("series",)),
        "weights": ("series", "unit"),
    },
    cells=EVERY_CELL,
    parameters=ProbeParameters,
    needs=("series",),
    run=probe,
)
