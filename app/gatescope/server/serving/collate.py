"""`Batch`: several queries of one model, computed as one."""

from __future__ import annotations

from collections.abc import Sequence
from functools import cached_property, lru_cache
from typing import Any

import torch
from torch import Tensor
from torch.nn.utils.rnn import pad_sequence

from gatescope.pipeline.layout import RowSplit, map_state, rows_of
from gatescope.pipeline.model import Model
from gatescope.pipeline.query import ANSWER, Answer, Query
from gatescope.selection import Selection
from gatescope.server.serving import states, tuning
from gatescope.state import State

_OPTIONAL = {"prediction": "prediction", "heads": "prediction", "output": "output", "final_state": "final_state"}
"""What a batch computes for all of its queries where one needs it, and the field of a query that asks for it."""


class Batch:
    """Queries that go together: every row is computed as if it were alone.

    Args:
        model: of all of them.
        first: the query that the others must go with.
    """

    def __init__(self, model: Model, first: Query) -> None:
        self.model = model
        self.queries = [first]
        self.sequences, self._longest = first.inputs.shape[:2]
        self._steps = first.steps

    def accepts(self, model: Model, query: Query) -> bool:
        """Whether this query can be computed along, and pays to be."""
        if model is not self.model or not goes_with(self.queries[0], query, model):
            return False
        sequences, length = query.inputs.shape[:2]
        padded = (self.sequences + sequences) * max(self._longest, length)
        return padded <= tuning.MAX_PADDED_STEPS_RATIO * (self._steps + query.steps) and padded <= self._max_steps

    def add(self, query: Query) -> None:
        """Compute this one along."""
        sequences, length = query.inputs.shape[:2]
        self.queries.append(query)
        self.sequences += sequences
        self._steps += query.steps
        self._longest = max(self._longest, length)

    @property
    def padded_steps(self) -> int:
        """Time steps of all rows, the padding included."""
        return self.sequences * self._longest

    @property
    def is_traced(self) -> bool:
        """Whether signals are wanted."""
        return self.queries[0].trace is not None

    @property
    def is_wide(self) -> bool:
        """Whether several cores pay, which wait for each other at each step.

        Only the kernels in float32 on a processor are known for it, not code of one's own, other precisions or a GPU.
        """
        pipeline = self.model.pipeline
        if not pipeline.is_reentrant or not pipeline.is_cpu_float32:
            return True
        spec = pipeline.spec_of(self.queries[0].module)
        multiplications = self.sequences * len(spec.cell.gates) * spec.hidden_size * spec.hidden_state_size
        return multiplications >= tuning.WIDE_MULTIPLICATIONS

    def query(self) -> Query:
        """All of them as one."""
        first = self.queries[0]
        if self._is_packed:
            first = first.evolve(packed_state=None, initial_state=self._unpacked(), final_state=True)
        if len(self.queries) == 1:
            return first
        return first.evolve(
            inputs=_concatenated([query.inputs for query in self.queries], self._axis_steps),
            sequence_lengths=self._lengths(),
            initial_state=first.initial_state if self._is_packed else _concatenated_states(self.queries, self.model),
            static_inputs=_concatenated_static(self.queries),
            prediction=any(query.prediction for query in self.queries),
            output=any(query.output for query in self.queries),
            steps=self._steps,
        )

    def split(self, answer: Answer) -> list[Answer]:
        """Each query's own part of the answer to all."""
        is_lone = len(self.queries) == 1
        if is_lone and not self._is_packed:
            return [answer]
        wanted = {name: [getattr(query, flag) for query in self.queries] for name, flag in _OPTIONAL.items()}
        unwanted = {name: [None] * len(flags) for name, flags in wanted.items() if not any(flags)}
        columns: dict[str, Sequence[Any]] = {}
        if not is_lone:
            columns = ANSWER.columns(answer, self._row_split(), skip=unwanted.keys())
        for name in columns.keys() & _OPTIONAL.keys():
            if not all(wanted[name]):
                columns[name] = [part if flag else None for part, flag in zip(columns[name], wanted[name], strict=True)]
        if self._is_packed and answer.final_state is not None:
            columns["packed_state"] = answer.final_state.packed()
        return rows_of(answer, columns | unwanted)

    def _row_split(self) -> RowSplit:
        shapes = [query.inputs.shape for query in self.queries]
        lengths = [shape[1] for shape in shapes]
        is_uniform = min(lengths) == self._axis_steps
        return RowSplit(self.queries, [shape[0] for shape in shapes], None if is_uniform else lengths)

    @cached_property
    def _max_steps(self) -> int:
        """How many steps of all rows fit into memory."""
        first = self.queries[0]
        floats = tuning.MAX_TRACED_BATCH_FLOATS if self.is_traced else tuning.MAX_BATCH_FLOATS
        return floats // _floats_per_step(first, self.model)

    @property
    def _is_packed(self) -> bool:
        return self.queries[0].packed_state is not None

    def _unpacked(self) -> State:
        """The initial states of queries that all have a packed one."""
        packed = [query.packed_state for query in self.queries if query.packed_state is not None]
        return State.unpacked(packed, self.model.pipeline.state_spec)

    @property
    def _is_even(self) -> bool:
        """Whether all sequences are equally long."""
        return self._steps == self.padded_steps

    def _lengths(self) -> Tensor:
        """(batch,)."""
        if self._is_even:
            return _full(self.sequences, self._longest)
        return torch.cat([query.sequence_lengths for query in self.queries])

    @property
    def _axis_steps(self) -> int:
        """The length of the time axis: the longest sequence's, or a little more where lengths differ.

        The kernels are made anew for every length that they have not seen, which costs more than some padding.
        """
        if self._is_even:
            return self._longest
        grain = 1 << max(0, self._longest.bit_length() - tuning.LENGTHS_PER_OCTAVE.bit_length())
        return -(-self._longest // grain) * grain


def goes_with(first: Query, query: Query, model: Model) -> bool:
    """Whether two queries of a model can be one: what they ask for must be made in the same way."""
    return (
        model.pipeline.rows_are_independent
        and first.module == query.module
        and first.final_state == query.final_state
        and (first.packed_state is None) == (query.packed_state is None)
        and (first.static_inputs is None) == (query.static_inputs is None)
        and first.trace == query.trace
        and not (first.horizon or query.horizon)
        and not (first.interventions or query.interventions)  # their sequences are rows of a query
        and first.explain is None
        and query.explain is None
        and (first.trace is None or _counts_from_the_start(first.trace))
    )


def _counts_from_the_start(selection: Selection) -> bool:
    """Whether a sequence's selected steps are the same beside a longer one: none is counted from the end."""
    time = selection.time
    return (time.step or 1) > 0 and (time.start or 0) >= 0 and (time.stop is None or time.stop >= 0)


@lru_cache(maxsize=1024)
def _full(rows: int, steps: int) -> Tensor:
    """The lengths (batch,) of sequences that all have so many steps; shared by whoever asks."""
    return torch.full((rows,), steps)


def _floats_per_step(query: Query, model: Model) -> int:
    """How many numbers a step of a sequence makes, about."""
    spec = model.pipeline.spec_of(query.module)
    signals = 1 if query.trace is None else 1 + len(query.trace.signals or ()) * spec.num_layers
    return signals * spec.num_directions * spec.hidden_size


def _concatenated(inputs: Sequence[Tensor], steps: int) -> Tensor:
    """(batch, time, …) each -> the rows of all, padded with zeros to so many steps."""
    if all(each.shape[1] == steps for each in inputs):
        return torch.cat(list(inputs))
    rows = [row for each in inputs for row in each.unbind()]  # (time, …) each
    padded = pad_sequence(rows, batch_first=True)
    if padded.shape[1] == steps:
        return padded
    return torch.cat([padded, padded.new_zeros(len(rows), steps - padded.shape[1], *padded.shape[2:])], dim=1)


def _concatenated_states(queries: Sequence[Query], model: Model) -> State | None:
    """The initial states of all, the model's own where none is given; None where none is given at all."""
    if all(query.initial_state is None for query in queries):
        return None
    return map_state(lambda *values: torch.cat(values, dim=1), *(states.begun(query, model) for query in queries))


def _concatenated_static(queries: Sequence[Query]) -> Tensor | None:
    """(batch, feature) of all; either each has them or none has."""
    given = [query.static_inputs for query in queries if query.static_inputs is not None]
    return torch.cat(given) if given else None
