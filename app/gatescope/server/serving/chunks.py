"""A long trace in chunks of time, the state carried from one to the next: it never stands whole in memory."""

from __future__ import annotations

from collections.abc import AsyncIterator, Iterator
from dataclasses import dataclass, replace
from math import prod

from torch import Tensor

from gatescope.pipeline.model import Model
from gatescope.pipeline.query import Answer, Query
from gatescope.selection import Selection
from gatescope.server.serving import chunking
from gatescope.server.serving.turns import Turns
from gatescope.server.serving.whole import Whole
from gatescope.tracing import Trace

CHUNK_BYTES = 2 * 1024 * 1024
"""How large the arrays of a chunk are, about."""

LEAST_STEPS = 32
"""So many steps a chunk has even where they are larger: fewer would cost more than they save."""

_FLOAT_BYTES = 4


@dataclass(frozen=True)
class Chunk:
    """Some time steps of those sequences of a batch that have not ended."""

    rows: list[int]  # the sequences, as indices of the batch
    time_steps: list[int]  # those selected, as indices of the whole
    signals: dict[str, Tensor]  # each (row, layer, direction, time, unit)


def in_order(model: Model, selection: Selection) -> bool:
    """Whether a trace can be made from its first step to its last.

    A reverse direction begins at the end, so a bidirectional LSTM is traced whole; so is what is wanted backwards, and
    what cannot be run in parts.
    """
    return chunking.goes_forward(model) and selection.is_upwards


async def begin(turns: Turns, query: Query, selection: Selection, max_trace_bytes: int) -> ChunkedTrace:
    """A trace in chunks; with a horizon it is predicted first, and then traced as inputs like any other.

    Args:
        turns: at the engine.
        query: what is to be traced.
        selection: the part that is wanted, resolved.
        max_trace_bytes: the most that is made at once.

    Raises:
        Overloaded, DeadlineExceeded, NotReady: as the engine does.
    """
    if not query.horizon or not in_order(turns.model, selection):
        return ChunkedTrace(turns, query, selection, max_trace_bytes, None)
    ahead = await turns.answer(replace(query, output=False, final_state=False, is_last=False))
    extended = replace(
        query,
        inputs=ahead.inputs,
        sequence_lengths=ahead.sequence_lengths,
        horizon=0,
        future_inputs=None,
        prediction=False,
        is_first=False,
    )
    return ChunkedTrace(turns, extended, selection, max_trace_bytes, ahead)


class ChunkedTrace:
    """One traced query as several queries of the engine, each computed when its chunk is asked for."""

    def __init__(
        self, turns: Turns, query: Query, selection: Selection, max_trace_bytes: int, ahead: Answer | None
    ) -> None:
        self.selection = selection
        self.whole = Whole(query, ahead)
        self.model = turns.model
        self._turns, self._query, self._max_trace_bytes = turns, query, max_trace_bytes
        self._in_order = in_order(self.model, selection)

    async def chunks(self) -> AsyncIterator[Chunk]:
        """The trace from chunk to chunk; `whole` has the rest when they are through.

        Raises:
            Overloaded, DeadlineExceeded, NotReady: as the engine does.
        """
        if not self._in_order:
            yield await self._all()
            return
        for start, stop in self._spans():
            rows = chunking.running(self._query, start)
            answer, trace = await self._answer(self._part(rows, start, stop))
            self.whole.take(answer, rows, slice(start, stop))
            steps = self.selection.between(self._query.inputs.shape[1], start, stop)
            yield Chunk(rows.tolist(), list(steps), trace.signals)
        if self._summarizes:
            # a mean or maximum over all steps is in no chunk: the LSTM runs once more, whole but without a trace
            untraced = await self._turns.answer(replace(self._query, output=False, final_state=False, is_first=False))
            self.whole.predict(untraced.prediction)

    async def _all(self) -> Chunk:
        answer, trace = await self._answer(replace(self._query, trace=self.selection))
        self.whole.take_all(answer, trace)
        steps = self.selection.time_steps(int(answer.sequence_lengths.max()))
        return Chunk(list(range(len(answer.sequence_lengths))), steps, trace.signals)

    async def _answer(self, query: Query) -> tuple[Answer, Trace]:
        answer = await self._turns.answer(query)
        if answer.trace is None:
            raise TypeError("the answer holds no trace")
        return answer, answer.trace

    @property
    def _summarizes(self) -> bool:
        return self._query.prediction and self.model.pipeline.sums_up

    def _spans(self) -> Iterator[tuple[int, int]]:
        longest, at_once = self._query.inputs.shape[1], self._steps_at_once()
        for start in range(0, longest, at_once):
            yield start, min(start + at_once, longest)

    def _steps_at_once(self) -> int:
        batch = len(self._query.inputs)
        kept = step_bytes(self.selection, batch)
        spec = self.model.spec
        computed = batch * spec.hidden_size * len(spec.signal_names) * _FLOAT_BYTES  # of a layer, kept or not
        wanted = max(LEAST_STEPS, CHUNK_BYTES // max(kept, computed))
        return max(1, min(wanted, self._max_trace_bytes // kept))

    def _part(self, rows: Tensor, start: int, stop: int) -> Query:
        query = self._query.but(trace=self.selection)
        part = chunking.portion(query, rows, start, stop, self.whole.state_of(rows))
        return part.but(prediction=False, is_last=False) if self._summarizes else part


def step_bytes(selection: Selection, batch: int) -> int:
    """How large one time step of a trace is, as float32 arrays; the selection must be resolved."""
    axes = (selection.signals, selection.layers, selection.directions, selection.units)
    return batch * _FLOAT_BYTES * prod(len(axis or ()) for axis in axes)
