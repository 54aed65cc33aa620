"""Queries of many time steps, computed a portion at a time: between two of them the other queries have their turn."""

from __future__ import annotations

import asyncio
from collections.abc import Awaitable, Callable
from dataclasses import replace
from functools import lru_cache
from math import prod

import torch
from torch import Tensor

from gatescope.decompose import Point
from gatescope.pipeline.model import Model
from gatescope.pipeline.query import Answer, Query
from gatescope.selection import Selection
from gatescope.server.serving.assemble import Joined
from gatescope.server.serving.whole import Whole
from gatescope.spec import Spec
from gatescope.state import State

PORTION = 800_000_000
"""Multiplications of a portion: some 50 to 100 ms of one core."""

LEAST_STEPS = 32
"""So many time steps a portion has at least."""

MOST = 8
"""A query of no more portions is computed in one go, which is sooner."""

_STEP = 50_000  # what a time step takes beside its multiplications, in multiplications

Compute = Callable[[Query], Awaitable[Answer]]


def steps_of(model: Model, query: Query) -> int | None:
    """How many time steps a portion of this query has; None of one that is computed in one go.

    That is what is short, what reads or is wanted from the end, what sums up all steps, and what writes on.
    """
    if query.steps <= MOST * LEAST_STEPS or not (goes_forward(model) and _can_be_parted(model, query)):
        return None
    rows, longest = query.inputs.shape[:2]
    at_once = max(LEAST_STEPS, PORTION // (_STEP + rows * _multiplications(model.spec)))
    read = longest if query.explain is None else query.explain.time_step
    return at_once if read > MOST * at_once else None


async def answer(query: Query, at_once: int, compute: Compute) -> Answer:
    """The answer to a query, so many time steps at a time; raises what `compute` raises.

    Args:
        query: as `steps_of` knows it.
        at_once: what that says.
        compute: answers a portion.
    """
    if query.explain is not None:
        return await _explained(query, query.explain, at_once, compute)
    whole, longest = Whole(query, None), query.inputs.shape[1]
    traced = None if query.trace is None else Joined(query, query.trace)
    for start in range(0, longest, at_once):
        stop = min(start + at_once, longest)
        rows = running(query, start)
        part = await compute(portion(query, rows, start, stop, whole.state_of(rows)).but(final_state=True))
        whole.take(part, rows, slice(start, stop))
        if traced is not None and part.trace is not None:
            await asyncio.to_thread(traced.take, part.trace, rows, start, stop)
    final_state = whole.answer.final_state if query.final_state else None
    return replace(whole.answer, final_state=final_state, trace=None if traced is None else traced.trace(whole))


async def _explained(query: Query, point: Point, at_once: int, compute: Compute) -> Answer:
    """A walk through one time step, which is reached a portion at a time."""
    steps, here = int(query.sequence_lengths[0]), point.time_step
    before = replace(
        query,
        inputs=query.inputs[:, :here],
        sequence_lengths=torch.tensor([here]),
        explain=None,
        prediction=False,
        output=False,
        final_state=True,
        is_last=False,
    )
    reached = await answer(before, at_once, compute)
    walked = await compute(
        replace(
            query,
            inputs=query.inputs[:, here : here + 1],
            sequence_lengths=torch.tensor([1]),
            initial_state=reached.final_state,
            explain=replace(point, time_step=0),
            is_first=False,
        )
    )
    if walked.explained is None:
        raise TypeError("the answer explains nothing")
    explained = replace(walked.explained, point=point, previous_time_step=point.previous_time_step(steps))
    return replace(walked, sequence_lengths=query.sequence_lengths, inputs=query.inputs, explained=explained)


def goes_forward(model: Model) -> bool:
    """Whether it can be run in parts from the first time step to the last; a reverse direction begins at the end."""
    return model.pipeline.runs_in_parts and not model.spec.bidirectional


def running(query: Query, start: int) -> Tensor:
    """The sequences that have not ended at this time step."""
    return (query.sequence_lengths > start).nonzero()[:, 0]


def portion(query: Query, rows: Tensor, start: int, stop: int, state: State | None) -> Query:
    """What is to be computed of these sequences at these time steps.

    Args:
        query: the whole.
        rows: that have not ended at the first of the steps.
        start: the first time step.
        stop: the one behind the last.
        state: the rows' own at the beginning.
    """
    longest = query.inputs.shape[1]
    return replace(
        query,
        inputs=query.inputs[rows, start:stop],
        sequence_lengths=(query.sequence_lengths[rows] - start).clamp(max=stop - start),
        initial_state=state,
        trace=None if query.trace is None else _within(query.trace, longest, start, stop),
        is_first=query.is_first and start == 0,
        is_last=query.is_last and stop == longest,
        sequences=query.sequences or len(query.inputs),
    )


def _within(selection: Selection, longest: int, start: int, stop: int) -> Selection:
    steps = selection.between(longest, start, stop)
    if not steps:
        return replace(selection, signals=())  # these steps are only passed
    return replace(selection, time=slice(steps.start - start, steps.stop - start, steps.step))


def _can_be_parted(model: Model, query: Query) -> bool:
    summed_up = query.prediction and query.explain is None and model.pipeline.sums_up
    downwards = query.trace is not None and not query.trace.is_upwards
    return not (summed_up or downwards or query.horizon or query.packed_state is not None)


@lru_cache
def _multiplications(spec: Spec) -> int:
    """Of one sequence at one time step."""
    return sum(prod(shape) for shape in spec.parameter_shapes().values() if len(shape) > 1)
