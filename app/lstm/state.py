"""`State`: the hidden and cell state of every layer and direction, in `nn.LSTM`'s layout."""

from __future__ import annotations

from collections.abc import Sequence
from typing import NamedTuple

import torch
from torch import Tensor

from app.lstm.spec import LSTMSpec


class State(NamedTuple):
    """`nn.LSTM`'s (h, c): entry `layer * num_directions + direction` of the first axis."""

    hidden_state: Tensor  # (layers · directions, batch, proj_size or hidden_size)
    cell_state: Tensor  # (layers · directions, batch, hidden_size)

    @classmethod
    def zeros(cls, spec: LSTMSpec, batch: int, like: Tensor) -> State:
        """The state that `nn.LSTM` starts from when none is given, on the device and of the type of `like`."""
        entries = spec.state_entries
        hidden_state = like.new_zeros(entries, batch, spec.hidden_state_size)
        return cls(hidden_state, like.new_zeros(entries, batch, spec.hidden_size))

    @classmethod
    def joined(cls, entries: Sequence[State]) -> State:
        """From that of each layer and direction, (1, batch, unit)."""
        if len(entries) == 1:
            return entries[0]
        return cls(*(torch.cat(values) for values in zip(*entries, strict=True)))

    def entries(self) -> list[State]:
        """That of each layer and direction, (1, batch, unit)."""
        if self.hidden_state.shape[0] == 1:
            return [self]
        return [State(*values) for values in zip(*(value.unsqueeze(1).unbind() for value in self), strict=True)]

    def to(self, like: Tensor) -> State:
        """The same state on the device and of the type of `like`."""
        return State(*(value.to(like.device, like.dtype) for value in self))
