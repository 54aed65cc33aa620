"""How long units remember.

arXiv:2009.12727 and arXiv:1804.11188: a state that is multiplied by f at each step falls to 1/e of itself after
τ = −1/ln f steps, and to one half after ln 2·τ. Over a sequence f is the geometric mean of the gate, since the gates
are multiplied with one another; published code often takes the arithmetic mean, which gives longer timescales.
"""

from __future__ import annotations

import math

import numpy as np
import torch
from torch import Tensor

from gatescope.analysis.analysis import SCOPE_AXES, Analysis, Parameters, Statistic
from gatescope.analysis.result import Findings
from gatescope.analysis.retention import RETAINING, Retention, retention_of
from gatescope.analysis.subject import Chunk, Scope
from gatescope.cells import Cell
from gatescope.weights import Weights


class Timescales(Statistic):
    """The sum of ln f over all steps, for each unit."""

    def __init__(self, scope: Scope, parameters: Parameters) -> None:
        super().__init__(scope, parameters)
        self._logarithms = torch.zeros(scope.shape, dtype=torch.float64)
        self._steps = 0

    @classmethod
    def signals(cls, cell: Cell) -> tuple[str, ...]:
        """The forget gate of an LSTM, the update gate of a GRU."""
        return (_retention(cell).gate,)

    def update(self, chunk: Chunk) -> None:
        """Add up."""
        for block in chunk.blocks(self.signals(self.scope.spec.cell)):
            self._steps += block.shape[2]
            self._logarithms += block.log_().sum(2).cpu()

    def finish(self) -> Findings:
        """All in time steps; infinite where the gate was 1 all the time, 0 where it was shut at some step."""
        timescale = _timescale(self._logarithms / self._steps)
        from_bias = _timescale(_bias_gates(self.scope).double().log())
        notes = []
        if np.isinf(timescale).any():
            notes.append("a timescale is infinite where the gate is 1 in float32 at every step")
        return Findings(
            {"timescale": timescale, "half_life": math.log(2) * timescale, "from_bias": from_bias}, notes=notes
        )


def _timescale(logarithms: Tensor) -> np.ndarray:
    """Ln f -> −1 / ln f."""
    steps: np.ndarray = (-1 / logarithms).abs().numpy()
    return steps


def _bias_gates(scope: Scope) -> Tensor:
    """The gate of its bias alone, as where input and hidden state are 0, (layer, direction, unit)."""
    cell, size = scope.spec.cell, scope.spec.hidden_size
    index, gate = next((index, gate) for index, gate in enumerate(cell.gates) if gate.name == _retention(cell).gate)
    units = torch.tensor(scope.units)
    rows = []
    for layer in scope.layers:
        for direction in scope.directions:
            weights = Weights.of(scope.module, layer, direction).detached()
            bias = weights.weight_ih.new_zeros(len(cell.gates) * size) if weights.bias is None else weights.bias
            rows.append(bias.cpu().double()[index * size + units])
    return gate.activation.apply(torch.stack(rows)).view(scope.shape)


def _retention(cell: Cell) -> Retention:
    found = retention_of(cell)
    if found is None:
        raise TypeError(f"the cell '{cell.name}' has no gate that keeps its state")
    return found


ANALYSIS = Analysis(
    name="timescales",
    title="Timescales of units",
    question="For how many steps does each unit remember?",
    arrays=dict.fromkeys(("timescale", "half_life", "from_bias"), SCOPE_AXES),
    cells=RETAINING,
    statistic=Timescales,
)
