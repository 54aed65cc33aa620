"""Predictions at one time step, and their gradients with respect to the module's output."""

from __future__ import annotations

from collections.abc import Sequence
from difflib import get_close_matches

import torch
from torch import Tensor

from gatescope.analysis.subject import Head, Subject
from gatescope.errors import InvalidInput, Place

MOST_TARGETS = 64
"""So many values are looked at where none are named: each takes a backward pass."""

_PER_STEP = 3  # axes of predictions (batch, time, value)


def values_named(subject: Subject, targets: Sequence[str] | None) -> tuple[list[str], list[int]]:
    """The values of the prediction that are looked at: their names, and their places.

    Raises:
        InvalidInput: there is no such value, or none are named and there are too many.
    """
    names = list(_head(subject).names)
    if targets is None:
        if len(names) > MOST_TARGETS:
            message = f"there are {len(names)} values; name up to {MOST_TARGETS} of them: {', '.join(names[:8])}, …"
            raise InvalidInput.at(Place(("targets",), message))
        return names, list(range(len(names)))
    for index, name in enumerate(targets):
        if name not in names:
            near = get_close_matches(name[:64], names, n=1)
            hint = f"did you mean {near[0]!r}?" if near else f"there are {', '.join(names[:16])}"
            raise InvalidInput.at(Place(("targets", index), f"no value is called {name[:64]!r}; {hint}"))
    return list(targets), [names.index(name) for name in targets]


def predicted_at(subject: Subject, output: Tensor, step: int) -> Tensor:
    """The prediction at one step of the only sequence, or the one of the whole sequence.

    Args:
        subject: one sequence.
        output: (n, time, directions · unit) of the module.
        step: counted from the start.

    Returns:
        (n, value).

    Raises:
        InvalidInput: there is one prediction for the whole sequence, and the step is not its last.
    """
    values = _head(subject)(output)
    if values.dim() == _PER_STEP:
        return values[:, step]
    if step != subject.lengths[0] - 1:
        message = "this model predicts once for the whole sequence: leave the time step out"
        raise InvalidInput.at(Place(("time_step",), message))
    return values


def jacobian(subject: Subject, output: Tensor, step: int, wanted: Sequence[int]) -> Tensor:
    """The gradient of each wanted value with respect to the module's output.

    Args:
        subject: one sequence.
        output: (1, time, directions · unit) where the gradient is taken.
        step: of the prediction.
        wanted: places of values.

    Returns:
        (value, time, directions · unit).
    """
    with torch.enable_grad():
        leaf = output.detach().requires_grad_()
        return torch.stack(
            [gradient.sum(0) for gradient in each_gradient(predicted_at(subject, leaf, step), wanted, leaf)]
        )


def each_gradient(predicted: Tensor, wanted: Sequence[int], leaf: Tensor) -> list[Tensor]:
    """Of each wanted value (n, value), summed over n, the gradient with respect to a leaf; zeros if there is none."""
    if not predicted.requires_grad:
        return [torch.zeros_like(leaf) for _ in wanted]
    found = []
    for index in wanted:
        (gradient,) = torch.autograd.grad(predicted[:, index].sum(), leaf, retain_graph=True, allow_unused=True)
        found.append(torch.zeros_like(leaf) if gradient is None else gradient)
    return found


def _head(subject: Subject) -> Head:
    if subject.head is None:
        raise TypeError("the head is not known")
    return subject.head
