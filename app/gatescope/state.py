"""`State`: the hidden and cell state of every layer and direction, in `nn.LSTM`'s layout."""

from __future__ import annotations

from collections.abc import Sequence
from typing import NamedTuple

import torch
from torch import Tensor

from gatescope.spec import Spec


class State(NamedTuple):
    """`nn.LSTM`'s (h, c): entry `layer * num_directions + direction` of the first axis."""

    hidden_state: Tensor  # (layers · directions, batch, proj_size or hidden_size)
    cell_state: Tensor  # (layers · directions, batch, hidden_size)

    @classmethod
    def zeros(cls, spec: Spec, batch: int, like: Tensor) -> State:
        """The state that `nn.LSTM` starts from when none is given, on the device and of the type of `like`."""
        entries = spec.state_entries
        hidden_state = like.new_zeros(entries, batch, spec.hidden_state_size)
        return cls(hidden_state, like.new_zeros(entries, batch, spec.hidden_size))

    @classmethod
    def unpacked(cls, rows: Sequence[bytes], spec: Spec) -> State:
        """The state of a batch from what `packed` gave of each of its rows; float32, on the CPU."""
        numbers = torch.frombuffer(bytearray().join(rows), dtype=torch.float32).view(len(rows), -1)
        sizes = spec.hidden_state_size, spec.hidden_size
        parts = numbers.split_with_sizes([spec.state_entries * size for size in sizes], dim=1)
        return cls(
            *(
                part.reshape(len(rows), -1, size).transpose(0, 1).contiguous()
                for part, size in zip(parts, sizes, strict=True)
            )
        )

    def packed(self) -> list[bytes]:
        """Of each row the float32 numbers of its hidden state and then of its cell state, entry after entry."""
        numbers = torch.cat([value.transpose(0, 1).flatten(1) for value in self], dim=1).to("cpu", torch.float32)
        size, content = numbers.shape[1] * numbers.itemsize, numbers.numpy().tobytes()
        return [content[start : start + size] for start in range(0, len(content), size)]

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
