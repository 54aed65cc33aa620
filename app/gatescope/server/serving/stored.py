"""`StoredTrace`: a trace as it is kept, and what can be seen of it without computing it again."""

from __future__ import annotations

import sys
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace
from functools import cached_property
from typing import Any, NamedTuple

import numpy as np
import torch
from torch import Tensor

from gatescope.decompose import Point
from gatescope.errors import InvalidInput, Place
from gatescope.pipeline.layout import map_state, map_tensors
from gatescope.pipeline.model import Model
from gatescope.pipeline.query import Answer, Query
from gatescope.selection import Selection
from gatescope.server.serving import states
from gatescope.server.serving.bins import Bins
from gatescope.server.serving.chunking import can_trace_in_chunks
from gatescope.server.serving.deadline import Deadline
from gatescope.server.serving.engine import Engine
from gatescope.server.serving.row_labels import NO_LABELS, RowLabels
from gatescope.spec import Spec
from gatescope.state import State
from gatescope.tracing import Trace

Note = Mapping[str, Any]
"""What was assumed when a request was read, as replies tell it."""


class Told(NamedTuple):
    """What of a request its replies tell again."""

    tokens: list[list[str]] | None = None
    """What a model of tokens read."""
    notes: Sequence[Note] = ()
    """What was assumed when it was read."""
    labels: RowLabels = NO_LABELS
    """What it says about its sequences."""


OVERHEAD_BYTES = 16 * 1024
"""What a trace takes beside its numbers, about: a store full of tiny ones must be bounded, too."""


@dataclass(frozen=True)
class View:
    """A part of a stored trace."""

    rows: Sequence[int]  # the sequences, as indices of the batch
    selection: Selection  # signals, layers, directions and units, resolved; `bins` has the time
    bins: Bins
    reduce: str | None  # how each bin becomes one number; None where each is one step, as it is

    @property
    def shape(self) -> tuple[int, int, int, int, int]:
        """(batch, layer, direction, bin, unit) of each signal."""
        selection = self.selection
        layers, directions, units = (
            len(axis or ()) for axis in (selection.layers, selection.directions, selection.units)
        )
        return len(self.rows), layers, directions, len(self.bins), units

    def part(self, first: int, last: int) -> View:
        """The same of the bins from `first` up to `last` only."""
        return replace(self, bins=self.bins.part(first, last))


@dataclass(frozen=True)
class StoredTrace:
    """Everything that a trace request over all signals, layers, directions and units answers, and what it was asked."""

    model: Model
    read: Query  # what the LSTM ran over, the steps of a horizon included
    tokens: list[list[str]] | None
    signals: Mapping[str, np.ndarray]  # (batch, layer, direction, time, unit) each, NaN in the padding
    answer: Answer  # all but the signals; its inputs are those of `read`
    initial_state: State
    residual: float
    notes: Sequence[Note] = ()  # what was assumed when the request was read
    labels: RowLabels = NO_LABELS  # what the request says about its sequences

    @property
    def spec(self) -> Spec:
        """The arguments of the LSTM that was traced."""
        return self.model.pipeline.spec_of(self.answer.module)

    @property
    def everything(self) -> Selection:
        """All of it, resolved."""
        return Selection().resolve(self.spec)

    @cached_property
    def lengths(self) -> list[int]:
        """How many steps each sequence has."""
        lengths: list[int] = self.answer.sequence_lengths.tolist()
        return lengths

    @property
    def shape(self) -> tuple[int, ...]:
        """(batch, layer, direction, time, unit) of the widest signal."""
        return max((values.shape for values in self.signals.values()), key=lambda shape: shape[-1])

    @cached_property
    def bytes(self) -> int:
        """All that is kept."""
        numbers = sum(values.nbytes for values in self.signals.values())
        return numbers + bytes_beside((self.read, self.answer, self.initial_state), self.tokens)

    def values(self, view: View) -> dict[str, np.ndarray]:
        """The signals of a view, (batch, layer, direction, span, unit) each; they may share the store's memory."""
        return {name: self._values(self.signals[name], view) for name in view.selection.signals or ()}

    def answer_of(self, rows: Sequence[int]) -> Answer:
        """What belongs to these sequences and is not per step: their lengths and final states."""
        return replace(
            self.answer,
            sequence_lengths=self.answer.sequence_lengths[list(rows)],
            prediction=None,
            heads=None,
            output=None,
            generated=None,
            final_state=None if self.answer.final_state is None else _of_rows(self.answer.final_state, rows),
        )

    def initial_state_of(self, rows: Sequence[int]) -> State:
        """Where these sequences began."""
        return _of_rows(self.initial_state, rows)

    def sequence(self, asked: int | None) -> int:
        """The sequence that is asked for; it may be left out where there is but one.

        Raises:
            InvalidInput: there is no such sequence, or it must be said which one.
        """
        count = len(self.lengths)
        if asked is None and count > 1:
            raise InvalidInput.at(Place(("sequence",), f"is missing: this trace has {count} sequences"))
        if asked is not None and not 0 <= asked < count:
            message = f"there is no sequence {asked}; this trace has 0 to {count - 1}"
            raise InvalidInput.at(Place(("sequence",), message))
        return asked or 0

    def trace_of(self, sequence: int) -> Trace:
        """The signals of one of its sequences, as the library has them; without output and states."""
        initial, nothing = self.initial_state_of([sequence]), torch.empty(1, self.shape[3], 0)
        return Trace(
            signals={name: torch.from_numpy(values[sequence : sequence + 1]) for name, values in self.signals.items()},
            spec=self.spec,
            selection=self.everything,
            sequence_lengths=torch.tensor([self.lengths[sequence]]),
            output=nothing,
            initial_state=initial,
            final_state=initial,
            row_residuals=None,
            backend="stored",
            module=self.model.pipeline.lstm_of(self.answer.module),
            inputs=nothing,
        )

    async def explain(self, engine: Engine, sequence: int, point: Point, deadline: Deadline | None = None) -> Answer:
        """Every term of one unit at one time step of a sequence.

        Args:
            engine: computes.
            sequence: which one.
            point: which unit, where and when.
            deadline: by which it is wanted, where there is one.

        Raises:
            InvalidInput: there is no such layer, direction, time step or unit.
            Overloaded, DeadlineExceeded, NotReady: as the engine does.
        """
        point = point.resolve(self.spec, self.lengths[sequence])
        if not can_trace_in_chunks(self.model, Selection()) or states.has_several_modules(self.model):
            return await engine.answer(self.model, replace(self.read.only(sequence), explain=point), deadline)
        # the states before the step are here, so it need not be reached from the beginning again
        answer = await engine.answer(self.model, self._one_step(sequence, point), deadline)
        if answer.explained is None:
            raise TypeError("the answer explains nothing")
        previous = point.previous_time_step(self.lengths[sequence])
        explained = replace(answer.explained, point=point, previous_time_step=previous)
        return replace(answer, inputs=self.read.inputs[sequence : sequence + 1], explained=explained)

    def _one_step(self, sequence: int, point: Point) -> Query:
        before = point.time_step - 1
        state = self.initial_state_of([sequence]) if before < 0 else self._state_after(sequence, before)
        return replace(
            self.read,
            inputs=self.read.inputs[sequence : sequence + 1, point.time_step : point.time_step + 1],
            sequence_lengths=torch.tensor([1]),
            initial_state=state,
            static_inputs=self._static_of(sequence),
            explain=replace(point, time_step=0),
        )

    def _static_of(self, sequence: int) -> Tensor | None:
        """(1, feature)."""
        static = self.read.static_inputs
        return None if static is None else static[sequence : sequence + 1]

    def _state_after(self, sequence: int, time_step: int) -> State:
        """The states (layer, 1, unit) of a unidirectional LSTM."""
        return State(
            *(torch.tensor(self.signals[name][sequence, :, 0, time_step])[:, None] for name in self.spec.cell.states)
        )

    def _values(self, values: np.ndarray, view: View) -> np.ndarray:
        selection, width = view.selection, values.shape[-1]
        directions = [self.spec.directions.index(name) for name in selection.directions or ()]
        units = [unit for unit in selection.units or () if unit < width]
        for axis, wanted in ((0, view.rows), (1, selection.layers or ()), (2, directions), (4, units)):
            values = values[(slice(None),) * axis + (_index(wanted),)]
        return (
            view.bins.of(values)
            if view.reduce is None
            else view.bins.reduce(values, [self.lengths[row] for row in view.rows], view.reduce)
        )


def bytes_beside(kept: tuple[Query, Answer, State], tokens: list[list[str]] | None) -> int:
    """What a trace takes beside its signals: every tensor in these, and the tokens."""
    tensors: dict[int, int] = {}

    def note(tensor: Tensor) -> Tensor:
        tensors[id(tensor)] = tensor.nbytes
        return tensor

    map_tensors(note, kept)
    distinct = {token for row in tokens or () for token in row}  # each stands there once, and references to it
    strings = sum(map(sys.getsizeof, tokens or ())) + sum(map(sys.getsizeof, distinct))
    return OVERHEAD_BYTES + sum(tensors.values()) + strings


def _index(wanted: Sequence[int]) -> slice | list[int]:
    """These places of an axis: as a slice, which copies nothing, where they stand side by side."""
    first, count = wanted[0] if wanted else 0, len(wanted)
    return slice(first, first + count) if list(wanted) == list(range(first, first + count)) else list(wanted)


def _of_rows(state: State, rows: Sequence[int]) -> State:
    return map_state(lambda values: values[:, list(rows)], state)
