"""`Batch`: several queries of one model, computed as one."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import replace
from functools import lru_cache
from typing import TypeVar

import torch
from torch import Tensor
from torch.nn.utils.rnn import pad_sequence

from gatescope.pipeline.model import Model
from gatescope.pipeline.query import Answer, Prediction, Query
from gatescope.selection import Selection
from gatescope.state import State
from gatescope.tracing import Trace

T = TypeVar("T")

WASTE = 1.5
"""A batch may have so many times the steps of its sequences: the rest is padding."""

GRAINS = 8
"""So many lengths, at least, a ragged batch may have between a power of two and the next."""

MOST_FLOATS = 16 * 1024 * 1024
"""So many numbers the hidden states of a batch may have, where no trace is wanted."""

MOST_TRACED = 6 * 1024 * 1024
"""So many numbers the signals of a batch may have: two of these beside one another are done sooner than one of both."""

WIDE = 400_000
"""From so many multiplications of hidden states with weights at a time step on, several cores are sooner than one."""


class Batch:
    """Queries that go together: every row is computed as if it were alone.

    Args:
        model: of all of them.
        first: the query that the others must go with.
    """

    def __init__(self, model: Model, first: Query) -> None:
        self.model = model
        self.queries = [first]
        self.sequences, self._steps, self._longest = len(first.inputs), first.steps, first.inputs.shape[1]
        self._most_steps = (MOST_FLOATS if first.trace is None else MOST_TRACED) // _floats(first, model)

    def takes(self, model: Model, query: Query) -> bool:
        """Whether this query can be computed along, and pays to be."""
        if model is not self.model or not goes_with(self.queries[0], query, model):
            return False
        padded = (self.sequences + len(query.inputs)) * max(self._longest, query.inputs.shape[1])
        return padded <= WASTE * (self._steps + query.steps) and padded <= self._most_steps

    def take(self, query: Query) -> None:
        """Compute this one along."""
        self.queries.append(query)
        self.sequences += len(query.inputs)
        self._steps += query.steps
        self._longest = max(self._longest, query.inputs.shape[1])

    @property
    def padded_steps(self) -> int:
        """Time steps of all rows, the padding included."""
        return self.sequences * self._longest

    @property
    def is_wide(self) -> bool:
        """Whether several cores pay, which wait for each other at each step.

        Only the kernels in float32 on a processor are known for it, not code of one's own, other precisions or a GPU.
        """
        pipeline = self.model.pipeline
        if not pipeline.is_reentrant or not pipeline.is_at_home:
            return True
        spec = pipeline.spec_of(self.queries[0].module)
        return self.sequences * len(spec.cell.gates) * spec.hidden_size * spec.hidden_state_size >= WIDE

    def query(self) -> Query:
        """All of them as one."""
        first = self.queries[0]
        if self._is_packed:
            first = first.but(packed_state=None, initial_state=self._unpacked(), final_state=True)
        if len(self.queries) == 1:
            return first
        return first.but(
            inputs=_joined([query.inputs for query in self.queries], self._padded_steps),
            sequence_lengths=self._lengths(),
            initial_state=first.initial_state if self._is_packed else _joined_state(self.queries, self.model),
            prediction=any(query.prediction for query in self.queries),
            output=any(query.output for query in self.queries),
            steps=self._steps,
        )

    @property
    def _is_packed(self) -> bool:
        return self.queries[0].packed_state is not None

    def _unpacked(self) -> State:
        """The initial states of queries that all have a packed one."""
        states = [query.packed_state for query in self.queries if query.packed_state is not None]
        return State.unpacked(states, self.model.pipeline.spec_of(self.queries[0].module))

    def _lengths(self) -> Tensor:
        """(batch,)."""
        if self._steps == self.sequences * self._longest:
            return _full(self.sequences, self._longest)
        return torch.cat([query.sequence_lengths for query in self.queries])

    @property
    def _padded_steps(self) -> int:
        """The time axis: as long as the longest sequence, or a little longer where lengths differ.

        The kernels are made anew for every length that they have not seen, which costs more than some padding.
        """
        if self._steps == self.sequences * self._longest:
            return self._longest
        grain = 1 << max(0, self._longest.bit_length() - GRAINS.bit_length())
        return -(-self._longest // grain) * grain

    def split(self, answer: Answer) -> list[Answer]:
        """Each query's own part of the answer to all."""
        packed = None
        if self._is_packed and answer.final_state is not None:
            packed = answer.final_state.packed()
            answer = answer if self.queries[0].final_state else replace(answer, final_state=None)
        if len(self.queries) == 1:
            return [answer if packed is None else replace(answer, packed_state=packed[0])]
        parts = Parts(answer, [len(query.inputs) for query in self.queries], packed)
        return [parts.of(index, query) for index, query in enumerate(self.queries)]


def goes_with(first: Query, query: Query, model: Model) -> bool:
    """Whether two queries of a model can be one: what they ask for must be made in the same way."""
    return (
        model.pipeline.rows_are_independent
        and first.module == query.module
        and first.final_state == query.final_state
        and (first.packed_state is None) == (query.packed_state is None)
        and first.trace == query.trace
        and not (first.horizon or query.horizon)
        and first.explain is None
        and query.explain is None
        and (first.trace is None or _begins_at_the_start(first.trace))
    )


def _begins_at_the_start(selection: Selection) -> bool:
    """Whether a sequence's selected steps are the same beside a longer one: none is counted from the end."""
    time = selection.time
    return (time.step or 1) > 0 and (time.start or 0) >= 0 and (time.stop is None or time.stop >= 0)


@lru_cache(maxsize=1024)
def _full(rows: int, steps: int) -> Tensor:
    """The lengths (batch,) of sequences that all have so many steps; shared by whoever asks."""
    return torch.full((rows,), steps)


def _floats(query: Query, model: Model) -> int:
    """How many numbers a step of a sequence makes, about."""
    spec = model.pipeline.spec_of(query.module)
    signals = 1 if query.trace is None else 1 + len(query.trace.signals or ()) * spec.num_layers
    return signals * spec.num_directions * spec.hidden_size


def _joined(inputs: Sequence[Tensor], longest: int) -> Tensor:
    """(batch, time, …) each -> the rows of all, padded with zeros."""
    if all(each.shape[1] == longest for each in inputs):
        return torch.cat(list(inputs))
    rows = [row for each in inputs for row in each.unbind()]  # (time, …) each
    joined = pad_sequence(rows, batch_first=True)
    if joined.shape[1] == longest:
        return joined
    return torch.cat([joined, joined.new_zeros(len(rows), longest - joined.shape[1], *joined.shape[2:])], dim=1)


def _joined_state(queries: Sequence[Query], model: Model) -> State | None:
    """The initial states of all, zeros where none is given; None where none is given at all."""
    if all(query.initial_state is None for query in queries):
        return None
    given = [_state(query, model) for query in queries]
    return State(*(torch.cat(values, dim=1) for values in zip(*given, strict=True)))


def _state(query: Query, model: Model) -> State:
    if query.initial_state is not None:
        return query.initial_state
    return State.zeros(model.pipeline.spec_of(query.module), len(query.inputs), torch.empty(0))


class Parts:
    """An answer, cut into the rows of each query, all in a few strokes: many small ones would cost more than the model.

    Args:
        whole: the answer to all.
        sizes: how many rows each query has.
        packed: the final state of each, where that is wanted.
    """

    def __init__(self, whole: Answer, sizes: list[int], packed: list[bytes] | None = None) -> None:
        self._whole, self._sizes, self._packed = whole, sizes, packed
        predicted, trace = whole.prediction, whole.trace
        self._values, self._choices, self._predicted_steps = (
            (None, None, None)
            if predicted is None
            else (self._cut(predicted.values), self._cut(predicted.choices), self._cut(predicted.steps))
        )
        self._output = self._cut(whole.output)
        self._final_state = None if whole.final_state is None else _cut_state(whole.final_state, sizes)
        if trace is not None:
            self._signals = {name: values.split_with_sizes(sizes) for name, values in trace.signals.items()}
            self._traced_output, self._row_residuals = (
                trace.output.split_with_sizes(sizes),
                self._cut(trace.row_residuals),
            )
            self._began, self._ended = _cut_state(trace.initial_state, sizes), _cut_state(trace.final_state, sizes)

    def of(self, index: int, query: Query) -> Answer:
        """The part of the query of this index, no longer than its longest sequence."""
        whole, longest = self._whole, query.inputs.shape[1]
        return Answer(
            sequence_lengths=query.sequence_lengths,
            inputs=query.inputs,
            module=whole.module,
            aligned=whole.aligned,
            prediction=self._prediction(index, longest) if query.prediction else None,
            output=None if self._output is None or not query.output else _cut_time(self._output[index], longest),
            final_state=_at(self._final_state, index),
            packed_state=_at(self._packed, index),
            trace=None if whole.trace is None else self._trace(whole.trace, index, query),
        )

    def _prediction(self, index: int, longest: int) -> Prediction | None:
        if self._values is None:
            return None
        values, choices, steps = self._values[index], _at(self._choices, index), _at(self._predicted_steps, index)
        if steps is None:
            return Prediction(values, None, choices)
        return Prediction(_cut_time(values, longest), steps, None if choices is None else _cut_time(choices, longest))

    def _trace(self, whole: Trace, index: int, query: Query) -> Trace:
        longest = query.inputs.shape[1]
        signals = {name: parts[index] for name, parts in self._signals.items()}
        if longest < whole.output.shape[1]:
            steps = len(whole.selection.time_steps(longest))
            signals = {name: values[:, :, :, :steps] for name, values in signals.items()}
        return replace(
            whole,
            signals=signals,
            sequence_lengths=query.sequence_lengths,
            output=_cut_time(self._traced_output[index], longest),
            initial_state=self._began[index],
            final_state=self._ended[index],
            row_residuals=_at(self._row_residuals, index),
        )

    def _cut(self, values: Tensor | None) -> Sequence[Tensor] | None:
        return None if values is None else values.split_with_sizes(self._sizes)


def _cut_state(state: State, sizes: list[int]) -> list[State]:
    return [State(*values) for values in zip(*(value.split_with_sizes(sizes, 1) for value in state), strict=True)]


def _cut_time(values: Tensor, longest: int) -> Tensor:
    """(row, step, …) -> no more than so many steps."""
    return values if values.shape[1] == longest else values[:, :longest]


def _at(parts: Sequence[T] | None, index: int) -> T | None:
    return None if parts is None else parts[index]
