"""`State`: the hidden and cell state of every layer and direction, in `nn.LSTM`'s layout."""

from __future__ import annotations

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
        shapes = spec.state_shapes(batch)
        return cls(*(torch.zeros(shapes[name], dtype=like.dtype, device=like.device) for name in cls._fields))

    def to(self, like: Tensor) -> State:
        """The same state on the device and of the type of `like`."""
        return State(*(value.to(like.device, like.dtype) for value in self))
