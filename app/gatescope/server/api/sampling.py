"""What a request states of how next tokens are drawn, beside what the manifest says."""

from __future__ import annotations

from typing import NoReturn

from gatescope.pipeline.model import Model
from gatescope.pipeline.sampling import Sampling
from gatescope.pipeline.vocabulary import UnknownToken, Vocabulary
from gatescope.server.api.places import refuse
from gatescope.server.api.schema.requests import PredictRequest
from gatescope.server.api.sequences import LONGEST_TOKEN


def sampling_of(request: PredictRequest, model: Model) -> Sampling | None:
    """How the tokens of the horizon are drawn; None where none are. Raises `InvalidInput`."""
    head, given, vocabulary = model.manifest.head, request.sampling, model.vocabulary
    if head is None or head.task != "next_token" or vocabulary is None:
        if given is not None:
            what = "it has no head" if head is None else f"its task is {head.task}"
            refuse(f"model '{model.name}' draws no tokens, {what}: leave it out", "sampling")
        return None
    if request.horizon is None:
        if given is not None:
            refuse("goes with 'horizon', which says how many tokens are to be written", "sampling")
        return None
    own, stops = head.sampling, list[str | int](given.stop or ()) if given else []
    if given is None:
        return own
    if given.samples > 1 and not model.pipeline.rows_are_independent:
        message = (
            f"model '{model.name}' may answer a sequence differently beside others: it writes one sample at a time"
        )
        refuse(message, "sampling", "samples")
    return Sampling(
        temperature=own.temperature if given.temperature is None else given.temperature,
        top_k=given.top_k,
        top_p=given.top_p,
        seed=own.seed if given.seed is None else given.seed,
        samples=given.samples,
        stop=tuple(_stop_ids(index, each, vocabulary) for index, each in enumerate(stops)),
    )


def require_tokens(sampling: Sampling | None, model: Model, *loc: str) -> None:
    """Refuse a stream of tokens where none are written; raises `InvalidInput`."""
    if sampling is None:
        what = "give a 'horizon'" if model.pipeline.task == "next_token" else f"model '{model.name}' writes none"
        refuse(f"a stream is of the tokens that a next_token model writes: {what}", *loc)


def _stop_ids(index: int, stop: str | int, vocabulary: Vocabulary) -> tuple[int, ...]:
    """The tokens that end a text."""
    if isinstance(stop, int):
        if vocabulary.reads_text:
            _refuse(index, f"must be a text, not {stop}: the model writes text")
        if not 0 <= stop < len(vocabulary):
            _refuse(index, f"token id {stop} lies outside 0 to {len(vocabulary) - 1}")
        return (stop,)
    if not vocabulary.reads_text:
        _refuse(
            index, f"must be a token id, not {stop[:LONGEST_TOKEN]!r}: the model knows its tokens by their ids alone"
        )
    try:
        ids = tuple(vocabulary.ids_of(stop))
    except UnknownToken as error:
        token = error.token[:LONGEST_TOKEN]
        _refuse(index, f"{token!r} is not in the model's vocabulary, so it can never be written: leave this stop out")
    if not ids:
        _refuse(index, "has no tokens: leave it out")
    return ids


def _refuse(index: int, message: str) -> NoReturn:
    refuse(message, "sampling", "stop", index)
