"""`StateLayout`: how a program takes a state, and gives one back."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

from torch import Tensor, nn

from gatescope.capture import RecurrentModule, over_time
from gatescope.errors import ModuleFailed
from gatescope.spec import Spec
from gatescope.state import State


@dataclass(frozen=True)
class StateLayout:
    """As the recurrent module takes it that runs first: a tuple, or the tensor where the cell has one state.

    Each tensor is (layers · directions, batch, size), of an `nn.LSTMCell`, `nn.GRUCell` or `nn.RNNCell` (batch, size).
    """

    spec: Spec
    is_cell: bool
    subject: str = "the module's forward"  # what runs, as messages call it

    @classmethod
    def of(cls, module: RecurrentModule) -> StateLayout:
        """The layout of this module's states."""
        return cls(Spec.from_module(over_time(module)), isinstance(module, nn.RNNCellBase))

    def given(self, state: State | None) -> Any:
        """The state as the program takes it."""
        if state is None:
            return None
        return State(*(value[0] for value in state)).hx if self.is_cell else state.hx

    def read(self, returned: Any, batch: int) -> State:
        """A copy of the state that the program gave back.

        Raises:
            ModuleFailed: it is no state like the one that the program takes, or is not finite.
        """
        expected = [shape[1:] if self.is_cell else shape for shape in self.spec.state_shapes(batch).values()]
        tensors = _tensors(returned)
        if tensors is None or [tuple(tensor.shape) for tensor in tensors] != expected:
            raise ModuleFailed(
                f"{self.subject} gives {_described(returned)} beside its prediction; a state to go on from must "
                f"be like the one that it takes, {_shapes(expected)}: return the prediction alone, or with that"
            )
        state = State(*(value.detach().clone().float() for value in tensors))
        if not all(bool(value.isfinite().all()) for value in state):
            raise ModuleFailed(f"{self.subject} gives NaN or Infinity in its state")
        return State(*(value[None] for value in state)) if self.is_cell else state

    def rows(self, state: State, count: int) -> State:
        """So many rows that all are the first of this state."""
        return State(*(value[:, :1].expand(-1, count, -1).contiguous() for value in state))


def _tensors(returned: Any) -> list[Tensor] | None:
    values = [returned] if isinstance(returned, Tensor) else returned
    if not isinstance(values, Sequence) or not all(isinstance(value, Tensor) for value in values):
        return None
    return list(values) if all(value.dtype.is_floating_point for value in values) else None


def _described(returned: Any) -> str:
    tensors = _tensors(returned)
    return type(returned).__name__ if tensors is None else _shapes([tuple(tensor.shape) for tensor in tensors])


def _shapes(shapes: Sequence[tuple[int, ...]]) -> str:
    return f"a tensor {shapes[0]}" if len(shapes) == 1 else f"a tuple of {', '.join(map(str, shapes))}"
