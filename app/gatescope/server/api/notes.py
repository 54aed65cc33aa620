"""Notes: what was assumed for a request, told again in its reply."""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Sequence
from itertools import islice

import orjson

from gatescope.pipeline.model import Model
from gatescope.pipeline.vocabulary import Vocabulary
from gatescope.server.api.schema.requests import PredictRequest
from gatescope.server.api.schema.shapes import Loc
from gatescope.server.serving.stored import Note

MAX_NOTES = 20
"""So many tokens are told one by one; one further note counts the others."""

_LONGEST_TOKEN = 50

UNVERIFIED: Note = {
    "code": "unverified",
    "message": "the predictions were never compared with numbers of the training code: import the model with --sample",
}
_UNVERIFIED_ALONE = [UNVERIFIED]  # most replies of such a model have no other note


def notes_of(request: PredictRequest, model: Model, tokens: Sequence[Sequence[str]] | None) -> tuple[Note, ...]:
    """What was assumed when a request was read; `tokens` is what a model of tokens read."""
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


def with_unverified(notes: Sequence[Note], model: Model) -> Sequence[Note]:
    """The notes beside a prediction of this model."""
    if model.verified is not None:
        return notes
    return [*notes, UNVERIFIED] if notes else _UNVERIFIED_ALONE


def as_text(notes: Iterable[Note]) -> str:
    """The notes as JSON, for where a parameter must be a text."""
    return orjson.dumps(list(notes)).decode()


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
