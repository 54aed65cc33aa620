"""Replay: the signals of a layer, computed from its hidden states: those of PyTorch's fused kernel, or given ones.

Exact to rounding for every cell on every device.
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence

from torch import Tensor

from gatescope.backends.chunk import Backend, Chunk, split_time
from gatescope.cells import Cell, Tensors
from gatescope.state import State
from gatescope.weights import Weights


def chunks(
    cell: Cell,
    weights: Weights,
    inputs: Tensor,
    initial: Tensors,
    *,
    on_request: bool = True,  # noqa: ARG001
) -> Iterator[Chunk]:
    """Run the fused kernel over (time, batch, feature), then compute what it hid; a `Backend`."""
    for start, part in split_time(inputs, weights.hidden_size):
        hidden_state = run_kernel(cell, weights, part, initial)  # (time, batch, P)
        chunk = _replayed(cell, weights, start, part, initial, hidden_state)
        yield chunk
        initial = chunk.final


def of_hidden_states(hidden_states: Sequence[Tensor]) -> Backend:
    """A backend that runs no kernel, because the hidden states are known.

    Args:
        hidden_states: of each direction of one layer, in the order in which it reads its input: (time, batch, P).
    """
    directions = iter(hidden_states)

    def backend(
        cell: Cell,
        weights: Weights,
        inputs: Tensor,
        initial: Tensors,
        *,
        on_request: bool = True,  # noqa: ARG001
    ) -> Iterator[Chunk]:
        known = next(directions)
        for start, part in split_time(inputs, weights.hidden_size):
            chunk = _replayed(cell, weights, start, part, initial, known[start : start + len(part)])
            yield chunk
            initial = chunk.final

    return backend


def _replayed(
    cell: Cell, weights: Weights, start: int, inputs: Tensor, initial: Tensors, hidden_state: Tensor
) -> Chunk:
    if cell.replay is None:
        raise TypeError(f"the cell '{cell.name}' has no kernel to replay")
    blocks, states = cell.replay(weights, inputs, initial, hidden_state)
    # clones: whoever keeps the final state need not keep all steps in memory
    return Chunk(start, blocks, states, State(*(state[-1:].clone() for state in states)))


def run_kernel(cell: Cell, weights: Weights, inputs: Tensor, initial: Tensors) -> Tensor:
    """Every hidden state (time, batch, P) of PyTorch's fused kernel, called for one layer and direction.

    Args:
        cell: whose kernel is called.
        weights: of the layer and direction.
        inputs: (time, batch, feature).
        initial: each state (1, batch, size).
    """
    if cell.kernel is None:
        raise TypeError(f"the cell '{cell.name}' has no kernel")
    return cell.kernel(
        inputs,
        tuple(initial) if len(initial) > 1 else initial[0],
        weights.flat(),
        has_biases=weights.bias_ih is not None,
        num_layers=1,
        dropout=0.0,
        train=False,
        bidirectional=False,
        batch_first=False,
    )[0]
