"""How much each signal of each unit varies over all steps.

The sum of squares about the mean is merged from chunk to chunk: Chan, Golub, LeVeque, "Updating formulae and a pairwise
algorithm for computing sample variances", 1979.
"""

from __future__ import annotations

from typing import NamedTuple

import torch
from torch import Tensor

from gatescope.analysis.analysis import EVERY_CELL, SCOPE_AXES, STEPS_AXES, Analysis, Parameters, Statistic
from gatescope.analysis.result import Findings
from gatescope.analysis.subject import Chunk, Scope
from gatescope.cells import Cell


class _Moments(NamedTuple):
    """Of some steps, for each unit (layer, direction, unit)."""

    steps: int
    mean: Tensor
    squares: Tensor  # the sum of squares about the mean

    def merged(self, other: _Moments) -> _Moments:
        """Of both together."""
        steps, difference = self.steps + other.steps, other.mean - self.mean
        mean = self.mean + difference * (other.steps / steps)
        squares = self.squares + other.squares + difference**2 * (self.steps * other.steps / steps)
        return _Moments(steps, mean, squares)


class Variance(Statistic):
    """Mean and sum of squares of each signal and unit."""

    def __init__(self, scope: Scope, parameters: Parameters) -> None:
        super().__init__(scope, parameters)
        self._moments: dict[str, _Moments] = {}

    @classmethod
    def signals(cls, cell: Cell) -> tuple[str, ...]:
        """All that a trace has by default."""
        return cell.default_signal_names

    def update(self, chunk: Chunk) -> None:
        """Take in the moments of a chunk; the padding is NaN and left out."""
        for name, values in chunk.signals.items():
            found = _moments(values, chunk)
            self._moments[name] = self._moments[name].merged(found) if name in self._moments else found

    def finish(self) -> Findings:
        """Divided by the number of steps; NaN of the units that a projected state does not have."""
        names = [name for name in self.signals(self.scope.spec.cell) if name in self._moments]
        variance = torch.full((len(names), *self.scope.shape), torch.nan, dtype=torch.float64)
        for index, name in enumerate(names):
            moments = self._moments[name]
            variance[index, :, :, : moments.mean.shape[-1]] = moments.squares / moments.steps
        return Findings({"variance": variance.numpy()}, {"signal": names})


def _moments(values: Tensor, chunk: Chunk) -> _Moments:
    """Of (row, layer, direction, time, unit)."""
    steps = chunk.steps
    mean = values.nansum(dim=STEPS_AXES, dtype=torch.float64) / steps
    centred = values - mean.to(values.dtype)[:, :, None]
    return _Moments(steps, mean.cpu(), centred.square_().nansum(dim=STEPS_AXES, dtype=torch.float64).cpu())


ANALYSIS = Analysis(
    name="variance",
    title="Variance of signals",
    question="Which units vary, and which stand still?",
    arrays={"variance": ("signal", *SCOPE_AXES)},
    cells=EVERY_CELL,
    statistic=Variance,
)
