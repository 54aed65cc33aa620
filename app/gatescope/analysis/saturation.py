"""How often gates are nearly shut or nearly open.

Karpathy, Johnson, Fei-Fei: Visualizing and Understanding Recurrent Networks, arXiv:1506.02078: per unit and gate, left
is the share of steps with a value below 0.1, right that above 0.9. Of values from −1 to 1 the distance from 0 is taken.
"""

from __future__ import annotations

import math
from collections.abc import Mapping
from dataclasses import replace

import numpy as np
import torch
from pydantic import Field
from torch import Tensor

from gatescope.analysis.analysis import EVERY_CELL, SCOPE_AXES, Analysis, Parameters, Statistic
from gatescope.analysis.result import Findings
from gatescope.analysis.subject import Chunk, Scope
from gatescope.cells import TANH, Cell, Function, Signal


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
        names = self.signals(cell)
        self._left_out = [name for name in names if is_projected and cell.is_projected(name)]
        self._counted = [name for name in names if name not in self._left_out]
        self._gates = {gate.name for gate in cell.gates if (gate.activation.low, gate.activation.high) == (0, 1)}
        functions = {name: each for name, each in _output_functions(cell).items() if name in self._counted}
        self._applied = {name: each for name, each in functions.items() if each != TANH}
        self._lower, self._upper = self._bounds(functions)  # (column,)
        layers, directions, _ = scope.shape
        self._below, self._above = np.zeros((2, layers, directions, len(self._lower)))
        self._steps = 0

    @classmethod
    def signals(cls, cell: Cell) -> tuple[str, ...]:
        """Those that have bounds, and of those that have none the ones that a function with bounds is applied to."""
        bounded = {signal.name for signal in cell.signals if _has_bounds(signal)} | _output_functions(cell).keys()
        if _has_bounds(cell.functions.candidate):
            bounded.add("hidden_state")  # of a GRU: between its candidates, and where it began
        return tuple(name for name in cell.default_signal_names if name in bounded)

    def update(self, chunk: Chunk) -> None:
        """Count the steps below the lower bounds and above the upper ones."""
        applied = {name: function.apply(chunk.signals[name]) for name, function in self._applied.items()}
        for block in replace(chunk, signals={**chunk.signals, **applied}).blocks(self._counted):
            self._steps += block.shape[2]
            lower, upper = self._lower.to(block), self._upper.to(block)
            # these comparisons give 1 and 0 in floats; to count booleans takes four times as long
            self._above += torch.gt(block, upper, out=torch.empty_like(block)).sum(2).numpy(force=True)
            self._below += block.lt_(lower).sum(2).numpy(force=True)

    def finish(self) -> Findings:
        """Shares of all steps; `left` is NaN of what is no gate."""
        left, right = (self._by_signal(counts) / self._steps for counts in (self._below, self._above))
        others = [name not in self._gates for name in self._counted]
        right[others] += left[others]
        left[others] = np.nan
        notes = [f"{name} is left out: a projected state has no bounds" for name in self._left_out]
        return Findings({"left": left, "right": right}, {"signal": self._counted}, notes=notes)

    def _bounds(self, functions: Mapping[str, Function]) -> tuple[Tensor, Tensor]:
        """The lower and the upper one of each column; |tanh(c)| > right where |c| > artanh(right)."""
        left, right = self.parameters.left, self.parameters.right
        artanh = math.atanh(right) if right < 1 else math.inf
        upper = {name: artanh if functions.get(name) == TANH else right for name in self._counted}
        lower = [left if name in self._gates else -bound for name, bound in upper.items()]
        return self._columns(lower), self._columns(list(upper.values()))

    def _columns(self, bounds: list[float]) -> Tensor:
        return torch.from_numpy(np.repeat(bounds, len(self.scope.units)))

    def _by_signal(self, counts: np.ndarray) -> np.ndarray:
        """(layer, direction, column) -> (signal, layer, direction, unit)."""
        layers, directions, units = self.scope.shape
        return counts.reshape(layers, directions, len(self._counted), units).transpose(2, 0, 1, 3)


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
