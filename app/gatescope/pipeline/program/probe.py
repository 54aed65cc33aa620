"""`probe`: run a program before anybody asks it, and find out what it reads and gives."""

from __future__ import annotations

from collections.abc import Collection, Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import torch
from torch import Tensor

from gatescope.capture import Calls, Run
from gatescope.errors import InvalidInput, ModuleFailed
from gatescope.pipeline.heads import Task
from gatescope.pipeline.program.output_shape import OutputShape
from gatescope.pipeline.program.program import Program, Returned
from gatescope.pipeline.program.state_layout import StateLayout
from gatescope.state import State

_TOLERANCE = 1e-3  # far above what the order of sums does in float32, far below what another row does
_PARTS_TOLERANCE = 1e-4  # tighter: what a step loses of the steps before it may be little


@dataclass(frozen=True)
class Probed:
    """What the probe has shown."""

    output_shape: OutputShape | None  # None without a task
    ran: tuple[str, ...]  # the recurrent modules in the order of their first calls
    aligned: frozenset[str]  # those whose time step t reads the inputs' time step t, and no other
    moves_rows: bool  # whether a recurrent module reads the rows of a batch in another order
    keeps_steps: bool  # whether prediction and recurrent modules have as many steps as the inputs, or none
    fed_as_is: frozenset[str]  # those that are given the encoded inputs themselves
    state_layout: StateLayout  # of the state that forward takes and gives, where it does
    begin: State  # where the module that runs first begins, if nobody says where; of one row
    parts_refusal: str | None  # why it cannot be run part by part; None where it can


def sizes(program: Program, trial_steps: int) -> tuple[int, int]:
    """(batch, time) of a probe; the two differ where they may, so that axes cannot be taken for one another."""
    steps = program.fixed_steps or trial_steps
    return program.fixed_batch or (3 if steps == 2 else 2), steps  # noqa: PLR2004


def probe(program: Program, inputs: Tensor, task: Task | None) -> Probed:
    """Run a program over a batch, over one row of it alone, and over the batch with one step changed.

    Where it takes and gives a state, it is also run over parts of the batch, the state carried from one to the next.

    Args:
        program: in evaluation mode.
        inputs: (batch, time, …) as it takes them, random; of the sizes that `sizes` gives.
        task: what its prediction means.

    Raises:
        ModuleFailed: it raised, gave what is no prediction of this task, no answer twice, one that depends on the
            other rows, or a state of another layout than it takes, or called none of its recurrent modules.
    """
    run = _Probe(program, inputs)
    returned, calls = run.run(inputs)
    if not calls:
        raise ModuleFailed(f"{program.subject} calls none of its recurrent modules ({', '.join(program.recurrent)})")
    first, output_shape = next(iter(calls)), None
    if task is not None:
        output_shape = OutputShape.of(program.subject, returned.prediction, len(inputs), inputs.shape[1], task)
        run.check(output_shape, output_shape.read(returned.prediction, run.lengths, inputs.shape[1]))
    before, after = run.read(calls), run.read(run.run(run.changed())[1])
    aligned = {name for name in before.keys() & after.keys() if run.is_aligned(before[name], after[name])}
    as_is = {name for name, read in before.items() if read.shape == inputs[-1].shape and torch.equal(read, inputs[-1])}
    layout = program.state_layout(first)
    if task is not None and returned.state is not None:
        layout.read(returned.state, len(inputs))
    begin = layout.rows(program.begin(calls[first][0]), 1)
    refusal = _InParts(run, output_shape, layout, begin).refusal(returned)
    keeps = output_shape is None or output_shape.own_steps is None
    keeps &= all(torch.equal(*(each.sort().values for each in pair)) for pair in run.lengths_of(calls))
    return Probed(
        output_shape,
        tuple(calls),
        frozenset(aligned),
        run.moves_rows(before),
        keeps,
        frozenset(as_is),
        layout,
        begin,
        refusal,
    )


class _Probe:
    """A batch whose last row is whole; where the module takes lengths, its first is shorter by a step."""

    def __init__(self, program: Program, inputs: Tensor) -> None:
        self.program, self.inputs = program, inputs
        sequences, steps = inputs.shape[:2]
        self.lengths = torch.full((sequences,), steps)
        if program.takes_lengths and steps > 1:
            self.lengths[0] -= 1

    def run(self, inputs: Tensor, lengths: Tensor | None = None, hx: Any = None) -> tuple[Returned, Calls]:
        watched: Collection[str] = self.program.recurrent.keys()
        return self.program.call(inputs, self.lengths if lengths is None else lengths, hx, watched)

    def returned(self, inputs: Tensor, lengths: Tensor) -> Returned:
        return self.program.call(inputs, lengths, None, ())[0]

    def check(self, output_shape: OutputShape, values: Tensor) -> None:
        """Hold the last row against itself alone."""
        alone = self.returned(self.inputs[-1:], self.lengths[-1:])
        steps = self.inputs.shape[1]
        if _same(output_shape.read(alone.prediction, self.lengths[-1:], steps)[0], values[-1]):
            return
        again = output_shape.read(self.run(self.inputs)[0].prediction, self.lengths, steps)
        if not _same(again[-1], values[-1]):
            raise ModuleFailed(
                f"{self.program.subject} gives another prediction for the same inputs: it draws at random, or keeps "
                "something from call to call"
            )
        raise ModuleFailed(
            f"{self.program.subject} gives another prediction for a sequence alone than in a batch: the rows of a "
            "batch depend on one another; is a recurrent module without batch_first given (batch, time, feature)?"
        )

    def changed(self) -> Tensor:
        """The inputs with another value at one step of the last row."""
        inputs = self.inputs.clone()
        row = inputs[-1, self._changed_step]
        if row.is_floating_point():
            row += torch.arange(1, len(row) + 1)  # a norm takes away what is added to all
        else:
            row += torch.where(row == 0, 1, -1)  # an id must stay one
        return inputs

    def read(self, calls: Calls) -> dict[str, Tensor]:
        """What each recurrent module read for the last row, (time, feature)."""
        return {name: run.inputs[-1, : int(run.lengths[-1])] for name, run in self.runs(calls).items()}

    def runs(self, calls: Calls, rows: int | None = None) -> dict[str, Run]:
        """The run of each recurrent module over so many rows; those whose calls are no one run are missing."""
        found = {}
        for name, heard in calls.items():
            try:
                found[name] = Run.of(name, self.program.recurrent[name], heard, rows or len(self.inputs))
            except InvalidInput:
                continue
        return found

    def lengths_of(self, calls: Calls) -> list[tuple[Tensor, Tensor]]:
        """The lengths (row,) that each recurrent module read, beside those of the batch."""
        return [(heard.lengths, self.lengths) for heard in self.runs(calls).values()]

    def moves_rows(self, read: Mapping[str, Tensor]) -> bool:
        """Whether the last row alone is not what some module read as the last row of the batch, (time, feature)."""
        watched: Collection[str] = self.program.recurrent.keys()
        calls = self.program.call(self.inputs[-1:], self.lengths[-1:], None, watched)[1]
        alone = {name: run.inputs[0] for name, run in self.runs(calls, 1).items()}
        return any(not _same(alone[name], values) for name, values in read.items() if name in alone)

    def is_aligned(self, before: Tensor, after: Tensor) -> bool:
        """Whether the change shows at its own step, and nowhere else."""
        steps = self.inputs.shape[1]
        if before.shape != after.shape or len(before) != steps:
            return False
        return (before != after).any(dim=1).nonzero()[:, 0].tolist() == [self._changed_step]

    @property
    def _changed_step(self) -> int:
        """Not the one in the middle, which is its own place in a sequence that is read from its end."""
        return (self.inputs.shape[1] - 1) // 3


@dataclass(frozen=True)
class _Made:
    """What came of a run over all rows."""

    values: Tensor | None  # of the prediction
    state: State
    runs: dict[str, Run]


class _InParts:
    """The same batch part by part, the state carried from one to the next."""

    def __init__(self, run: _Probe, output_shape: OutputShape | None, layout: StateLayout, begin: State) -> None:
        self._run, self._output_shape, self._layout, self._begin = run, output_shape, layout, begin

    def refusal(self, returned: Returned) -> str | None:
        """Why the module cannot be run so, as the end of a sentence, given what it returned for the whole batch."""
        if not self._run.program.takes_state:
            return self._run.program.takes_no_state
        if returned.state is None:
            return self._run.program.gives_no_state
        if self._output_shape is not None and self._output_shape.own_steps is not None:
            return "it predicts steps of its own, behind the last step of a sequence"
        if self._run.inputs.shape[1] == 1:
            return "it was tried with `trial_steps` = 1, which cannot be divided"
        try:
            is_same = self._is_same() and self._is_masked(returned)
        except ModuleFailed as error:
            return f"a trial in parts failed: {error}"
        return None if is_same else "run in parts, from the state that it gave back, it gives something else"

    def _is_same(self) -> bool:
        """Whether predictions, states and what the recurrent modules read and gave are the same in parts."""
        inputs = self._run.inputs
        count, steps = inputs.shape[:2]
        whole, state, parts = self._made(inputs, None), self._layout.rows(self._begin, count), list[_Made]()
        middle = (steps - 1) // 2
        for part in inputs.split_with_sizes([size for size in (1, middle, steps - 1 - middle) if size], dim=1):
            parts.append(self._made(part, state))
            state, runs = parts[-1].state, parts[-1].runs
            if any(set(runs[name].lengths.tolist()) != {part.shape[1]} for name in runs.keys() & whole.runs.keys()):
                return False  # a time axis of its own
        if whole.values is not None and not _same(self._joined(parts), whole.values, _PARTS_TOLERANCE):
            return False
        return _same_state(state, whole.state) and all(_continues(name, run, parts) for name, run in whole.runs.items())

    def _is_masked(self, returned: Returned) -> bool:
        """Whether the state of a shorter row of a batch is that at its own end."""
        lengths, inputs = self._run.lengths, self._run.inputs
        own = int(lengths[0])
        if own == inputs.shape[1]:
            return True
        alone = self._layout.read(self._run.returned(inputs[:1, :own], lengths[:1]).state, 1)
        batch = self._layout.read(returned.state, len(inputs))
        return _same_state(alone, State(*(value[:, :1] for value in batch)))

    def _made(self, inputs: Tensor, state: State | None) -> _Made:
        sequences, steps = inputs.shape[:2]
        lengths = torch.full((sequences,), steps)
        returned, calls = self._run.run(inputs, lengths, self._layout.given(state))
        shape = self._output_shape
        values = None if shape is None else shape.read(returned.prediction, lengths, steps)
        return _Made(values, self._layout.read(returned.state, sequences), self._run.runs(calls))

    def _joined(self, parts: Sequence[_Made]) -> Tensor:
        """The prediction of all steps; where there is one per sequence, that behind the last."""
        values = [part.values for part in parts if part.values is not None]
        return torch.cat(values, dim=1) if self._output_shape and self._output_shape.per_step else values[-1]


def _continues(name: str, whole: Run, parts: Sequence[_Made]) -> bool:
    """Whether a recurrent module reads and gives over all parts what it does over the whole."""
    runs = [part.runs[name] for part in parts if name in part.runs]
    if len(runs) < len(parts):
        return False
    inputs, output = torch.cat([run.inputs for run in runs], dim=1), torch.cat([run.output for run in runs], dim=1)
    return _same(inputs, whole.inputs, _PARTS_TOLERANCE) and _same(output, whole.output, _PARTS_TOLERANCE)


def _same_state(given: State, other: State) -> bool:
    return all(_same(*values, _PARTS_TOLERANCE) for values in zip(given, other, strict=True))


def _same(given: Tensor, other: Tensor, tolerance: float = _TOLERANCE) -> bool:
    if given.shape != other.shape:
        return False
    return float((given - other).abs().max()) <= tolerance * (1 + float(other.abs().max()))
