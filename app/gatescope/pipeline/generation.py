"""Text that writes itself: each token is drawn from the prediction behind those before it, and read."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import replace
from typing import TYPE_CHECKING, NamedTuple

import torch
from torch import Tensor

from gatescope.pipeline.layout import map_state
from gatescope.pipeline.query import Prediction, Query
from gatescope.pipeline.sampling import Drawn, Ends, Generated, Sampler, finish_reason

if TYPE_CHECKING:
    from gatescope.pipeline.pipeline import Pipeline


class Writing(NamedTuple):
    """What `write` gives."""

    rows: Sequence[Tensor]
    """(step,) the tokens of each sequence's first sample."""
    prediction: Prediction | None
    """Of the first sample: the scores that its tokens were drawn from; None where none is asked for."""
    generated: Generated


def write(pipeline: Pipeline, query: Query) -> Writing:
    """Write up to `query.horizon` tokens behind each sequence, as `query.sampling` or else the manifest says.

    Every sample is a row of one batch. A row that has ended runs along until the last one ends.
    """
    head = pipeline.head
    if head is None:
        raise TypeError("a model without a head predicts nothing")
    sampling = query.sampling or head.config.sampling
    repeated = _repeated(query, sampling.samples)
    predicted, sampler = pipeline.predict_on(repeated), Sampler(sampling)
    ends = Ends(sampling.stop, repeated.sequences, query.inputs.device)
    scores, tokens, values = next(predicted), list[Tensor](), list[Tensor]()  # (batch · sample, …) each
    while True:
        query.raise_if_cancelled()
        if query.prediction:
            values.append(_first_samples(scores, sampling.samples))
        tokens.append(sampler.draw(head.scores(scores)))
        were_stopped = ends.is_stopped.clone()
        ends.add(tokens)
        is_last = len(tokens) == query.horizon
        if query.on_drawn is not None:
            query.on_drawn(_drawn(tokens, ends, were_stopped, sampling.samples, is_last=is_last))
        if is_last or ends.are_all_stopped:
            break
        scores = predicted.send(tokens[-1])
    parts = (torch.stack(tokens, dim=1), ends.lengths, ends.is_stopped)
    shape = (query.sequences, sampling.samples)
    generated = Generated(sampling, *(part.reshape(*shape, *part.shape[1:]) for part in parts))
    return _written(generated, values)


def _written(generated: Generated, values: list[Tensor]) -> Writing:
    tokens, lengths = generated.tokens[:, 0], generated.lengths[:, 0]  # (batch, step), (batch,)
    counts = lengths.tolist()
    tokens = tokens[:, : max(counts)]
    rows = [row[:count] for row, count in zip(tokens, counts, strict=True)]
    if not values:
        return Writing(rows, None, generated)
    scores = torch.stack(values[: max(counts)], dim=1)  # (batch, step, value)
    for row, count in enumerate(counts):
        scores[row, count:] = torch.nan
    return Writing(rows, Prediction(scores, lengths, tokens), generated)


def _repeated(query: Query, samples: int) -> Query:
    """The query with a row for each sample of each sequence; those of one sequence stand together."""
    if samples == 1:
        return query

    def rows(value: Tensor | None) -> Tensor | None:
        return None if value is None else value.repeat_interleave(samples, dim=0)

    state = query.initial_state
    return replace(
        query,
        inputs=query.inputs.repeat_interleave(samples, dim=0),
        sequence_lengths=query.sequence_lengths.repeat_interleave(samples),
        initial_state=None if state is None else map_state(lambda each: each.repeat_interleave(samples, dim=1), state),
        static_inputs=rows(query.static_inputs),
        interventions=tuple(each.of_repeated(samples) for each in query.interventions),
    )


def _first_samples(scores: Tensor, samples: int) -> Tensor:
    """(batch · sample, value) -> (batch, value), in memory of its own."""
    return scores[::samples].contiguous()


def _drawn(tokens: list[Tensor], ends: Ends, were_stopped: Tensor, samples: int, *, is_last: bool) -> list[Drawn]:
    """The last tokens of the texts that had not ended before them."""
    told = []
    parts = (tokens[-1].tolist(), were_stopped.tolist(), ends.is_stopped.tolist())
    for row, (token, had_ended, is_stopped) in enumerate(zip(*parts, strict=True)):
        if not had_ended:
            reason = finish_reason(is_stopped=is_stopped) if is_stopped or is_last else None
            told.append(Drawn(*divmod(row, samples), len(tokens) - 1, token, reason))
    return told
