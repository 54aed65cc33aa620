"""`activation`: functions without weights, over the numbers of one step."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import replace
from typing import Annotated, Literal, get_args

import torch
from pydantic import AfterValidator
from torch import Tensor
from torch.nn import functional

from gatescope.cells import function_named
from gatescope.pipeline.layers.layer import Layer, LayerConfig, Shape, Steps, Weights, parameter

Function = Literal[  # those that are known by their name alone
    "relu",
    "relu6",
    "leaky_relu",
    "elu",
    "selu",
    "gelu",
    "gelu_tanh",
    "silu",
    "mish",
    "hardtanh",
    "tanh",
    "sigmoid",
    "softplus",
    "softsign",
    "exp",
    "softmax",
    "log_softmax",
    "l2_norm",
]

FUNCTIONS: dict[str, Callable[[Tensor], Tensor]] = {
    "relu": torch.relu,
    "relu6": functional.relu6,
    "leaky_relu": functional.leaky_relu,
    "elu": functional.elu,
    "selu": functional.selu,
    "gelu": functional.gelu,
    "gelu_tanh": lambda values: functional.gelu(values, approximate="tanh"),
    "silu": functional.silu,
    "mish": functional.mish,
    "hardtanh": functional.hardtanh,
    "tanh": torch.tanh,
    "sigmoid": torch.sigmoid,
    "softplus": functional.softplus,
    "softsign": functional.softsign,
    "exp": torch.exp,
    "softmax": lambda values: values.softmax(dim=-1),
    "log_softmax": lambda values: values.log_softmax(dim=-1),
    "l2_norm": lambda values: functional.normalize(values, dim=-1),
}
"""Name -> the function, with PyTorch's default arguments; the last three go over all numbers of a step."""

assert FUNCTIONS.keys() == set(get_args(Function))  # noqa: S101 - the two lists are one

_PROBABILITIES = frozenset({"softmax", "sigmoid"})


def _applied(name: str) -> Callable[[Tensor], Tensor]:
    return FUNCTIONS[name] if name in FUNCTIONS else function_named(name).apply


def _known(name: str) -> str:
    _applied(name)
    return name


class ActivationConfig(LayerConfig):
    """A function of `torch.nn.functional`, with its default arguments, or one that a cell may have."""

    type: Literal["activation"]
    """`activation`."""

    function: Annotated[str, AfterValidator(_known)]
    """Its name: `relu`, `tanh`, `softplus`, …; `l2_norm` divides the numbers of a step by their Euclidean norm."""

    def build(self, weights: Weights, given: Sequence[Shape]) -> Layer:  # noqa: ARG002 - it has no weights
        """The layer."""
        shape = self.only(given)
        return Activation(self.function, replace(shape, is_probability=self.function in _PROBABILITIES))


class PReLUConfig(LayerConfig):
    """`nn.PReLU`: `weight` (1,) or (width,), the slope below zero."""

    type: Literal["prelu"]
    """`prelu`."""

    def build(self, weights: Weights, given: Sequence[Shape]) -> Layer:
        """The layer."""
        shape = self.only(given)
        slopes = weights.below().get("weight")
        count = 1 if slopes is not None and slopes.shape == (1,) else shape.width
        return PReLU(weights.take("weight", count), replace(shape, is_probability=False))


class PReLU(Layer):
    """(…, width) -> (…, width)."""

    def __init__(self, weight: Tensor, shape: Shape) -> None:
        super().__init__()
        self.weight, self.shape = parameter(weight), shape

    def forward(self, *values: Tensor, steps: Steps) -> Tensor:  # noqa: ARG002 - each step for itself
        """As `nn.PReLU`, over the last axis."""
        return torch.where(values[0] > 0, values[0], self.weight * values[0])


class Activation(Layer):
    """(…, width) -> (…, width)."""

    def __init__(self, function: str, shape: Shape) -> None:
        super().__init__()
        self._function, self.shape = _applied(function), shape

    def forward(self, *values: Tensor, steps: Steps) -> Tensor:  # noqa: ARG002 - each step for itself
        """The function of each number, or of each step."""
        return self._function(values[0])
