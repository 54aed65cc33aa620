"""`State`: the states of every layer and direction of a recurrent module, in the module's own layout."""

from __future__ import annotations

from collections.abc import Sequence
from operator import itemgetter
from typing import Any, Self

import torch
from torch import Tensor

from gatescope.cells import CELLS
from gatescope.spec import Spec

_NAMES = {len(cell.states): cell.states for cell in CELLS}
_UNBATCHED = 2  # axes of a state without a batch: (layers · directions, size)


class State(tuple[Tensor, ...]):
    """As many tensors as the cell has states, the hidden state first: `State(h, c)` of an LSTM.

    Each is (layers · directions, batch, size); entry `layer * num_directions + direction` comes first. Each can also be
    read under its name, such as `state.cell_state`.
    """

    __slots__ = ()

    hidden_state: Tensor = property(itemgetter(0))  # type: ignore[assignment] # as fast as a named tuple's field

    def __new__(cls, *tensors: Tensor) -> Self:
        """The state of these tensors."""
        return tuple.__new__(cls, tensors)

    def __getnewargs__(self) -> tuple[Tensor, ...]:
        return tuple(self)

    def __getattr__(self, name: str) -> Tensor:
        names = self.names
        if name not in names:
            raise AttributeError(f"the state has no '{name}'; it has {', '.join(names)}")
        return self[names.index(name)]

    @property
    def names(self) -> tuple[str, ...]:
        """What its tensors are called."""
        return _NAMES.get(len(self), ())

    def named(self) -> dict[str, Tensor]:
        """Its tensors by name."""
        return dict(zip(self.names, self, strict=True))

    @property
    def hx(self) -> Any:
        """What the module takes for it: a tuple of tensors, or the tensor where there is one."""
        return tuple(self) if len(self) > 1 else self[0]

    @classmethod
    def from_hx(cls, hx: Tensor | Sequence[Tensor]) -> State:
        """The state that a module takes or returns, also without a batch."""
        tensors = [hx] if isinstance(hx, Tensor) else hx
        return cls(*(value[:, None] if value.dim() == _UNBATCHED else value for value in tensors))

    @classmethod
    def zeros(cls, spec: Spec, batch: int, like: Tensor) -> State:
        """The state that a module starts from when none is given, on the device and of the type of `like`."""
        entries, zeros = spec.state_entries, like.new_zeros
        return tuple.__new__(cls, [zeros(entries, batch, size) for size in spec.state_sizes])

    @classmethod
    def unpacked(cls, rows: Sequence[bytes], spec: Spec) -> State:
        """The state of a batch from what `packed` returned for each of its rows; float32, on the CPU."""
        numbers = torch.frombuffer(bytearray().join(rows), dtype=torch.float32).view(len(rows), -1)
        sizes = spec.state_sizes
        parts = numbers.split_with_sizes([spec.state_entries * size for size in sizes], dim=1)
        return cls(
            *(
                part.reshape(len(rows), -1, size).transpose(0, 1).contiguous()
                for part, size in zip(parts, sizes, strict=True)
            )
        )

    def packed(self) -> list[bytes]:
        """Of each row the float32 numbers of each state in turn, entry after entry."""
        numbers = torch.cat([value.transpose(0, 1).flatten(1) for value in self], dim=1).to("cpu", torch.float32)
        size, content = numbers.shape[1] * numbers.itemsize, numbers.numpy().tobytes()
        return [content[start : start + size] for start in range(0, len(content), size)]

    @classmethod
    def joined(cls, entries: Sequence[State]) -> State:
        """The state from that of each layer and direction, (1, batch, size) each."""
        if len(entries) == 1:
            return entries[0]
        return cls(*(torch.cat(values) for values in zip(*entries, strict=True)))

    def entries(self) -> list[State]:
        """The state of each layer and direction, (1, batch, size) each."""
        if self[0].shape[0] == 1:
            return [self]
        return [State(*values) for values in zip(*(value.unsqueeze(1).unbind() for value in self), strict=True)]

    def to(self, like: Tensor) -> State:
        """The same state on the device and of the type of `like`."""
        return State(*(value.to(like) for value in self))
