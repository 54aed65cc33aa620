"""`Whole`: what the parts of an answer amount to when they are put together, all but the signals."""

from __future__ import annotations

from dataclasses import replace

import numpy as np
import torch
from torch import Tensor

from gatescope.pipeline.query import Answer, Prediction, Query
from gatescope.state import State
from gatescope.tracing import Trace


class Whole:
    """Filled in part by part, in the order of time.

    Args:
        query: the batch.
        ahead: the answer that has the prediction already, where the batch ends in a horizon.
    """

    def __init__(self, query: Query, ahead: Answer | None) -> None:
        self._answer = ahead or Answer(query.sequence_lengths, query.inputs)
        self._size = query.inputs.shape[:2]  # (batch, time)
        self._initial_state = self._state = query.initial_state
        self.residual = 0.0

    def state_of(self, rows: Tensor) -> State | None:
        """Where these sequences go on; None before the first part of a query without a state."""
        return None if self._state is None else State(*(value[:, rows] for value in self._state))

    def take(self, answer: Answer, rows: Tensor, steps: slice) -> None:
        """Put in the answer to a part: these sequences of the batch at these time steps, traced or with final state."""
        trace, final_state = answer.trace, answer.final_state
        if trace is not None:
            final_state, self.residual = trace.final_state, float(np.maximum(self.residual, trace.residual))
            if self._initial_state is None:
                self._initial_state = trace.initial_state
        if final_state is None:
            raise TypeError("the answer does not say where its sequences go on")
        self._state = self._moved(rows, final_state)
        if answer.output is not None:
            output = self._filled(self._answer.output, answer.output, rows, steps)
            self._answer = replace(self._answer, output=output)
        if answer.prediction is not None:
            self.predict(self._joined(answer.prediction, rows, steps))

    def _moved(self, rows: Tensor, to: State) -> State:
        if self._state is None:  # the first part has every sequence
            return to
        return State(*(before.index_copy(1, rows, value) for before, value in zip(self._state, to, strict=True)))

    def take_all(self, answer: Answer, trace: Trace) -> None:
        """Take the answer to the whole query, its own lengths included."""
        self._initial_state, self._state = trace.initial_state, trace.final_state
        self.residual = trace.residual
        self._answer = replace(answer, trace=None)

    def predict(self, prediction: Prediction | None) -> None:
        """Set the prediction."""
        self._answer = replace(self._answer, prediction=prediction)

    @property
    def initial_state(self) -> State:
        """Where the trace began."""
        if self._initial_state is None:
            raise TypeError("nothing was traced yet")
        return self._initial_state

    @property
    def beginning(self) -> Answer:
        """What the answer holds before anything is computed: what is read."""
        return replace(self._answer, prediction=None, output=None)

    @property
    def answer(self) -> Answer:
        """The answer for the whole batch, as far as the parts have come."""
        return replace(self._answer, final_state=self._state)

    def _joined(self, part: Prediction, rows: Tensor, steps: slice) -> Prediction:
        """A prediction per step joins those before it; one of the last step so far takes their place."""
        so_far = self._answer.prediction
        at = None if part.steps is None else steps
        values = self._filled(None if so_far is None else so_far.values, part.values, rows, at)
        choices = None
        if part.choices is not None:
            choices = self._filled(None if so_far is None else so_far.choices, part.choices, rows, at)
        return Prediction(values, None if at is None else self._answer.sequence_lengths, choices)

    def _filled(self, into: Tensor | None, part: Tensor, rows: Tensor, steps: slice | None) -> Tensor:
        """Write (row, step, …) or, without steps, (row, …) into the batch's."""
        if into is None:
            size = self._size[: 1 if steps is None else 2]
            nothing = torch.nan if part.is_floating_point() else 0
            into = part.new_full((*size, *part.shape[len(size) :]), nothing)
        into[(rows,) if steps is None else (rows, steps)] = part
        return into
