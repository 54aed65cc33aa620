"""`Chunk`: some time steps of one layer and direction, in the order in which the direction reads its input.

A layer is run in chunks of time, each from the state where the one before ended. What a kernel leaves behind then stays
small beside what is returned.
"""

from __future__ import annotations

from collections.abc import Iterator
from typing import NamedTuple, Protocol

from torch import Tensor

from gatescope.cells import Cell, Tensors
from gatescope.state import State
from gatescope.weights import Weights

CHUNK_FLOATS = 16_000_000  # 64 MB, of which about half is written; a kernel reorders the weights at each call: not less
SINGLE_CHUNK_FLOATS = 3 * CHUNK_FLOATS  # what has no more is one chunk, and is returned without a copy if it is all
FLOATS_PER_UNIT = 16  # per step, row and unit: oneDNN's workspace with its unused parts, the largest of all backends


class Chunk(NamedTuple):
    """Steps `start` … of one layer and direction."""

    start: int
    blocks: Tensors  # (time, batch, signals · hidden_size): each block of the cell, its signals side by side
    states: Tensors  # (time, batch, size): each state of the cell
    final: State  # after the last step, each (1, batch, size)
    read: Tensors | None = None  # of edited steps: the states as the next step reads them, shaped as `states`

    @property
    def hidden_state(self) -> Tensor:
        """(time, batch, proj_size or hidden_size)."""
        return self.states[0]

    @property
    def stop(self) -> int:
        """The step after the last."""
        return self.start + self.states[0].shape[0]

    @property
    def tensors(self) -> Tensors:
        """The blocks and the states, in the order of the cell's `layout`."""
        return self.blocks + self.states

    def signals(self, cell: Cell) -> dict[str, Tensor]:
        """Every signal (time, batch, unit) by name."""
        signals: dict[str, Tensor] = {}
        for names, block in zip(cell.blocks, self.blocks, strict=True):
            signals.update(zip(names, block.chunk(len(names), dim=-1), strict=True))
        signals.update(zip(cell.states, self.states, strict=True))
        return signals


class Backend(Protocol):
    """What computes the signals of one layer and direction."""

    def __call__(
        self, cell: Cell, weights: Weights, inputs: Tensor, initial: Tensors, *, on_request: bool = True
    ) -> Iterator[Chunk]:
        """The chunks in the order of time.

        Args:
            cell: of the module.
            weights: of the layer and direction.
            inputs: (time, batch, feature).
            initial: each state (1, batch, size).
            on_request: whether signals are wanted that a trace holds only on request. If not, a block that holds
                nothing else may be empty: (time, batch, 0).
        """


def split_time(inputs: Tensor, hidden_size: int) -> Iterator[tuple[int, Tensor]]:
    """Cut (time, batch, feature) into chunks of time; give each with its first step."""
    time, batch, features = inputs.shape
    floats = FLOATS_PER_UNIT * batch * max(features, hidden_size)  # of a step
    if time * floats <= SINGLE_CHUNK_FLOATS:
        return iter([(0, inputs)])
    steps = max(1, CHUNK_FLOATS // floats)
    return ((start, inputs[start : start + steps]) for start in range(0, time, steps))
