"""`pool`: a sequence -> a vector; `directions`: the halves of a bidirectional layer's output -> one."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import replace
from typing import Literal

import torch
from torch import Tensor

from gatescope.errors import ManifestError
from gatescope.pipeline.layers.layer import Layer, LayerConfig, Shape, Steps, Weights

How = Literal["last", "first", "final", "mean", "max", "sum"]
_BOTH = 2  # directions


class PoolConfig(LayerConfig):
    """One vector of each sequence, whose padding is not read."""

    type: Literal["pool"]
    """`pool`."""

    how: How
    """`last` and `first`: that step; `mean`, `max`, `sum`: over all steps; `final`: `nn.LSTM`'s h_n, where each
    direction came to its end: the forward direction's last step beside the reverse direction's first."""

    def build(self, weights: Weights, given: Sequence[Shape]) -> Layer:  # noqa: ARG002 - it has no weights
        """The layer."""
        shape = self.only(given, sequence=True)
        if self.how == "final" and shape.is_merged:
            raise ManifestError(
                f"layer '{self.name}' reads where each direction came to its end, but the directions are merged or "
                "swapped before it: pool first, then `directions`"
            )
        sums_up = shape.sums_up or self.how in ("first", "mean", "max", "sum")
        is_probability = shape.is_probability and self.how != "sum"
        pooled = replace(shape, is_sequence=False, sums_up=sums_up, is_probability=is_probability)
        return Pool(self.how, pooled, shape.directions)


class DirectionsConfig(LayerConfig):
    """One value of the two directions of a bidirectional recurrent layer, which stand side by side in its output."""

    type: Literal["directions"]
    """`directions`."""

    how: Literal["sum", "mean", "product", "max", "forward", "reverse", "swap"]
    """`sum`, `mean`, `product`, `max` of both; `forward` or `reverse` alone; `swap`: the reverse direction first."""

    def build(self, weights: Weights, given: Sequence[Shape]) -> Layer:  # noqa: ARG002 - it has no weights
        """The layer."""
        shape = self.only(given)
        if shape.directions != _BOTH:
            raise ManifestError(f"layer '{self.name}' reads the two directions of a recurrent layer, but there is one")
        if self.how == "swap":
            names = None if shape.names is None else _swapped(shape.names)
            return Directions(self.how, replace(shape, names=names, is_merged=True))
        return Directions(self.how, shape.numbered(self.name, shape.width // _BOTH, is_merged=True))


class Pool(Layer):
    """(batch, time, width) -> (batch, width)."""

    def __init__(self, how: How, shape: Shape, directions: int) -> None:
        super().__init__()
        self.how, self.shape, self._directions = how, shape, directions
        self._pool = _POOLS[how]

    def forward(self, *values: Tensor, steps: Steps) -> Tensor:
        """Of each sequence's own steps."""
        if self.how == "final":
            return _final(values[0], steps, self._directions)
        return self._pool(values[0], steps)


class Directions(Layer):
    """(…, 2 · width) -> (…, width), or with the halves swapped."""

    def __init__(self, how: str, shape: Shape) -> None:
        super().__init__()
        self._merge, self.shape = _MERGES[how], shape

    def forward(self, *values: Tensor, steps: Steps) -> Tensor:  # noqa: ARG002 - each step for itself
        """Of each step."""
        return self._merge(*values[0].chunk(_BOTH, dim=-1))


def _final(values: Tensor, steps: Steps, directions: int) -> Tensor:
    forward, *reverse = values.chunk(directions, dim=-1)
    if not reverse:
        return steps.last(forward)
    return torch.cat([steps.last(forward), *(each[:, 0] for each in reverse)], dim=-1)


def _mean(values: Tensor, steps: Steps) -> Tensor:
    if not steps.ragged:
        return values.mean(dim=1)
    return steps.filled(values, 0.0).sum(dim=1) / steps.lengths[:, None]


_POOLS: dict[str, Callable[[Tensor, Steps], Tensor]] = {
    "last": lambda values, steps: steps.last(values),
    "first": lambda values, steps: values[:, 0],  # noqa: ARG005 - every sequence has one
    "final": lambda values, steps: steps.last(values),
    "mean": _mean,
    "max": lambda values, steps: steps.filled(values, -torch.inf).amax(dim=1),
    "sum": lambda values, steps: steps.filled(values, 0.0).sum(dim=1),
}

_MERGES: dict[str, Callable[[Tensor, Tensor], Tensor]] = {
    "sum": torch.add,
    "mean": lambda forward, reverse: (forward + reverse) / _BOTH,
    "product": torch.mul,
    "max": torch.maximum,
    "forward": lambda forward, reverse: forward,  # noqa: ARG005 - the other half is dropped
    "reverse": lambda forward, reverse: reverse,  # noqa: ARG005 - likewise
    "swap": lambda forward, reverse: torch.cat([reverse, forward], dim=-1),
}


def _swapped(names: tuple[str, ...]) -> tuple[str, ...]:
    half = len(names) // _BOTH
    return names[half:] + names[:half]
