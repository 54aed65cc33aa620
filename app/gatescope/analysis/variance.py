"""How much each signal of each unit varies over all steps."""

from __future__ import annotations

import torch

from gatescope.analysis.analysis import EVERY_CELL, SCOPE_AXES, Analysis, Parameters, Statistic
from gatescope.analysis.moments import Moments
from gatescope.analysis.result import Findings
from gatescope.analysis.subject import Chunk, Scope
from gatescope.cells import Cell


class Variance(Statistic):
    """Mean and sum of squares of each signal and unit."""

    def __init__(self, scope: Scope, parameters: Parameters) -> None:
        super().__init__(scope, parameters)
        self._moments = Moments(torch.square)  # (layer, direction, column)
        self._widths: list[int] = []  # of the signals; a projected state has fewer units

    @classmethod
    def signals(cls, cell: Cell) -> tuple[str, ...]:
        """All that a trace has by default."""
        return cell.default_signal_names

    def update(self, chunk: Chunk) -> None:
        """Take in the moments of each block."""
        names = self.signals(self.scope.spec.cell)
        self._widths = [chunk.signals[name].shape[-1] for name in names]
        for block in chunk.blocks(names):
            near = block.mean(2)
            block.sub_(near[:, :, None])
            self._moments.add(block.shape[2], near, block.sum(2), block.square_().sum(2))

    def finish(self) -> Findings:
        """Divided by the number of steps; NaN of the units that a projected state does not have."""
        names = self.signals(self.scope.spec.cell)
        variance = torch.full((len(names), *self.scope.shape), torch.nan, dtype=torch.float64)
        of_columns = torch.split(self._moments.products / self._moments.steps, self._widths, dim=-1)
        for values, own in zip(variance, of_columns, strict=True):
            values[..., : own.shape[-1]] = own
        return Findings({"variance": variance.numpy()}, {"signal": names})


ANALYSIS = Analysis(
    name="variance",
    title="Variance of signals",
    question="Which units vary, and which stand still?",
    arrays={"variance": ("signal", *SCOPE_AXES)},
    cells=EVERY_CELL,
    statistic=Variance,
)
