"""`Batch`: several queries of one model, computed as one."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, replace
from itertools import accumulate, pairwise

import torch
from torch import Tensor

from app.lstm import Selection, State, Trace
from app.pipeline.query import Answer, Prediction, Query
from app.repository.model import Model

WASTE = 1.5
"""A batch may have so many times the steps of its sequences: the rest is padding."""

MOST_FLOATS = 16 * 1024 * 1024
"""So many numbers the signals of a batch may have, or the hidden states where no trace is wanted."""


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
        self._most_steps = MOST_FLOATS // _floats(first, model)

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

    def query(self) -> Query:
        """All of them as one."""
        if len(self.queries) == 1:
            return self.queries[0]
        return replace(
            self.queries[0],
            inputs=_joined([query.inputs for query in self.queries], self._longest),
            sequence_lengths=torch.cat([query.sequence_lengths for query in self.queries]),
            initial_state=_joined_state(self.queries, self.model),
            prediction=any(query.prediction for query in self.queries),
            output=any(query.output for query in self.queries),
        )

    def split(self, answer: Answer) -> list[Answer]:
        """Each query's own part of the answer to all."""
        if len(self.queries) == 1:
            return [answer]
        ends = accumulate((len(query.inputs) for query in self.queries), initial=0)
        rows = [slice(*span) for span in pairwise(ends)]
        return [_Part(query, answer, own).answer() for query, own in zip(self.queries, rows, strict=True)]


def goes_with(first: Query, query: Query, model: Model) -> bool:
    """Whether two queries of a model can be one: what they ask for must be made in the same way."""
    return (
        model.pipeline.rows_are_independent
        and first.module == query.module
        and first.final_state == query.final_state
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


def _floats(query: Query, model: Model) -> int:
    """How many numbers a step of a sequence makes, about."""
    spec = model.pipeline.spec_of(query.module)
    signals = 1 if query.trace is None else 1 + len(query.trace.signals) * spec.num_layers
    return signals * spec.num_directions * spec.hidden_size


def _joined(inputs: Sequence[Tensor], longest: int) -> Tensor:
    """(batch, time, …) each -> the rows of all, padded with zeros."""
    if all(each.shape[1] == longest for each in inputs):
        return torch.cat(list(inputs))
    joined = inputs[0].new_zeros(sum(map(len, inputs)), longest, *inputs[0].shape[2:])
    row = 0
    for each in inputs:
        joined[row : row + len(each), : each.shape[1]] = each
        row += len(each)
    return joined


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


@dataclass(frozen=True)
class _Part:
    """Some rows of an answer, and no more steps than they have."""

    query: Query
    whole: Answer
    rows: slice

    def answer(self) -> Answer:
        query, whole = self.query, self.whole
        return Answer(
            sequence_lengths=query.sequence_lengths,
            inputs=query.inputs,
            module=whole.module,
            aligned=whole.aligned,
            prediction=self._prediction(whole.prediction) if query.prediction else None,
            output=self._steps(whole.output) if query.output else None,
            final_state=self._state(whole.final_state),
            trace=None if whole.trace is None else self._trace(whole.trace),
        )

    def _prediction(self, whole: Prediction | None) -> Prediction | None:
        if whole is None:
            return None
        if whole.steps is None:
            choices = None if whole.choices is None else whole.choices[self.rows]
            return Prediction(whole.values[self.rows], None, choices)
        choices = None if whole.choices is None else self._steps(whole.choices)
        return Prediction(whole.values[self.rows, : self._longest], whole.steps[self.rows], choices)

    def _trace(self, whole: Trace) -> Trace:
        steps = len(whole.selection.time_steps(self._longest))
        return replace(
            whole,
            signals={name: values[self.rows, :, :, :steps] for name, values in whole.signals.items()},
            sequence_lengths=self.query.sequence_lengths,
            output=whole.output[self.rows, : self._longest],
            initial_state=State(*(value[:, self.rows] for value in whole.initial_state)),
            final_state=State(*(value[:, self.rows] for value in whole.final_state)),
            gaps=None if whole.gaps is None else whole.gaps[self.rows],
        )

    def _steps(self, values: Tensor | None) -> Tensor | None:
        return None if values is None else values[self.rows, : self._longest]

    def _state(self, state: State | None) -> State | None:
        return None if state is None else State(*(value[:, self.rows] for value in state))

    @property
    def _longest(self) -> int:
        return self.query.inputs.shape[1]
