"""Variants of the same sequences with edited signals, run as one batch, and what they do to the prediction."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import replace
from itertools import product

import torch
from torch import Tensor

from gatescope import padding
from gatescope.analysis.subject import Subject
from gatescope.interventions import Intervention, means_of, trace_edited
from gatescope.selection import Selection

VARIANT_FLOATS = 12_000_000
"""Numbers that the variants of one run have in one layer, about; fewer at once take longer."""

_PER_STEP = 3  # axes of a prediction (batch, time, value)


def predictions(subject: Subject, edits: Sequence[Intervention]) -> list[Tensor]:
    """The prediction of each variant, NaN in the padding.

    Args:
        subject: has a head.
        edits: of each variant the only one, in all sequences.
    """
    batch, time, _ = subject.inputs.shape
    at_once = max(1, VARIANT_FLOATS // (batch * time * subject.spec.hidden_size))
    of_variants = _with_numbers(subject, edits)
    found: list[Tensor] = []
    for first in subject.parts(range(0, len(edits), at_once)):
        variants = of_variants[first : first + at_once]
        predicted = predicted_of(subject, _edited(subject, variants))
        found += predicted.view(len(variants), batch, *predicted.shape[1:]).unbind()
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


def _with_numbers(subject: Subject, edits: Sequence[Intervention]) -> list[list[Intervention]]:
    """The edits of each variant and sequence; a mean is a number there: it is computed once, not for each variant."""
    means = means_of(edits, subject.spec, subject.trace)
    of_variants = [[edit] for edit in edits]
    for variant, values in means.items():
        edit = replace(edits[variant], mean=False)
        places = product(edit.rows(len(subject.lengths)), edit.columns(subject.spec))
        of_variants[variant] = [
            replace(edit, sequences=(row,), units=(unit,), set=value)
            for (row, unit), value in zip(places, values.flatten().tolist(), strict=True)
        ]
    return of_variants


def _edited(subject: Subject, variants: Sequence[Sequence[Intervention]]) -> Tensor:
    """The output of these variants of the batch, one after another."""
    batch, inputs = len(subject.lengths), subject.inputs
    # what all variants of one sequence read is in memory once, and its part of the gates is computed once
    inputs = inputs.expand(len(variants), -1, -1) if batch == 1 else inputs.repeat(len(variants), 1, 1)
    return trace_edited(
        subject.module,
        inputs if subject.module.batch_first else inputs.transpose(0, 1),
        list(_rows_of_variants(variants, batch)),
        subject.sequence_lengths.repeat(len(variants)),
        [state.repeat(1, len(variants), 1) for state in subject.initial_state],
        Selection(signals=()),
        subject.raise_if_cancelled,
    ).output


def _rows_of_variants(variants: Sequence[Sequence[Intervention]], batch: int) -> Iterator[Intervention]:
    """The same edits, each in the sequences of its variant."""
    for place, edits in enumerate(variants):
        for edit in edits:
            yield replace(edit, sequences=tuple(place * batch + row for row in edit.rows(batch)))
