"""`conv1d`: `nn.Conv1d` over time that keeps the number of steps."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import replace
from typing import Literal

from pydantic import Field
from torch import Tensor
from torch.nn.functional import conv1d, pad

from gatescope.errors import ManifestError
from gatescope.pipeline.layers.layer import Layer, LayerConfig, Shape, Steps, Weights, parameter


class Conv1dConfig(LayerConfig):
    """`nn.Conv1d` of stride 1: `weight` (out, in / groups, kernel) and `bias` (out,) where there is one."""

    type: Literal["conv1d"]
    """`conv1d`."""

    padding: Literal["same", "causal"] = "same"
    """Where the zeros are that keep the number of steps: on both sides, or before the first step only."""

    dilation: int = Field(default=1, ge=1)
    """Steps from one value of the kernel to the next."""

    def build(self, weights: Weights, given: Sequence[Shape]) -> Layer:
        """The layer; groups follow from the shape of its weight."""
        shape = self.only(given, sequence=True)
        weight = weights.take("weight", None, None, None)
        rows, columns, kernel = weight.shape
        if shape.width % columns or rows % (shape.width // columns):
            raise ManifestError(f"layer '{self.name}' takes a multiple of {columns} values, but is given {shape.width}")
        if self.padding == "same" and (kernel - 1) * self.dilation % 2:
            raise ManifestError(f"layer '{self.name}' has a kernel of {kernel}, which cannot be centred on a step")
        given_shape = shape.numbered(self.name, rows)
        reach = (kernel - 1) * self.dilation
        before = reach if self.padding == "causal" else reach // 2
        return Conv1d(
            weight,
            weights.find("bias", rows),
            (before, reach - before),
            self.dilation,
            replace(given_shape, is_local=shape.is_local and kernel == 1),
        )


class Conv1d(Layer):
    """(batch, time, in) -> (batch, time, out); beyond both ends of each sequence stand zeros."""

    def __init__(
        self, weight: Tensor, bias: Tensor | None, zeros: tuple[int, int], dilation: int, shape: Shape
    ) -> None:
        super().__init__()
        self.weight, self.shape = parameter(weight), shape
        self.bias = None if bias is None else parameter(bias)
        self._zeros, self._dilation = zeros, dilation

    def forward(self, *values: Tensor, steps: Steps) -> Tensor:
        """As `nn.Conv1d`, whose axes are (batch, channel, time)."""
        channels = pad(steps.filled(values[0], 0.0).transpose(1, 2), self._zeros)
        groups = channels.shape[1] // self.weight.shape[1]
        return conv1d(channels, self.weight, self.bias, dilation=self._dilation, groups=groups).transpose(1, 2)
