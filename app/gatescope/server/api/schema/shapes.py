"""The shapes that arrays in requests must have, and `ShapeError`: where and how one differs."""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import dataclass, field, replace

import numpy as np
from pydantic import ValidationError
from pydantic_core import InitErrorDetails, PydanticCustomError

from gatescope.errors import Place
from gatescope.server.api.limits import Limits

Loc = tuple[str | int, ...]
MAX_PLACES = 10

ONE_AND_MANY = {
    "batch": ("sequence", "sequences"),
    "time": ("time step", "time steps"),
    "step": ("future step", "future steps"),
    "feature": ("feature", "features"),
    "static_feature": ("static feature", "static features"),
    "layer_direction": ("entry", "entries (layers · directions)"),
    "hidden_unit": ("unit", "hidden units"),
    "cell_unit": ("unit", "cell units"),
}
"""What the entries of an axis are called, one and several of them."""


@dataclass(frozen=True)
class Expected:
    """How long the named axes of this model are; goes along with the validation as its context."""

    model: str
    kind: str = "features"
    """What `inputs` holds: `features` or `tokens`."""
    sizes: Mapping[str, int] = field(default_factory=dict)
    most: Mapping[str, int] = field(default_factory=dict)
    """How long the axes that the client chooses may be."""
    stated_features: int | None = None
    """How many features there are without those that follow from the times of the steps; None where none do."""
    takes_gaps: bool = False
    """Whether numbers of `inputs` may be missing: null, or NaN."""
    doubles: Mapping[str, float] = field(default_factory=dict)
    """Which numbers are read as float64, because the model scales them, and how large each may be."""
    cell: str = ""
    """The kind of the lone recurrent module, such as `gru`."""
    states: tuple[str, ...] = ()
    """The states that it has, and that a request gives; of several modules see `modules`."""
    modules: Mapping[str, Expected] = field(default_factory=dict)
    """The same of each recurrent module, where the model has several: its cell, its states and their sizes."""

    def of_features(self, count: int | None) -> Expected:
        """The same for numbers with so many features in a step, where these may be fewer."""
        if self.stated_features is None or count != self.stated_features:
            return self
        return replace(self, sizes={**self.sizes, "feature": count})

    def within(self, limits: Limits) -> Expected:
        """The same, with the operator's bounds on what the client chooses."""
        steps = limits.max_time_steps
        return replace(self, most={"batch": limits.max_batch_steps, "time": steps, "step": steps})


class ShapeError(Exception):
    """What is wrong with nested lists, and where."""

    def __init__(self, *places: Place) -> None:
        super().__init__(*places)
        self.places = places


@contextmanager
def as_validation_error() -> Iterator[None]:
    """Raise a `ShapeError` as pydantic's own, which adds the field's place in front."""
    try:
        yield
    except ShapeError as error:
        lines = [
            InitErrorDetails(type=PydanticCustomError("shape", "{message}", {"message": message}), loc=loc, input=None)
            for loc, message in error.places
        ]
        raise ValidationError.from_exception_data("array", lines) from None


def check_array(array: np.ndarray, axes: Sequence[str], expected: Expected, owner: str) -> None:
    """Refuse an array whose axes are not these.

    Args:
        array: what was sent.
        axes: their names, outermost first.
        expected: the lengths of this model's axes, and the most of the others.
        owner: what the array is, for messages.

    Raises:
        ShapeError: it has another number of axes, or one of another length.
    """
    shape = f"({', '.join(map(str, array.shape))})"
    if array.ndim != len(axes):
        raise ShapeError(Place((), f"{owner} has shape {shape}, but its axes are ({', '.join(axes)})"))
    for axis, length in zip(axes, array.shape, strict=True):
        wanted, most = expected.sizes.get(axis), expected.most.get(axis)
        has = f"{owner} of shape {shape} has {counted(length, axis)}"
        if not length:
            raise ShapeError(Place((), has))
        if most is not None and length > most:
            raise ShapeError(Place((), f"{has}; this server takes at most {most:,}"))
        if wanted not in (None, length):
            raise ShapeError(Place((), f"{has}; model '{expected.model}' takes {wanted}"))
    if len(axes) > 1:
        check_total(array.shape[0] * array.shape[1], axes[:2], expected, owner)


def check_total(total: int, axes: Sequence[str], expected: Expected, owner: str) -> None:
    """Refuse a batch of too many steps; it counts those that are there, not the padding."""
    most = expected.most.get("batch")
    if most is not None and all(axis in expected.most for axis in axes) and total > most:
        raise ShapeError(Place((), f"{owner} has {total:,} steps in all; this server takes at most {most:,}"))


def counted(length: int, axis: str) -> str:
    """So many of what this axis counts, for a message."""
    one, many = ONE_AND_MANY[axis]
    return f"{length:,} {one if length == 1 else many}"
