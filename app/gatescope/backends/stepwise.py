"""Stepwise: a layer run step by step as PyTorch's own CPU kernel does, but with each value kept where the trace has it.

On a CPU `torch.gru` and `torch.rnn_*` are loops over time of the same products and functions. So this takes as long as
the kernel and leaves every signal behind. On a GPU the kernel is one call, and replaying it is faster. A variant has no
kernel, so it is run so everywhere.
"""

from __future__ import annotations

from collections.abc import Iterator

from torch import Tensor

from gatescope.backends.chunk import Chunk, split_time
from gatescope.cells import Cell, Kept, Tensors
from gatescope.state import State
from gatescope.weights import Weights


def supports(cell: Cell, weights: Weights) -> bool:
    """Whether the cell can be run so, on a device where nothing is faster."""
    return "stepwise" in cell.backends and (cell.is_variant or weights.weight_ih.device.type == "cpu")


def chunks(
    cell: Cell, weights: Weights, inputs: Tensor, initial: Tensors, *, on_request: bool = True
) -> Iterator[Chunk]:
    """Run the cell over (time, batch, feature); a `Backend`."""
    kept = Kept.ON_REQUEST if on_request else Kept.SIGNALS
    for start, part in split_time(inputs, weights.hidden_size):
        blocks, states = cell.stepwise(weights, part, initial, kept, None)
        # clones: whoever keeps the final state need not keep all steps in memory
        chunk = Chunk(start, blocks, states, State(*(state[-1:].clone() for state in states)))
        yield chunk
        initial = chunk.final
