"""`linear`: `nn.Linear`, and a 1×1 `nn.Conv1d`, which is the same."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Literal

from torch import Tensor
from torch.nn.functional import linear

from gatescope.errors import ManifestError
from gatescope.pipeline.layers.layer import Layer, LayerConfig, Shape, Steps, Weights, parameter

_MATRIX = 2  # axes


class LinearConfig(LayerConfig):
    """`nn.Linear`: `weight` (out, in), whose further axes of length 1 are dropped, and `bias` (out,) where there is."""

    type: Literal["linear"]
    """`linear`."""

    def build(self, weights: Weights, given: Sequence[Shape]) -> Layer:
        """The layer, which must take as many numbers as it is given."""
        shape = self.only(given)
        stored = weights.below().get("weight")
        ones = (1,) * max(0, (_MATRIX if stored is None else stored.dim()) - _MATRIX)
        weight = weights.take("weight", None, None, *ones)
        weight = weight.reshape(weight.shape[:2])
        if weight.shape[1] != shape.width:
            raise ManifestError(f"layer '{self.name}' takes {weight.shape[1]} values, but is given {shape.width}")
        return Linear(weight, weights.find("bias", len(weight)), shape.numbered(self.name, len(weight)))


class Linear(Layer):
    """(…, in) -> (…, out): x·Wᵀ + b."""

    def __init__(self, weight: Tensor, bias: Tensor | None, shape: Shape) -> None:
        super().__init__()
        self.weight, self.shape = parameter(weight), shape
        self.bias = None if bias is None else parameter(bias)

    def forward(self, *values: Tensor, steps: Steps) -> Tensor:  # noqa: ARG002 - each step for itself
        """As `nn.Linear`."""
        return linear(values[0], self.weight, self.bias)
