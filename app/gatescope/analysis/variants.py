"""Variants of the same sequences with edited signals, run as one batch, and what they do to the prediction."""

from __future__ import annotations

from collections.abc import Callable, Sequence

import torch
from torch import Tensor

from gatescope import padding
from gatescope.analysis.subject import Subject
from gatescope.interventions import Intervention, trace_edited
from gatescope.selection import Selection

VARIANT_FLOATS = 8_000_000
"""Numbers that the variants of one run have in one layer, about."""

_PER_STEP = 3  # axes of a prediction (batch, time, value)


def predictions(subject: Subject, variants: int, edit: Callable[[int, tuple[int, ...]], Intervention]) -> list[Tensor]:
    """The prediction of each variant, NaN in the padding.

    Args:
        subject: has a head.
        variants: how many.
        edit: the edit of the variant of this number, in these sequences of the batch of variants.
    """
    batch, time, _ = subject.inputs.shape
    at_once = max(1, VARIANT_FLOATS // (batch * time * subject.spec.hidden_size))
    found: list[Tensor] = []
    for first in range(0, variants, at_once):
        subject.raise_if_cancelled()
        numbers = range(first, min(first + at_once, variants))
        edits = [edit(number, tuple(range(place * batch, (place + 1) * batch))) for place, number in enumerate(numbers)]
        predicted = predicted_of(subject, _edited(subject, edits, len(numbers)))
        found += predicted.view(len(numbers), batch, *predicted.shape[1:]).unbind()
    return found


def predicted_of(subject: Subject, output: Tensor) -> Tensor:
    """(batch · n, time, value), or (batch · n, value): NaN in the padding."""
    if subject.head is None:
        raise TypeError("the head is not known")
    with torch.no_grad():
        values = subject.head(output).double().cpu()
    if values.dim() < _PER_STEP or min(subject.lengths) == values.shape[1]:
        return values
    valid = padding.is_valid(subject.sequence_lengths.cpu(), values.shape[1])
    return values.masked_fill(~valid.repeat(len(values) // len(valid), 1)[..., None], torch.nan)


def deviation_of(predicted: Tensor) -> Tensor:
    """(value,) by how much each value of a prediction varies over all steps of all sequences."""
    return predicted[~torch.isnan(predicted).any(-1)].std(dim=0, correction=0).clamp_min(1e-12)


def effect(difference: Tensor, deviation: Tensor) -> float:
    """The root mean square of a change of the prediction, in units of its deviation."""
    return float((difference / deviation).square().nanmean().sqrt())


def _edited(subject: Subject, edits: Sequence[Intervention], variants: int) -> Tensor:
    """The output of so many variants of the batch, one after another."""
    inputs = subject.inputs.repeat(variants, 1, 1)
    return trace_edited(
        subject.module,
        inputs if subject.module.batch_first else inputs.transpose(0, 1),
        edits,
        subject.sequence_lengths.repeat(variants),
        [state.repeat(1, variants, 1) for state in subject.initial_state],
        Selection(signals=()),
        subject.raise_if_cancelled,
    ).output
