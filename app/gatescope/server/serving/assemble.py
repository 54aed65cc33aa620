"""`Joined`: the trace that the traces of a query's parts amount to."""

from __future__ import annotations

import torch
from torch import Tensor

from gatescope.pipeline.query import Query
from gatescope.selection import Selection
from gatescope.server.serving.whole import Whole
from gatescope.spec import Spec
from gatescope.tracing import Trace


class Joined:
    """Filled in part by part, in the order of time.

    Args:
        query: the whole.
        selection: of the whole.
    """

    def __init__(self, query: Query, selection: Selection) -> None:
        self._query, self._selection = query, selection
        self._longest = query.inputs.shape[1]
        self._count = len(selection.time_steps(self._longest))
        self._signals: dict[str, Tensor] = {}
        self._output: Tensor | None = None
        self._row_residuals = torch.zeros(len(query.inputs))
        self._spec: Spec | None = None
        self._backend = ""

    def take(self, trace: Trace, rows: Tensor, start: int, stop: int) -> None:
        """Put in the trace of these sequences at these time steps."""
        self._spec, self._backend = trace.spec, trace.backend
        self._output = _filled(self._output, trace.output, rows, 1, slice(start, stop), self._size(self._longest))
        self._row_residuals[rows] = torch.maximum(self._row_residuals[rows], _row_residuals_of(trace))
        first = len(self._selection.between(self._longest, 0, start))
        for name, values in trace.signals.items():
            steps = slice(first, first + values.shape[3])
            so_far = self._signals.get(name)
            self._signals[name] = _filled(so_far, values, rows, 3, steps, self._size(self._count))

    def trace(self, whole: Whole) -> Trace:
        """All of it."""
        if self._output is None or self._spec is None or whole.answer.final_state is None:
            raise TypeError("nothing was traced yet")
        return Trace(
            signals={name: self._signals[name] for name in self._selection.signals or ()},
            spec=self._spec,
            selection=self._selection,
            sequence_lengths=self._query.sequence_lengths,
            output=self._output,
            initial_state=whole.initial_state,
            final_state=whole.answer.final_state,
            row_residuals=self._row_residuals,
            backend=self._backend,
        )

    def _size(self, steps: int) -> tuple[int, int]:
        return len(self._query.inputs), steps


def _row_residuals_of(trace: Trace) -> Tensor:
    """(row,) the residual of each."""
    residuals = trace.with_residual().row_residuals
    if residuals is None:
        raise TypeError("a trace with a residual has that of each row")
    return residuals


def _filled(into: Tensor | None, part: Tensor, rows: Tensor, axis: int, steps: slice, size: tuple[int, int]) -> Tensor:
    """Write (row, …, step, …) with the steps on this axis into the batch's, NaN where nothing was written yet."""
    if into is None:
        batch, count = size
        into = part.new_full((batch, *part.shape[1:axis], count, *part.shape[axis + 1 :]), torch.nan)
    into.narrow(axis, steps.start, steps.stop - steps.start)[rows] = part
    return into
