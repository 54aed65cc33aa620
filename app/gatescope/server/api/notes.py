"""Notes: what was assumed for a request, told again in its reply."""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Sequence
from itertools import islice
from typing import NamedTuple

import numpy as np
import orjson
from torch import Tensor

from gatescope import gaps
from gatescope.pipeline.features import Feature, FeatureInputs
from gatescope.pipeline.model import Model
from gatescope.pipeline.query import Query
from gatescope.pipeline.vocabulary import Vocabulary
from gatescope.server.api.schema.requests import PredictRequest
from gatescope.server.api.schema.shapes import Loc
from gatescope.server.api.sequences import column_order, sequences_as_sent
from gatescope.server.serving.stored import Note

MAX_NOTES = 20
"""So many tokens are told one by one; one further note counts the others."""

_LONGEST_TOKEN = 50

UNVERIFIED: Note = {
    "code": "unverified",
    "message": "the predictions were never compared with numbers of the training code: import the model with --sample",
}

_ANY = -1


class Span(NamedTuple):
    """Which time steps a request reads, counted from where its sequences begin."""

    lengths: Tensor
    """(batch,) time steps of each sequence, without those of a horizon."""
    horizon: int = 0
    steps_before: int | None = 0
    """How many a session has read before; None where the state was given, and what led to it is not known."""

    @classmethod
    def of(cls, query: Query) -> Span:
        """Of a request that is no step of a session."""
        return cls(query.sequence_lengths, query.horizon, None if query.initial_state is not None else 0)


def notes_of(request: PredictRequest, model: Model, tokens: Sequence[Sequence[str]] | None) -> tuple[Note, ...]:
    """What was assumed when a request was read; `tokens` is what a model of tokens read."""
    inputs = model.manifest.input
    if isinstance(inputs, FeatureInputs):
        return tuple(_gaps(request, model, inputs)) if inputs.takes_gaps else ()
    vocabulary = model.vocabulary
    if request.text is None or tokens is None or vocabulary is None:
        return ()
    is_lone = isinstance(request.text, str)
    unknown = ((row, index) for row, each in enumerate(tokens) for index in vocabulary.unknown(each))
    told = tuple(islice(_unknown_tokens(unknown, tokens, vocabulary, is_lone=is_lone), MAX_NOTES))
    more = sum(1 for _ in unknown)
    if more:
        message = f"{more:,} more tokens are not in the model's vocabulary either, and were read as others"
        return (*told, {"code": "unknown_token", "message": message})
    return told


def unknown_tokens(tokens: Sequence[Sequence[str]], notes: Sequence[Note], model: Model) -> dict[str, list[list[int]]]:
    """Which of the tokens that were read the vocabulary lacks, by their indices; nothing where no note tells of any."""
    if model.vocabulary is None or not any(note["code"] == "unknown_token" for note in notes):
        return {}
    return {"unknown_tokens": [model.vocabulary.unknown(each) for each in tokens]}


def beside_prediction(notes: Sequence[Note], model: Model, span: Span | None) -> Sequence[Note]:
    """The notes of a reply with a prediction of this model.

    Args:
        notes: what was assumed when the request was read.
        model: answers.
        span: which time steps the request reads; None where a warm-up is told elsewhere.
    """
    more = list(_warmup(model, span)) if model.manifest.warmup_steps and span is not None else []
    if model.verified is None:
        more.append(UNVERIFIED)
    return [*notes, *more] if more else notes


def as_text(notes: Iterable[Note]) -> str:
    """The notes as JSON, for where a parameter must be a text."""
    return orjson.dumps(list(notes)).decode()


def _warmup(model: Model, span: Span) -> Iterator[Note]:
    """Which predictions follow from no more time steps than the model needs to warm up."""
    needed, before = model.manifest.warmup_steps, span.steps_before
    if before is None or before >= needed:
        return
    lengths: list[int] = span.lengths.tolist()
    left = needed - before  # of the time steps of this request
    reason = f"the model needs {needed:,} time steps to warm up"
    if before:
        reason += f", and the session has read {before:,} before these"
    if span.horizon:
        places = [_steps(min(lengths), min(left, max(lengths) + span.horizon))]
    else:
        kinds = sorted(_are_per_step(model), reverse=True)
        places = [_steps(0, min(left, max(lengths))) if per_step else _sequences(lengths, left) for per_step in kinds]
    for place in filter(None, places):
        yield {"code": "warmup", "message": f"predictions {place} are not to be believed: {reason}"}


def _gaps(request: PredictRequest, model: Model, inputs: FeatureInputs) -> Iterator[Note]:
    """How many values of each feature were missing, and what they were taken for."""
    order = column_order(request, model)
    known = np.concatenate(sequences_as_sent(request, order))
    missing = np.isnan(known).sum(axis=0)
    if request.future_inputs is not None:
        rows = request.future_inputs.reshape(-1, len(inputs.features))
        further = np.isnan(rows if order is None else rows[:, order]).sum(axis=0)
        head = model.manifest.head
        further[list(head.fed_back(inputs.names) if head else ())] = 0
        missing = missing + further
    for feature, count in zip(inputs.features, missing.tolist(), strict=True):
        if count and feature.missing != "nan":
            was = "value was missing and is" if count == 1 else "values were missing and are"
            yield {"code": "filled", "message": f"{count:,} {was} filled in '{feature.name}': {_said(feature)}"}


def _said(feature: Feature) -> str:
    if isinstance(feature.gap, str):
        return gaps.SAID[feature.gap]
    return f"each is {feature.gap:g}" + ", its mean" * (feature.missing == "mean")


def _are_per_step(model: Model) -> set[bool]:
    """Whether the heads predict at each time step, or for a sequence as a whole."""
    shapes = (model.pipeline.prediction_shape(_ANY, head) for head in model.pipeline.heads)
    return {shape[0] == _ANY for shape in shapes if shape is not None}


def _steps(first: int, stop: int) -> str:
    """These time steps in words; nothing where there are none."""
    if first >= stop:
        return ""
    return f"at time step {first:,}" if first == stop - 1 else f"at time steps {first:,} to {stop - 1:,}"


def _sequences(lengths: Sequence[int], most: int) -> str:
    """The sequences that have no more than so many time steps, in words; nothing where there are none."""
    short = [f"{row} ({length:,} time steps)" for row, length in enumerate(lengths) if length <= most]
    if not short:
        return ""
    more = f" and {len(short) - MAX_NOTES:,} more" if len(short) > MAX_NOTES else ""
    return f"of sequence{'s' * (len(short) > 1)} {', '.join(short[:MAX_NOTES])}{more}"


def _unknown_tokens(
    unknown: Iterator[tuple[int, int]], tokens: Sequence[Sequence[str]], vocabulary: Vocabulary, *, is_lone: bool
) -> Iterator[Note]:
    for row, index in unknown:
        token = tokens[row][index]
        (read,) = vocabulary.encode([token])
        loc: Loc = ("body", "text", index) if is_lone else ("body", "text", row, index)
        message = (
            f"{token[:_LONGEST_TOKEN]!r} is not in the model's vocabulary; it was read as {vocabulary.entries[read]!r}"
        )
        yield {"code": "unknown_token", "message": message, "loc": loc}
