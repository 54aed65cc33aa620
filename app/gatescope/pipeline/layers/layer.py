"""`Layer`: what every layer of a manifest is, and `Shape`: what is known of a value before it is computed."""

from __future__ import annotations

from abc import ABC, abstractmethod
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace
from functools import cached_property
from typing import Any

from pydantic import Field
from torch import Tensor, nn

from gatescope import padding
from gatescope.errors import ManifestError, WeightsError
from gatescope.pipeline.config import Config


@dataclass(frozen=True)
class Shape:
    """What a value between two layers holds."""

    width: int
    """How many numbers a step has; of token ids, how many tokens there are."""

    is_sequence: bool = True
    """Whether it is (batch, time, width); else it is a vector (batch, width)."""

    is_ids: bool = False
    """Whether it is (batch, time) token ids."""

    names: tuple[str, ...] | None = None
    """What its numbers are called; None of ids and one-hot tokens."""

    directions: int = 1
    """How many directions of a recurrent layer stand side by side in it."""

    is_merged: bool = False
    """Whether a `directions` layer has changed which direction stands where, so that h_n cannot be read any more."""

    is_local: bool = True
    """Whether a step needs nothing of other steps but recurrent states, so that it can be computed part by part."""

    sums_up: bool = False
    """Whether it needs all steps at once: a mean, a sum, a maximum, or what is computed from one."""

    is_static: bool = False
    """Whether it is known before the first step: the request's static inputs, or what is computed from them alone."""

    is_probability: bool = False
    """Whether its numbers are probabilities: behind a softmax or a sigmoid."""

    def numbered(self, name: str, width: int, **changes: Any) -> Shape:
        """The same with other numbers, named after the layer that makes them."""
        names = tuple(f"{name} {index}" for index in range(width))
        fresh = {"is_ids": False, "directions": 1, "is_merged": False, "is_probability": False}
        return replace(self, width=width, names=names, **{**fresh, **changes})


class Steps:
    """Which steps of a padded batch are steps of its sequences.

    Args:
        lengths: (batch,).
        time: of the padded batch.
        ragged: whether a sequence is shorter than that.
        ends_everywhere: whether each step is taken for the last one, so that what is computed of the last step is
            computed of every step.
    """

    def __init__(self, lengths: Tensor, time: int, *, ragged: bool, ends_everywhere: bool = False) -> None:
        self.lengths, self.time, self.ragged, self._ends_everywhere = lengths, time, ragged, ends_everywhere

    @cached_property
    def valid(self) -> Tensor:
        """(batch, time, 1), false in the padding."""
        return padding.is_valid(self.lengths, self.time)[..., None]

    def filled(self, values: Tensor, filling: float) -> Tensor:
        """(batch, time, width) with another number in the padding, which may hold anything."""
        return values.masked_fill(~self.valid, filling) if self.ragged else values

    def last(self, values: Tensor) -> Tensor:
        """(batch, time, width) -> (batch, width): each sequence's own last step."""
        if self._ends_everywhere:
            return values
        return padding.at_last_step(values, self.lengths) if self.ragged else values.select(1, -1)


class Layer(nn.Module, ABC):
    """A layer in evaluation mode; it holds no request's state."""

    shape: Shape
    """Of what it gives."""

    @abstractmethod
    def forward(self, *values: Tensor, steps: Steps) -> Tensor:
        """What it gives for the values of its inputs; the padding of a sequence may hold anything, before and after."""


class Weights:
    """The weights of a model under one prefix; it keeps in mind which were taken.

    Args:
        tensors: all weights of the model.
        taken: the names that were taken so far; shared by all layers.
        layer: the layer's name, for messages.
        prefix: what stands before its weights' own names, without the dot; empty at the top.
    """

    def __init__(self, tensors: Mapping[str, Tensor], taken: set[str], layer: str, prefix: str) -> None:
        self._tensors, self._taken, self._layer, self.prefix = tensors, taken, layer, prefix

    def take(self, name: str, *dims: int | None) -> Tensor:
        """The weight of this name and shape.

        Args:
            name: behind the prefix.
            dims: how long each axis must be; None of one that may have any length.

        Raises:
            WeightsError: it is not there, or has another shape.
        """
        found = self.find(name, *dims)
        if found is None:
            raise WeightsError(f"layer '{self._layer}' needs the weight '{self.full(name)}', which is not there")
        return found

    def find(self, name: str, *dims: int | None) -> Tensor | None:
        """The same, None where it is not there."""
        value = self._tensors.get(self.full(name))
        if value is None:
            return None
        self._taken.add(self.full(name))
        fits = value.dim() == len(dims) and all(
            dim is None or dim == size for dim, size in zip(dims, value.shape, strict=True)
        )
        if not fits:
            wanted = " × ".join("any" if dim is None else str(dim) for dim in dims)
            message = f"'{self.full(name)}' has shape {list(value.shape)}, but layer '{self._layer}' needs {wanted}"
            raise WeightsError(message)
        return value

    def below(self) -> dict[str, Tensor]:
        """Every weight directly under the prefix by its own name; none of them counts as taken."""
        start = self.full("")
        own = {name.removeprefix(start): value for name, value in self._tensors.items() if name.startswith(start)}
        return {name: value for name, value in own.items() if "." not in name}

    def anywhere(self, name: str) -> Tensor:
        """The weight of this full name, of any shape.

        Raises:
            WeightsError: it is not there.
        """
        if name not in self._tensors:
            raise WeightsError(f"layer '{self._layer}' needs the weight '{name}', which is not there")
        self._taken.add(name)
        return self._tensors[name]

    def full(self, name: str) -> str:
        """A weight's name in the file."""
        return f"{self.prefix}.{name}" if self.prefix else name


class LayerConfig(Config):
    """What every layer may state."""

    name: str = Field(min_length=1)
    """What the layer is called; unique, and neither `inputs` nor `static`."""

    inputs: tuple[str, ...] = ()
    """The layers that it reads, earlier ones of the list, or `inputs` or `static`; the one before it when left out."""

    weights: str | None = None
    """What stands before the names of its weights in the file; its own name when left out."""

    def build(self, weights: Weights, given: Sequence[Shape]) -> Layer:
        """The layer, with its weights.

        Raises:
            ManifestError: it cannot read what its inputs are; both sides are shown.
            WeightsError: a weight is missing or has another shape.
        """
        raise NotImplementedError

    def only(self, given: Sequence[Shape], *, sequence: bool = False) -> Shape:
        """The one value that it reads, which holds numbers."""
        if len(given) != 1:
            raise ManifestError(f"layer '{self.name}' reads one value, not {len(given)}")
        self.check_numbers(given)
        if sequence and not given[0].is_sequence:
            raise ManifestError(f"layer '{self.name}' reads a sequence, but '{self._read()}' is a vector")
        return given[0]

    def check_numbers(self, given: Sequence[Shape]) -> None:
        """Refuse token ids; raises `ManifestError`."""
        if any(shape.is_ids for shape in given):
            raise ManifestError(
                f"layer '{self.name}' reads numbers, but '{self._read()}' is token ids: an embedding or one_hot layer "
                "comes first"
            )

    def _read(self) -> str:
        return self.inputs[0] if self.inputs else "the layer before it"


ALIGNMENT_BYTES = 64
"""Where PyTorch's own memory begins, and what its kernels are fastest with."""


def parameter(value: Tensor) -> nn.Parameter:
    """A trained weight, which nothing here trains any further, in aligned memory; copied only where it is not yet."""
    value = value.detach().contiguous()
    if value.data_ptr() % ALIGNMENT_BYTES:
        value = value.clone()
    return nn.Parameter(value, requires_grad=False)
