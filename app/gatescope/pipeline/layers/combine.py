"""`concat`, `add` and `multiply`: several values side by side, their sum or product.

A vector stands at every step of a sequence.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator, Sequence
from dataclasses import replace
from functools import reduce
from typing import Literal

import torch
from torch import Tensor

from gatescope.errors import ManifestError
from gatescope.pipeline.layers.layer import Layer, LayerConfig, Shape, Steps, Weights

_SEQUENCE = 3  # axes: (batch, time, width)


class ConcatConfig(LayerConfig):
    """The values side by side, in the order of `inputs`."""

    type: Literal["concat"]
    """`concat`."""

    def build(self, weights: Weights, given: Sequence[Shape]) -> Layer:  # noqa: ARG002 - it has no weights
        """The layer."""
        self.check_numbers(given)
        width = sum(shape.width for shape in given)
        names = given[0].names if len(given) == 1 else tuple(self._names(given))
        return Concat(replace(_joined(given), width=width, names=names, directions=1, is_probability=False))

    def _names(self, given: Sequence[Shape]) -> Iterator[str]:
        """Of all numbers; those of one-hot tokens, which have none, are called after the layer."""
        for read, shape in zip(self.inputs, given, strict=True):
            yield from shape.names or (f"{read} {index}" for index in range(shape.width))


class AddConfig(LayerConfig):
    """The sum of the values, which are equally wide: a residual connection."""

    type: Literal["add"]
    """`add`."""

    def build(self, weights: Weights, given: Sequence[Shape]) -> Layer:  # noqa: ARG002 - it has no weights
        """The layer."""
        return Fold(torch.add, _folded(self, given, "adds"))


class MultiplyConfig(LayerConfig):
    """The product of the values, which are equally wide: one gates the other."""

    type: Literal["multiply"]
    """`multiply`."""

    def build(self, weights: Weights, given: Sequence[Shape]) -> Layer:  # noqa: ARG002 - it has no weights
        """The layer."""
        return Fold(torch.mul, _folded(self, given, "multiplies"))


def _folded(config: LayerConfig, given: Sequence[Shape], verb: str) -> Shape:
    """What equally wide values give together, number by number."""
    config.check_numbers(given)
    widths = {shape.width for shape in given}
    if len(widths) > 1:
        raise ManifestError(f"layer '{config.name}' {verb} values of different widths: {sorted(widths)}")
    directions = {shape.directions for shape in given}
    whole = _joined(given).numbered(config.name, *widths)
    return replace(whole, directions=directions.pop() if len(directions) == 1 else 1)


class Concat(Layer):
    """(…, width) each -> (…, sum of widths)."""

    def __init__(self, shape: Shape) -> None:
        super().__init__()
        self.shape = shape

    def forward(self, *values: Tensor, steps: Steps) -> Tensor:
        """The values side by side."""
        return torch.cat(_aligned(values, steps), dim=-1)


class Fold(Layer):
    """(…, width) each -> (…, width): their sum, or another function of two after another."""

    def __init__(self, function: Callable[[Tensor, Tensor], Tensor], shape: Shape) -> None:
        super().__init__()
        self.shape, self._function = shape, function

    def forward(self, *values: Tensor, steps: Steps) -> Tensor:
        """The values put together, number by number."""
        return reduce(self._function, _aligned(values, steps))


def _joined(given: Sequence[Shape]) -> Shape:
    """What is common to what is computed from all of these."""
    is_sequence = any(shape.is_sequence for shape in given)
    late = is_sequence and any(not (shape.is_sequence or shape.is_static) for shape in given)
    return Shape(
        width=0,
        is_sequence=is_sequence,
        is_local=all(shape.is_local for shape in given) and not late,
        sums_up=any(shape.sums_up for shape in given),
        is_static=all(shape.is_static for shape in given),
    )


def _aligned(values: Sequence[Tensor], steps: Steps) -> list[Tensor]:
    """Vectors at every step, where there is a sequence among the values."""
    if len({value.dim() for value in values}) == 1:
        return list(values)
    return [value if value.dim() == _SEQUENCE else value[:, None].expand(-1, steps.time, -1) for value in values]
