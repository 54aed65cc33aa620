"""`Chunk`: some time steps of one layer and direction, in the order in which it reads its input.

Layers are run in chunks of time with the state carried, so that what a kernel leaves behind stays small beside what is
returned.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator
from typing import NamedTuple

from torch import Tensor

from gatescope.cells import Step
from gatescope.spec import GATES
from gatescope.state import State
from gatescope.weights import Weights

MOST_FLOATS = 16_000_000  # 64 MB, of which about half is written; a kernel call reorders the weights first: not too few
MOST_AT_ONCE = (
    3 * MOST_FLOATS
)  # what has no more is one chunk: where that is all there is, it is returned without a copy
FLOATS_PER_UNIT = 16  # what oneDNN's workspace holds per step, row and unit, its unused parts included


class Chunk(NamedTuple):
    """Steps `start` … of one layer and direction."""

    start: int
    gates: Tensor  # (time, batch, 4 · hidden_size): input gate, forget gate, cell candidate, output gate
    cell_state: Tensor  # (time, batch, hidden_size)
    hidden_state: Tensor  # (time, batch, proj_size or hidden_size)
    final: State  # after its last step, each (1, batch, unit)

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
"""A way to the gates: weights, inputs (time, batch, feature), h0 (1, batch, P), c0 (1, batch, H) -> chunks in order."""


def parts(inputs: Tensor, hidden_size: int) -> Iterator[tuple[int, Tensor]]:
    """Cut (time, batch, feature) into chunks of time: each with its first step."""
    time, batch, features = inputs.shape
    floats = FLOATS_PER_UNIT * batch * max(features, hidden_size)  # of a step
    if time * floats <= MOST_AT_ONCE:
        return iter([(0, inputs)])
    steps = max(1, MOST_FLOATS // floats)
    return ((start, inputs[start : start + steps]) for start in range(0, time, steps))
