"""How often gates are nearly shut or nearly open.

Karpathy, Johnson, Fei-Fei: Visualizing and Understanding Recurrent Networks, arXiv:1506.02078: per unit and gate, left
is the share of steps with a value below 0.1, right that above 0.9. Of values from −1 to 1 the distance from 0 is taken.
"""

from __future__ import annotations

import numpy as np
import torch
from pydantic import Field
from torch import Tensor

from gatescope.analysis.analysis import EVERY_CELL, SCOPE_AXES, STEPS_AXES, Analysis, Parameters, Statistic
from gatescope.analysis.result import Findings
from gatescope.analysis.subject import Chunk, Scope
from gatescope.cells import Cell, Function, Signal


class SaturationParameters(Parameters):
    """Where a value counts as shut or open."""

    left: float = Field(default=0.1, ge=0, le=1)
    """A gate below this is nearly shut."""

    right: float = Field(default=0.9, ge=0, le=1)
    """A gate above this is nearly open; of values from −1 to 1, what is further from 0 than this is saturated."""


class Saturation(Statistic):
    """Counts, for each signal and unit, the steps below `left` and above `right`."""

    def __init__(self, scope: Scope, parameters: SaturationParameters) -> None:
        super().__init__(scope, parameters)
        cell, is_projected = scope.spec.cell, scope.spec.proj_size > 0
        self._left_out = [name for name in self.signals(cell) if is_projected and cell.is_projected(name)]
        self._counted = [name for name in self.signals(cell) if name not in self._left_out]
        self._gates = {gate.name for gate in cell.gates if (gate.activation.low, gate.activation.high) == (0, 1)}
        self._functions = _output_functions(cell)
        shape = len(self._counted), *scope.shape
        self._left, self._right = torch.zeros(shape, dtype=torch.int64), torch.zeros(shape, dtype=torch.int64)
        self._steps = 0

    @classmethod
    def signals(cls, cell: Cell) -> tuple[str, ...]:
        """Those that have bounds, and of those that have none the ones that a function with bounds is applied to."""
        bounded = {signal.name for signal in cell.signals if _has_bounds(signal)} | _output_functions(cell).keys()
        if _has_bounds(cell.functions.candidate):
            bounded.add("hidden_state")  # of a GRU: between its candidates, and where it began
        return tuple(name for name in cell.default_signal_names if name in bounded)

    def update(self, chunk: Chunk) -> None:
        """Count; the NaN of the padding is neither below nor above."""
        self._steps += chunk.steps
        for index, name in enumerate(self._counted):
            values = chunk.signals[name]
            if name in self._gates:
                self._left[index] += _count(values < self.parameters.left)
            else:
                values = (self._functions[name].apply(values) if name in self._functions else values).abs()
            self._right[index] += _count(values > self.parameters.right)

    def finish(self) -> Findings:
        """Shares of all steps; `left` is NaN of what is no gate."""
        left, right = (counts.double().numpy() / self._steps for counts in (self._left, self._right))
        left[[name not in self._gates for name in self._counted]] = np.nan
        notes = [f"{name} is left out: a projected state has no bounds" for name in self._left_out]
        return Findings({"left": left, "right": right}, {"signal": self._counted}, notes=notes)


def _count(mask: Tensor) -> Tensor:
    """(row, layer, direction, time, unit) -> (layer, direction, unit)."""
    return torch.count_nonzero(mask, dim=STEPS_AXES).cpu()


def _output_functions(cell: Cell) -> dict[str, Function]:
    """State -> the function with bounds that is applied to it, such as tanh to the cell state of an LSTM."""
    factors = (factor for update in cell.updates for term in update.terms for factor in term.factors)
    applied = {factor.name: factor.function for factor in factors if factor.name in cell.states and factor.function}
    return {name: function for name, function in applied.items() if _has_bounds(function)}


def _has_bounds(of: Signal | Function) -> bool:
    return of.low is not None and of.high is not None


ANALYSIS = Analysis(
    name="saturation",
    title="Saturation of gates",
    question="Which units remember or forget at nearly every step, and which gates are rarely undecided?",
    arrays=dict.fromkeys(("left", "right"), ("signal", *SCOPE_AXES)),
    cells=EVERY_CELL,
    parameters=SaturationParameters,
    statistic=Saturation,
)
