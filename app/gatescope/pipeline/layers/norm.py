"""Norms in evaluation mode: `batch_norm`, `layer_norm` and `rms_norm`, each over the numbers of one step."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import replace
from typing import Literal

import torch
from pydantic import Field
from torch import Tensor
from torch.nn.functional import layer_norm, rms_norm

from gatescope.pipeline.layers.layer import Layer, LayerConfig, Shape, Steps, Weights, parameter


class _NormConfig(LayerConfig):
    eps: float = Field(default=1e-5, gt=0)
    """Added to the variance, PyTorch's 1e-5 when left out."""


class BatchNormConfig(_NormConfig):
    """`nn.BatchNorm1d`: (x − running_mean) / √(running_var + eps) · weight + bias, number by number."""

    type: Literal["batch_norm"]
    """`batch_norm`."""

    def build(self, weights: Weights, given: Sequence[Shape]) -> Layer:
        """An affine map, computed in float64 once."""
        shape = self.only(given)
        mean, variance = (weights.take(name, shape.width).double() for name in ("running_mean", "running_var"))
        weight, bias = (weights.find(name, shape.width) for name in ("weight", "bias"))
        weights.find("num_batches_tracked")
        scale = (1 if weight is None else weight.double()) / (variance + self.eps).sqrt()
        shift = (0 if bias is None else bias.double()) - mean * scale
        return Affine(scale.float(), shift.float(), replace(shape, is_probability=False))


class LayerNormConfig(_NormConfig):
    """`nn.LayerNorm` over the numbers of a step: `weight` and `bias` where there are such."""

    type: Literal["layer_norm"]
    """`layer_norm`."""

    def build(self, weights: Weights, given: Sequence[Shape]) -> Layer:
        """The layer."""
        shape = self.only(given)
        own = [weights.find(name, shape.width) for name in ("weight", "bias")]
        return LayerNorm(own[0], own[1], self.eps, replace(shape, is_probability=False))


class RMSNormConfig(LayerConfig):
    """`nn.RMSNorm` over the numbers of a step: `weight` where there is one."""

    type: Literal["rms_norm"]
    """`rms_norm`."""

    eps: float | None = Field(default=None, gt=0)
    """Added to the mean of squares, PyTorch's (float32's spacing at 1) when left out."""

    def build(self, weights: Weights, given: Sequence[Shape]) -> Layer:
        """The layer."""
        shape = self.only(given)
        return RMSNorm(weights.find("weight", shape.width), self.eps, replace(shape, is_probability=False))


class Affine(Layer):
    """(…, width) -> x · scale + shift."""

    def __init__(self, scale: Tensor, shift: Tensor, shape: Shape) -> None:
        super().__init__()
        self.scale, self.shift, self.shape = parameter(scale), parameter(shift), shape

    def forward(self, *values: Tensor, steps: Steps) -> Tensor:  # noqa: ARG002 - each step for itself
        """Number by number."""
        return torch.addcmul(self.shift, values[0], self.scale)


class LayerNorm(Layer):
    """(…, width) -> (…, width)."""

    def __init__(self, weight: Tensor | None, bias: Tensor | None, eps: float, shape: Shape) -> None:
        super().__init__()
        self.weight = None if weight is None else parameter(weight)
        self.bias = None if bias is None else parameter(bias)
        self.eps, self.shape = eps, shape

    def forward(self, *values: Tensor, steps: Steps) -> Tensor:  # noqa: ARG002 - each step for itself
        """As `nn.LayerNorm`."""
        return layer_norm(values[0], (self.shape.width,), self.weight, self.bias, self.eps)


class RMSNorm(Layer):
    """(…, width) -> (…, width)."""

    def __init__(self, weight: Tensor | None, eps: float | None, shape: Shape) -> None:
        super().__init__()
        self.weight = None if weight is None else parameter(weight)
        self.eps, self.shape = eps, shape

    def forward(self, *values: Tensor, steps: Steps) -> Tensor:  # noqa: ARG002 - each step for itself
        """As `nn.RMSNorm`."""
        return rms_norm(values[0], [self.shape.width], self.weight, self.eps)
