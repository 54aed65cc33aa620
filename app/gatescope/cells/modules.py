"""`VariantModule`: the recurrent module of a cell that PyTorch has no kernel for."""

from __future__ import annotations

from typing import Any

import torch
from torch import Tensor, nn
from torch.nn.utils.rnn import PackedSequence, pack_padded_sequence, pad_packed_sequence

from gatescope.cells.cell import Cell, Tensors
from gatescope.weights import Weights

_DIRECTIONS = ("forward", "reverse")
_UNBATCHED = 2  # axes of inputs without a batch


class VariantModule(nn.RNNBase):
    """A recurrent module with the parameters of PyTorch's, computed step by step by the equations of its cell.

    Args:
        cell: a variant.
        arguments: what the constructor of PyTorch's module takes.
    """

    def __init__(self, cell: Cell, **arguments: Any) -> None:
        super().__init__(**arguments)
        self.cell = cell

    def extra_repr(self) -> str:
        """What PyTorch's module shows, and the functions."""
        stated = "".join(f", {name}={value!r}" for name, value in self.cell.stated.items())
        return super().extra_repr() + stated

    def forward(
        self,
        input: Tensor | PackedSequence,  # noqa: A002 - as PyTorch's module calls it
        hx: Tensor | tuple[Tensor, ...] | None = None,
    ) -> tuple[Tensor | PackedSequence, Tensor | tuple[Tensor, ...]]:
        """As PyTorch's module takes and returns it: padded, packed or without a batch; gradients are recorded."""
        if isinstance(input, PackedSequence):
            values, lengths = pad_packed_sequence(input)  # (time, batch, feature), rows in their own order
        else:
            values = input[:, None] if input.dim() == _UNBATCHED else input
            values = values.transpose(0, 1) if self.batch_first and input.dim() != _UNBATCHED else values
            lengths = torch.full(values.shape[1:2], values.shape[0])
        output, final = self._run(values, lengths.to(values.device), self._initial(values, hx))
        if isinstance(input, PackedSequence):
            return _packed(output, lengths, input), self._hx(final)
        if input.dim() == _UNBATCHED:
            return output[:, 0], self._hx(tuple(state[:, 0] for state in final))
        return (output.transpose(0, 1) if self.batch_first else output), self._hx(final)

    def _initial(self, values: Tensor, hx: Tensor | tuple[Tensor, ...] | None) -> Tensors:
        """(layers · directions, batch, size) each; zeros where none are given."""
        if hx is not None:
            given = (hx,) if isinstance(hx, Tensor) else hx
            return tuple(state[:, None] if state.dim() == _UNBATCHED else state for state in given)
        entries = self.num_layers * (2 if self.bidirectional else 1)
        sizes = (self.proj_size or self.hidden_size, *(self.hidden_size for _ in self.cell.states[1:]))
        return tuple(values.new_zeros(entries, values.shape[1], size) for size in sizes)

    def _hx(self, states: Tensors) -> Tensor | tuple[Tensor, ...]:
        return states if len(states) > 1 else states[0]

    def _run(self, values: Tensor, lengths: Tensor, initial: Tensors) -> tuple[Tensor, Tensors]:
        """(time, batch, feature) -> the output (time, batch, directions · size), and the states where rows end."""
        backwards = _reversal(lengths, len(values))  # (time, batch, 1)
        finals: list[Tensors] = []
        for layer in range(self.num_layers):
            hidden = []
            for direction in _DIRECTIONS[: 2 if self.bidirectional else 1]:
                is_reverse = direction == "reverse"
                read = values.take_along_dim(backwards, dim=0) if is_reverse else values
                weights = Weights.of(self, layer, direction)
                states = self._direction(read, tuple(state[len(finals)] for state in initial), weights)
                finals.append(tuple(state.take_along_dim(lengths[None, :, None] - 1, dim=0)[0] for state in states))
                hidden.append(states[0].take_along_dim(backwards, dim=0) if is_reverse else states[0])
            values = torch.cat(hidden, dim=-1)
        return values, tuple(map(torch.stack, zip(*finals, strict=True)))

    def _direction(self, values: Tensor, states: Tensors, weights: Weights) -> Tensors:
        """(time, batch, feature), from the states (batch, size): the states at every step, (time, batch, size)."""
        steps = []
        for x in values:
            signals = self.cell.step(x, states, weights)
            states = tuple(signals[name] for name in self.cell.states)
            steps.append(states)
        return tuple(map(torch.stack, zip(*steps, strict=True)))


class VariantLSTM(VariantModule, nn.LSTM):  # type: ignore[misc] # its forward takes and returns what both do
    """An `nn.LSTM` with other functions."""


class VariantGRU(VariantModule, nn.GRU):  # type: ignore[misc] # its forward takes and returns what both do
    """An `nn.GRU` with other functions, or another place of the reset gate."""


class VariantRNN(VariantModule, nn.RNN):  # type: ignore[misc] # its forward takes and returns what both do
    """An `nn.RNN` with another function."""


MODULES: dict[str, type[VariantModule]] = {"lstm": VariantLSTM, "gru": VariantGRU, "rnn": VariantRNN}
"""By the name of the cell."""


def _reversal(lengths: Tensor, time: int) -> Tensor:
    """(time, batch, 1) the step that a reverse direction reads at each of its steps; padding keeps its own."""
    steps = torch.arange(time, device=lengths.device)[:, None]
    return torch.where(steps < lengths, lengths - 1 - steps, steps)[..., None]


def _packed(output: Tensor, lengths: Tensor, given: PackedSequence) -> PackedSequence:
    """(time, batch, size), packed as the input was."""
    order = torch.arange(len(lengths)) if given.sorted_indices is None else given.sorted_indices.cpu()
    packed = pack_padded_sequence(output[:, order.to(output.device)], lengths[order])
    return PackedSequence(packed.data, given.batch_sizes, given.sorted_indices, given.unsorted_indices)
