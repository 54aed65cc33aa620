"""Notes: what was assumed for a request, told again in its reply."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Iterator, Sequence
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
from gatescope.server.api.derived import moments_of
from gatescope.server.api.schema.requests import PredictRequest
from gatescope.server.api.schema.shapes import Loc
from gatescope.server.api.sent_columns import sent_columns
from gatescope.server.api.sequences import sequences_as_sent
from gatescope.server.serving.stored import Note

MAX_NOTES = 20
"""So many tokens are told one by one; one further note counts the others."""

_LONGEST_TOKEN = 50

UNVERIFIED: Note = {
    "code": "unverified",
    "message": "the predictions were never compared with numbers of the training code: import the model with --sample",
}


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
        return (*(_gaps(request, model, inputs) if inputs.takes_gaps else ()), *_offset(request, model, inputs))
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


def beside_answer(notes: Sequence[Note], model: Model, span: Span | None, *, predicts: bool) -> Sequence[Note]:
    """The notes of a reply.

    Args:
        notes: what was assumed when the request was read.
        model: answers.
        span: which time steps the request reads; None where a window and a warm-up are told elsewhere.
        predicts: whether a prediction stands in the reply.
    """
    more: list[Note] = []
    if span is not None and model.manifest.window is not None and (predicts or model.pipeline.pooled_window):
        more += _window(model, span, model.manifest.window)
    if predicts:
        more += _warmup(model, span) if model.manifest.warmup_steps and span is not None else ()
        more += [UNVERIFIED] if model.verified is None else ()
    return [*notes, *more] if more else notes


def as_text(notes: Iterable[Note]) -> str:
    """The notes as JSON, for where a parameter must be a text."""
    return orjson.dumps(list(notes)).decode()


def _window(model: Model, span: Span, window: int) -> Iterator[Note]:
    """Which sequences are longer than those of the training, and what became of that."""
    read = (span.steps_before or 0) + span.horizon
    longer = _sequences([length + read for length in span.lengths.tolist()], lambda steps: steps > window)
    if not longer:
        return
    if model.pipeline.pooled_window is not None:
        message = f"each prediction reads the last {window:,} time steps before it, as many as training saw, {longer}"
    else:
        message = f"training saw sequences of {window:,} time steps, and predictions {longer} read more"
    yield {"code": "window", "message": message}


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
        short = _sequences(lengths, lambda steps: steps <= left)
        kinds = sorted(model.pipeline.are_per_step, reverse=True)
        places = [_steps(0, min(left, max(lengths))) if per_step else short for per_step in kinds]
    for place in filter(None, places):
        yield {"code": "warmup", "message": f"predictions {place} are not to be believed: {reason}"}


def _gaps(request: PredictRequest, model: Model, inputs: FeatureInputs) -> Iterator[Note]:
    """How many values of each feature were missing, and what they were taken for."""
    sent = sent_columns(request, model)
    known = np.concatenate(sequences_as_sent(request, sent))
    missing = np.isnan(known).sum(axis=0)
    if request.future_inputs is not None:
        rows = request.future_inputs.reshape(-1, len(sent.features))
        further = np.isnan(sent.arranged(rows)).sum(axis=0)
        head = model.manifest.head
        further[list(head.fed_back(inputs.names) if head else ())] = 0
        missing = missing + further
    for feature, count in zip(inputs.features, missing.tolist(), strict=True):
        if count and feature.missing not in {"nan", "refuse"}:
            was = "value was missing and is" if count == 1 else "values were missing and are"
            yield {"code": "filled", "message": f"{count:,} {was} filled in '{feature.name}': {_said(feature)}"}


def _offset(request: PredictRequest, model: Model, inputs: FeatureInputs) -> Iterator[Note]:
    """That the clock keeps its offset over a horizon, where the calendar of its steps follows from times before it."""
    if request.horizon is None or not (inputs.derived and (sent := sent_columns(request, model)).derived):
        return
    lengths = list(map(len, sequences_as_sent(request, sent)))
    moments = moments_of(request, lengths, inputs)
    offsets = {str(row[-1].tzinfo) for row in moments if row[-1].utcoffset()}
    if offsets and len(moments[0]) == lengths[0]:
        told = ", ".join(sorted(offsets))
        message = f"the steps of the horizon are taken to be at the offset {told} of the last step, by which their "
        yield {"code": "calendar", "message": f"{message}{', '.join(map(repr, inputs.derived))} are counted"}


def _said(feature: Feature) -> str:
    if isinstance(feature.gap, str):
        return gaps.SAID[feature.gap]
    return f"each is {feature.gap:g}" + ", its mean" * (feature.missing == "mean")


def _steps(first: int, stop: int) -> str:
    """These time steps in words; nothing where there are none."""
    if first >= stop:
        return ""
    return f"at time step {first:,}" if first == stop - 1 else f"at time steps {first:,} to {stop - 1:,}"


def _sequences(lengths: Sequence[int], are_meant: Callable[[int], bool]) -> str:
    """The sequences of which the time steps are so many, in words; nothing where there are none."""
    found = [f"{row} ({length:,} time steps)" for row, length in enumerate(lengths) if are_meant(length)]
    if not found:
        return ""
    more = f" and {len(found) - MAX_NOTES:,} more" if len(found) > MAX_NOTES else ""
    return f"of sequence{'s' * (len(found) > 1)} {', '.join(found[:MAX_NOTES])}{more}"


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
