"""Long queries, one chunk of time at a time, so that other requests are computed in between.

A chunk begins in the state in which the one before it ended. Its answer is put into the answer to the whole query
(`assemble`), or handed on (`ChunkedTrace`).
"""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator, Awaitable, Callable, Collection
from dataclasses import dataclass, replace
from functools import lru_cache
from math import prod

import numpy as np
import torch
from torch import Tensor

from gatescope.decompose import Point
from gatescope.pipeline.layout import Slot, States, map_state
from gatescope.pipeline.model import Model
from gatescope.pipeline.query import ANSWER, Answer, Query
from gatescope.selection import Selection
from gatescope.server.serving import states, tuning
from gatescope.server.serving.deadline import Deadline
from gatescope.server.serving.engine import Engine
from gatescope.server.serving.request import WHOLE, Part
from gatescope.spec import Spec
from gatescope.state import State
from gatescope.tracing import Trace

_FLOAT_BYTES = 4
_LATEST = States("last")

Compute = Callable[[Query, Part], Awaitable[Answer]]
"""Answers a query that is a part of a request."""


def chunk_steps(model: Model, query: Query) -> int | None:
    """How many time steps a chunk of this query has; None of a query that is computed in one go.

    That is what is short, what reads or is wanted from the end, what sums up all steps, and what has a horizon.
    """
    if query.steps <= tuning.MAX_UNDIVIDED_CHUNKS * tuning.MIN_CHUNK_STEPS or not _can_be_chunked(model, query):
        return None
    rows, longest = query.inputs.shape[:2]
    step = tuning.STEP_MULTIPLICATIONS + rows * sum(map(_multiplications, _specs(model)))
    steps = max(tuning.MIN_CHUNK_STEPS, tuning.CHUNK_MULTIPLICATIONS // step)
    needed = longest if query.explain is None else query.explain.time_step
    return steps if needed > tuning.MAX_UNDIVIDED_CHUNKS * steps else None


async def answer(query: Query, steps: int, compute: Compute, part: Part = WHOLE) -> Answer:
    """The answer to a query that is computed in chunks of so many time steps; raises what `compute` raises."""
    if query.explain is not None:
        return await _explained(query, query.explain, steps, compute)
    return await assemble(query, chunks(query, steps, compute, part))


async def chunks(query: Query, steps: int, compute: Compute, part: Part = WHOLE) -> AsyncIterator[tuple[Slot, Answer]]:
    """The answers to the chunks, in the order of time, each with its final state.

    Args:
        query: the whole.
        steps: how many time steps a chunk has; the last one may have fewer.
        compute: answers a chunk.
        part: which part of its request the whole is.
    """
    longest, state = query.inputs.shape[1], query.initial_state
    sequences = part.sequences or query.sequences
    for start in range(0, longest, steps):
        stop = min(start + steps, longest)
        slot = Slot(query, (query.sequence_lengths > start).nonzero()[:, 0], start, stop)
        chunk_part = Part(part.is_first and start == 0, part.is_last and stop == longest, sequences)
        made = await compute(_chunk(slot, state), chunk_part)
        if made.final_state is None:
            raise TypeError("the answer does not say where its sequences go on")
        state = _LATEST.merge(state, made.final_state, slot)
        yield slot, made


async def assemble(query: Query, made: AsyncIterator[tuple[Slot, Answer]]) -> Answer:
    """The answer to the whole query, from the answers to its chunks."""
    whole = Answer(query.sequence_lengths, query.inputs)
    async for slot, part in made:
        whole = replace(whole, module=part.module, aligned=part.aligned)
        if part.trace is None:
            whole = ANSWER.merge(whole, part, slot)
        else:
            whole = await asyncio.to_thread(ANSWER.merge, whole, part, slot)
    return whole if query.final_state else replace(whole, final_state=None)


def runs_forward(model: Model) -> bool:
    """Whether it can be run from the first time step to the last; a reverse direction or a window begins elsewhere."""
    return model.pipeline.runs_in_parts and model.pipeline.pooled_window is None


def can_trace_in_chunks(model: Model, selection: Selection) -> bool:
    """Whether a trace can be made from its first time step to its last, and is wanted in this order."""
    return runs_forward(model) and selection.is_upwards


def step_bytes(selection: Selection, batch: int) -> int:
    """How large one time step of a trace is, as float32 arrays; the selection must be resolved."""
    axes = (selection.signals, selection.layers, selection.directions, selection.units)
    return batch * _FLOAT_BYTES * prod(len(axis or ()) for axis in axes)


@dataclass(frozen=True)
class Chunk:
    """A trace over some time steps, of those sequences of a batch that have not ended."""

    rows: list[int]
    """The sequences, as indices of the batch."""
    time_steps: list[int]
    """Those that are selected, as indices of the whole."""
    signals: dict[str, Tensor]
    """Each (row, layer, direction, time, unit)."""


async def trace(
    engine: Engine,
    model: Model,
    query: Query,
    selection: Selection,
    max_bytes: int,
    deadline: Deadline | None = None,
) -> ChunkedTrace:
    """A trace that never stands whole in memory; what comes with a horizon is predicted first, and then traced.

    Args:
        engine: computes.
        model: is traced.
        query: what is to be traced.
        selection: the part that is wanted, resolved.
        max_bytes: the most that is made at once.
        deadline: of all chunks together.

    Raises:
        Overloaded, DeadlineExceeded, NotReady: as the engine does.
    """

    def compute(query: Query, part: Part) -> Awaitable[Answer]:
        return engine.answer(model, query, deadline, part)

    if not query.horizon or not can_trace_in_chunks(model, selection):
        return ChunkedTrace(model, query, selection, max_bytes, compute)
    predicted = await compute(replace(query, output=False, final_state=False), Part(is_last=False))
    extended = replace(
        query,
        inputs=predicted.inputs,
        sequence_lengths=predicted.sequence_lengths,
        horizon=0,
        future_inputs=None,
        prediction=False,
    )
    return ChunkedTrace(model, extended, selection, max_bytes, compute, predicted)


class ChunkedTrace:
    """A trace that is handed on chunk by chunk; each is computed when it is asked for.

    Args:
        model: is traced.
        query: what is to be traced.
        selection: the part that is wanted, resolved.
        max_bytes: the most that is made at once.
        compute: answers a part of the query.
        predicted: the answer that has the prediction already, where the query ends in a horizon.
    """

    def __init__(
        self,
        model: Model,
        query: Query,
        selection: Selection,
        max_bytes: int,
        compute: Compute,
        predicted: Answer | None = None,
    ) -> None:
        self.model, self.selection = model, selection
        module = query.module or next(iter(model.pipeline.lstms))
        self.answer = predicted or Answer(query.sequence_lengths, query.inputs, module=module)
        """All but the signals, as far as the chunks have come."""
        self.residual = 0.0
        """The largest of all chunks so far."""
        self._query, self._max_bytes, self._compute = query, max_bytes, compute
        self._is_first = predicted is None
        self._initial_state = states.begun(query, model) if states.has_several_modules(model) else query.initial_state

    @property
    def initial_state(self) -> State:
        """Where the trace began; known with the first chunk."""
        if self._initial_state is None:
            raise TypeError("nothing was traced yet")
        return self._initial_state

    @property
    def header(self) -> Answer:
        """The answer without anything that is computed step by step."""
        return replace(self.answer, prediction=None, heads=None, output=None, final_state=None)

    @property
    def predicts(self) -> bool:
        """Whether a prediction comes with the trace."""
        return self._query.prediction or self.answer.prediction is not None

    async def chunks(self) -> AsyncIterator[Chunk]:
        """The trace from chunk to chunk.

        Raises:
            Overloaded, DeadlineExceeded, NotReady: as the engine does.
        """
        if not can_trace_in_chunks(self.model, self.selection):
            yield await self._undivided()
            return
        sums_up = self._query.prediction and self.model.pipeline.sums_up
        query = self._query.evolve(trace=self.selection, prediction=self._query.prediction and not sums_up)
        part = Part(self._is_first, is_last=not sums_up)
        async for slot, made in chunks(query, self._chunk_steps(), self._compute, part):
            signals = self._take(made, slot)
            steps = self.selection.between(query.inputs.shape[1], slot.start, slot.stop)
            yield Chunk(slot.rows.tolist(), list(steps), signals)
        if sums_up:
            # a mean or maximum over all steps is in no chunk: the LSTM runs once more, whole but without a trace
            untraced = replace(self._query, output=False, final_state=False)
            summed = await self._compute(untraced, Part(is_first=False))
            self.answer = replace(self.answer, prediction=summed.prediction, heads=summed.heads)

    async def _undivided(self) -> Chunk:
        made = await self._compute(replace(self._query, trace=self.selection, final_state=True), WHOLE)
        whole = _trace_of(made)
        if not states.has_several_modules(self.model):
            self._initial_state = whole.initial_state
        self.residual = whole.residual
        self.answer = replace(made, trace=None)
        steps = self.selection.time_steps(int(made.sequence_lengths.max()))
        return Chunk(list(range(len(made.sequence_lengths))), steps, whole.signals)

    def _take(self, made: Answer, slot: Slot) -> dict[str, Tensor]:
        """Keep all of a chunk's answer but the signals, and return those."""
        traced = _trace_of(made)
        if self._initial_state is None:
            self._initial_state = traced.initial_state
        self.residual = float(np.maximum(self.residual, traced.residual))  # NaN stays
        self.answer = ANSWER.merge(self.answer, replace(made, trace=None), slot)
        return traced.signals

    def _chunk_steps(self) -> int:
        batch = self._query.sequences
        kept = max(1, step_bytes(self.selection, batch))
        spec = self.model.spec
        computed = batch * spec.hidden_size * len(spec.cell.signals) * _FLOAT_BYTES  # of a layer, kept or not
        wanted = max(tuning.MIN_CHUNK_STEPS, tuning.CHUNK_BYTES // max(kept, computed))
        return max(1, min(wanted, self._max_bytes // kept))


async def _explained(query: Query, point: Point, steps: int, compute: Compute) -> Answer:
    """An explanation of one time step, which is reached chunk by chunk."""
    length, step = int(query.sequence_lengths[0]), point.time_step
    before = replace(
        query,
        inputs=query.inputs[:, :step],
        sequence_lengths=torch.tensor([step]),
        explain=None,
        prediction=False,
        output=False,
        final_state=True,
    )
    reached = await answer(before, steps, compute, Part(is_last=False))
    alone = replace(
        query,
        inputs=query.inputs[:, step : step + 1],
        sequence_lengths=torch.tensor([1]),
        initial_state=reached.final_state,
        explain=replace(point, time_step=0),
    )
    made = await compute(alone, Part(is_first=False))
    if made.explained is None:
        raise TypeError("the answer explains nothing")
    explained = replace(made.explained, point=point, previous_time_step=point.previous_time_step(length))
    return replace(made, sequence_lengths=query.sequence_lengths, inputs=query.inputs, explained=explained)


def _chunk(slot: Slot, state: State | None) -> Query:
    """What is to be computed of the sequences of a chunk; `state` is that of all sequences before it."""
    query, rows, start, stop = slot
    return replace(
        query,
        inputs=query.inputs[rows, start:stop],
        sequence_lengths=(query.sequence_lengths[rows] - start).clamp(max=stop - start),
        initial_state=None if state is None else map_state(lambda values: values[:, rows], state),
        static_inputs=None if query.static_inputs is None else query.static_inputs[rows],
        final_state=True,
        trace=None if query.trace is None else _within(query.trace, query.inputs.shape[1], start, stop),
    )


def _within(selection: Selection, longest: int, start: int, stop: int) -> Selection:
    """The same selection of a chunk's own time steps."""
    steps = selection.between(longest, start, stop)
    if not steps:
        return replace(selection, signals=())  # these steps are only passed
    return replace(selection, time=slice(steps.start - start, steps.stop - start, steps.step))


def _trace_of(made: Answer) -> Trace:
    if made.trace is None:
        raise TypeError("the answer holds no trace")
    return made.trace


def _can_be_chunked(model: Model, query: Query) -> bool:
    if not runs_forward(model) or query.horizon or query.packed_state is not None:
        return False
    sums_up = query.prediction and query.explain is None and model.pipeline.sums_up
    return not sums_up and (query.trace is None or query.trace.is_upwards)


def _specs(model: Model) -> Collection[Spec]:
    """Of every recurrent module whose state is carried, or of the first."""
    return model.pipeline.state_modules.values() or [model.spec]


@lru_cache
def _multiplications(spec: Spec) -> int:
    """Of one sequence at one time step."""
    return sum(prod(shape) for shape in spec.parameter_shapes().values() if len(shape) > 1)
