"""The head: `nn.LSTM`'s output -> one value per name or label."""

from __future__ import annotations

import re
from collections.abc import Mapping
from itertools import pairwise
from typing import Literal

import torch
from torch import Tensor, nn

from gatescope import padding
from gatescope.errors import WeightsError
from gatescope.pipeline.config import Config

Steps = Literal["all", "last", "final", "mean", "max"]
Activation = Literal["relu", "tanh"]

_ACTIVATIONS: dict[str, type[nn.Module]] = {"relu": nn.ReLU, "tanh": nn.Tanh}
_LAYER = re.compile(r"head\.(\d+)\.weight")


class HeadConfig(Config):
    """A linear layer, or several with an activation between; how many and how wide stands in the weights."""

    steps: Steps = "all"
    """Which steps of the LSTM's output it reads: `all` (a prediction per time step), each sequence's `last`, or their
    `mean` or `max` (one prediction per sequence); `final` is `nn.LSTM`'s h_n: where each direction came to its end."""

    activation: Activation = "relu"
    """What stands between the layers of an MLP."""


class Head(nn.Module):
    """Linear layers over all time steps of an output of one or two directions, or over one summary of them."""

    def __init__(self, config: HeadConfig, weights: Mapping[str, Tensor], directions: int = 1) -> None:
        super().__init__()
        self.steps, self._directions = config.steps, directions
        numbers = sorted(int(match[1]) for name in weights if (match := _LAYER.fullmatch(name)))
        linear = [_linear(weights[f"head.{n}.weight"], weights.get(f"head.{n}.bias"), n) for n in numbers]
        if not linear:
            raise WeightsError("the manifest has a [head], but the weights have no 'head.0.weight'")
        for (n, before), (m, after) in pairwise(zip(numbers, linear, strict=True)):
            if before.out_features != after.in_features:
                raise WeightsError(
                    f"'head.{n}.weight' gives {before.out_features} values, but 'head.{m}.weight' takes "
                    f"{after.in_features}"
                )
        layers: list[nn.Module] = [linear[0]]
        for layer in linear[1:]:
            layers += [_ACTIVATIONS[config.activation](), layer]
        self.layers = nn.Sequential(*layers)
        self.names = {f"head.{n}.{kind}" for n in numbers for kind in ("weight", "bias")}
        self.input_size, self.output_size = linear[0].in_features, linear[-1].out_features

    @property
    def per_step(self) -> bool:
        """Whether there is a prediction for every time step, not one per sequence."""
        return self.steps == "all"

    @property
    def reads_padding(self) -> bool:
        """Whether it needs NaN there; else it reads each row at steps of its own."""
        return self.steps not in ("last", "final")

    def forward(self, output: Tensor, lengths: Tensor | None) -> Tensor:
        """(batch, time, unit) -> (batch, time, value), or (batch, value) for a summary; NaN in padding that is read.

        `lengths` is (batch,), or None where all rows have all steps.
        """
        if self.steps == "last":
            output = _last(output, lengths)
        elif self.steps == "final":
            output = _final(output, lengths, self._directions)
        elif self.steps == "mean":
            output = output.nanmean(dim=1)
        elif self.steps == "max":
            output = torch.where(output.isnan(), -torch.inf, output).amax(dim=1)
        return self.layers(output)  # type: ignore[no-any-return]


def _last(output: Tensor, lengths: Tensor | None) -> Tensor:
    """(batch, time, unit) -> (batch, unit)."""
    return output.select(1, -1) if lengths is None else padding.at_last_step(output, lengths)


def _final(output: Tensor, lengths: Tensor | None, directions: int) -> Tensor:
    """(batch, time, directions · unit) -> (batch, directions · unit): the forward's last, the reverse's first."""
    forward, *reverse = output.chunk(directions, dim=-1)
    return torch.cat([_last(forward, lengths), *(each[:, 0] for each in reverse)], dim=-1)


def _linear(weight: Tensor, bias: Tensor | None, number: int) -> nn.Linear:
    if weight.dim() != 2 or (bias is not None and bias.shape != weight.shape[:1]):  # noqa: PLR2004
        bias_shape = None if bias is None else list(bias.shape)
        raise WeightsError(
            f"'head.{number}' is no linear layer: its weight has shape {list(weight.shape)}, its bias {bias_shape}"
        )
    layer = nn.Linear(weight.shape[1], weight.shape[0], bias=bias is not None)
    with torch.no_grad():
        layer.weight.copy_(weight)
        if bias is not None:
            layer.bias.copy_(bias)
    return layer
