"""The window: a head with one prediction per sequence reads as many time steps as training saw, the last ones.

Whatever is computed of them stands in the time steps of the whole sequence: NaN at those that are not read.
"""

from __future__ import annotations

from collections.abc import Callable, Generator
from dataclasses import replace
from typing import TYPE_CHECKING

import torch
from torch import Tensor

from gatescope import padding
from gatescope.decompose import Explanation, Point
from gatescope.errors import InvalidInput, Place
from gatescope.pipeline.query import Answer, Query
from gatescope.tracing import Trace

if TYPE_CHECKING:
    from gatescope.pipeline.pipeline import Pipeline


def answer(pipeline: Pipeline, query: Query, run: Callable[[Query], Answer]) -> Answer:
    """The answer to a query without a horizon, of which `run` computes what is read.

    Raises:
        InvalidInput: another head of the model predicts at each time step, so that the whole sequence is to be read,
            too; or a time step is to be explained that is not read.
    """
    window, longest = pipeline.pooled_window, int(query.sequence_lengths.max())
    if window is None or longest <= window:
        return run(query)
    if True in pipeline.are_per_step:
        message = (
            f"has {longest:,} time steps; the model was trained on {window:,}, and predicts at each time step as well "
            f"as for the whole sequence: send the last {window:,}"
        )
        raise InvalidInput.at(Place(("inputs",), message))
    inputs, lengths, first = _last_steps(query.inputs, query.sequence_lengths, window)
    read = replace(
        query,
        inputs=inputs,
        sequence_lengths=lengths,
        trace=None if query.trace is None else replace(query.trace, time=slice(None)),
        explain=None if query.explain is None else _within(query.explain, int(first[0])),
    )
    return _restored(run(read), query, first)


def check_whole(pipeline: Pipeline, query: Query, what: str) -> None:
    """Refuse sequences of which the model reads the last steps only; raises `InvalidInput`."""
    window, longest = pipeline.pooled_window, int(query.sequence_lengths.max())
    if window is not None and longest > window:
        message = f"has {longest:,} time steps, of which the model reads the last {window:,}: {what} of these alone"
        raise InvalidInput.at(Place(("inputs",), f"{message}; send no more"))


def predict_on(pipeline: Pipeline, query: Query) -> Generator[Tensor, Tensor]:
    """As `Pipeline.predict_on`, each prediction from the last steps before it; raises `InvalidInput`."""
    window = pipeline.pooled_window
    if window is None or query.longest - 1 <= window:
        return pipeline.predict_on(query)
    _check_horizon(query, window)
    return _sliding(pipeline, query, window)


def predict_further(pipeline: Pipeline, query: Query, inputs: Tensor, lengths: Tensor) -> Tensor:
    """As `Pipeline.predict_further`, each prediction from the last steps up to its own; raises `InvalidInput`."""
    window = pipeline.pooled_window
    if window is None or query.longest <= window:
        return pipeline.predict_further(query, inputs, lengths)
    _check_horizon(query, window)
    ends = [query.sequence_lengths + step + 1 for step in range(query.horizon)]
    return torch.stack([_at_end(pipeline, query, inputs, end, window) for end in ends], dim=1)


def _check_horizon(query: Query, window: int) -> None:
    """Refuse what the runs of a horizon have not in common: each reads other steps, from a beginning of its own."""
    steps = f"the model reads the last {window:,} time steps, other ones for each step of the horizon"
    if query.initial_state is not None:
        raise InvalidInput.at(Place(("initial_state",), f"{steps}: no state leads to all of them; leave it out"))
    if query.looks_inside:
        message = f"{steps}: there is no one trace, output or state of them; ask for the prediction alone"
        raise InvalidInput.at(Place(("horizon",), message))


def _sliding(pipeline: Pipeline, query: Query, window: int) -> Generator[Tensor, Tensor]:
    inputs, lengths = query.inputs, query.sequence_lengths
    while True:
        row = yield _at_end(pipeline, query, inputs, lengths, window)
        inputs, lengths, _ = _last_steps(inputs, lengths, window)
        inputs, lengths = padding.append(inputs, lengths, row[:, None])


def _at_end(pipeline: Pipeline, query: Query, inputs: Tensor, lengths: Tensor, window: int) -> Tensor:
    """The prediction of the last steps of sequences of these lengths, (batch, value)."""
    query.raise_if_cancelled()
    inputs, lengths, _ = _last_steps(inputs, lengths, window)
    return pipeline.predict_end(replace(query, inputs=inputs, sequence_lengths=lengths))


def _last_steps(inputs: Tensor, lengths: Tensor, window: int) -> tuple[Tensor, Tensor, Tensor]:
    """The last steps of each row, how many these are, and the first of them, (batch,) both."""
    first = (lengths - window).clamp(min=0)
    kept = lengths - first
    time = int(kept.max())
    read = _placed(inputs, first + torch.arange(time, device=lengths.device)[:, None], axis=1)
    return (
        read.masked_fill(~padding.is_valid(kept, time).view(*read.shape[:2], *[1] * (read.dim() - 2)), 0),
        kept,
        first,
    )


def _restored(made: Answer, query: Query, first: Tensor) -> Answer:
    """The answer in the time steps of the whole sequences; of a module with time steps of its own as it is."""
    whole = replace(made, inputs=query.inputs)
    if query.explain is not None and made.explained is not None:
        whole = replace(whole, explained=_explained(made.explained, query.explain, int(first[0])))
    if not made.aligned:
        return whole
    longest = query.inputs.shape[1]
    return replace(
        whole,
        sequence_lengths=query.sequence_lengths,
        output=None if made.output is None else _unread_as_nan(made.output, range(longest), query, first, axis=1),
        trace=None if made.trace is None else _traced(made.trace, query, first),
    )


def _traced(trace: Trace, query: Query, first: Tensor) -> Trace:
    """The selected steps of the whole sequences."""
    longest = query.inputs.shape[1]
    selection = trace.selection if query.trace is None else replace(trace.selection, time=query.trace.time)
    steps = range(longest)[selection.time]
    return replace(
        trace,
        selection=selection,
        sequence_lengths=query.sequence_lengths,
        signals={name: _unread_as_nan(each, steps, query, first, axis=3) for name, each in trace.signals.items()},
        output=_unread_as_nan(trace.output, range(longest), query, first, axis=1),
    )


def _unread_as_nan(values: Tensor, steps: range, query: Query, first: Tensor, *, axis: int) -> Tensor:
    """Values of the steps that are read, at these steps of the whole sequences: NaN where nothing is read."""
    wanted = torch.tensor(steps, device=first.device, dtype=torch.int64)[:, None]  # (step, 1)
    is_read = (wanted >= first) & (wanted < query.sequence_lengths)  # (step, batch)
    shape = [1] * values.dim()
    shape[0], shape[axis] = is_read.shape[1], is_read.shape[0]
    return _placed(values, wanted - first, axis=axis).masked_fill(~is_read.T.reshape(shape), torch.nan)


def _placed(values: Tensor, steps: Tensor, *, axis: int) -> Tensor:
    """Each row's own steps (step, batch) along this axis of (batch, …); anything where there is no such step."""
    shape = [1] * values.dim()
    shape[0], shape[axis] = steps.shape[1], steps.shape[0]
    return values.take_along_dim(steps.clamp(0, values.shape[axis] - 1).T.reshape(shape), dim=axis)


def _within(point: Point, first: int) -> Point:
    """The point in the steps that are read; raises `InvalidInput` where it lies before them."""
    if point.time_step < first:
        message = f"time step {point.time_step} is not read: the model reads the last steps, from {first} on"
        raise InvalidInput.at(Place(("time_step",), message))
    return replace(point, time_step=point.time_step - first)


def _explained(explained: Explanation, point: Point, first: int) -> Explanation:
    before = explained.previous_time_step
    return replace(explained, point=point, previous_time_step=None if before is None else before + first)
