"""`Chunk`: some time steps of one layer and direction, in the order in which it reads its input.

Layers are run in chunks of time with the state carried, so that what a kernel leaves behind stays small beside what is
returned.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator
from typing import NamedTuple

from torch import Tensor

from app.lstm.equations import Step
from app.lstm.spec import GATES
from app.lstm.weights import Weights

LEAST_STEPS = 64  # a kernel call reorders the weights first, which costs as much as some time steps
MOST_FLOATS = 16_000_000  # 64 MB, of which about half is written
FLOATS_PER_UNIT = 16  # what oneDNN's workspace holds per step, row and unit, its unused parts included


class Chunk(NamedTuple):
    """Steps `start` … of one layer and direction."""

    start: int
    gates: Tensor  # (time, batch, 4 · hidden_size): input gate, forget gate, cell candidate, output gate
    cell_state: Tensor  # (time, batch, hidden_size)
    hidden_state: Tensor  # (time, batch, proj_size or hidden_size)

    @property
    def stop(self) -> int:
        """The step after its last."""
        return self.start + self.cell_state.shape[0]

    @property
    def signals(self) -> Step:
        """The six signals, each (time, batch, unit)."""
        i, f, g, o = self.gates.chunk(GATES, dim=-1)
        return Step(i, f, g, o, self.cell_state, self.hidden_state)


Method = Callable[[Weights, Tensor, Tensor, Tensor], Iterator[Chunk]]
"""A way to the gates: weights, inputs (time, batch, feature), h0 (batch, P), c0 (batch, H) -> chunks in order."""


def spans(time: int, batch: int, width: int) -> Iterator[slice]:
    """Cut so many time steps into chunks; `width` is the larger of a step's input and hidden size."""
    steps = max(LEAST_STEPS, MOST_FLOATS // (FLOATS_PER_UNIT * batch * width))
    for start in range(0, time, steps):
        yield slice(start, min(start + steps, time))
