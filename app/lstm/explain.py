"""`explain`: the walk-through of one unit where it happened, at one time step of a sequence."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass, replace

import torch
from torch import Tensor, nn

from app.errors import InvalidInput, Place
from app.lstm.selection import Selection
from app.lstm.spec import LSTMSpec
from app.lstm.state import State
from app.lstm.trace import Trace, trace
from app.lstm.walkthrough import Walkthrough, walk
from app.lstm.weights import Weights


@dataclass(frozen=True)
class Point:
    """One unit of one layer and direction at one time step; `unit` is the cell's, `time_step` is in input time."""

    layer: int
    direction: str
    time_step: int
    unit: int

    def resolve(self, spec: LSTMSpec, steps: int) -> Point:
        """The same point in a sequence of this many steps, with a `time_step` that counts from its start.

        Raises:
            InvalidInput: this LSTM or this sequence has no such layer, direction, time step or unit.
        """
        if places := list(self._missing(spec, steps)):
            raise InvalidInput.at(*places)
        return replace(self, time_step=self.time_step % steps)

    def previous_time_step(self, steps: int) -> int | None:
        """The step that its direction read before; None at its first one. The point must be resolved."""
        previous = self.time_step - 1 if self.direction == "forward" else self.time_step + 1
        return previous if 0 <= previous < steps else None

    def selection(self, spec: LSTMSpec, steps: int) -> Selection:
        """What of the trace the walk-through is made from: the states of this layer and the one below, at two steps."""
        previous = self.previous_time_step(steps)
        around = [self.time_step] if previous is None else sorted((self.time_step, previous))
        return Selection(
            signals=("cell_state", "hidden_state"),
            layers=tuple(range(max(self.layer - 1, 0), self.layer + 1)),
            directions=spec.directions,
            time=slice(around[0], around[-1] + 1),
        )

    def _missing(self, spec: LSTMSpec, steps: int) -> Iterator[Place]:
        if not 0 <= self.layer < spec.num_layers:
            yield _no("layer", self.layer, f"model has 0 to {spec.num_layers - 1}")
        if self.direction not in spec.directions:
            yield _no("direction", repr(self.direction), f"model has {', '.join(map(repr, spec.directions))}")
        if not -steps <= self.time_step < steps:
            known = f"sequence has 0 to {steps - 1}, or -{steps} to -1 counted from its end"
            yield _no("time_step", self.time_step, known)
        if not 0 <= self.unit < spec.hidden_size:
            yield _no("unit", self.unit, f"model has 0 to {spec.hidden_size - 1}")


@dataclass(frozen=True)
class Explained:
    """A walk-through and where it happened."""

    point: Point
    previous_time_step: int | None  # in input time; None where the direction started from the initial state
    walkthrough: Walkthrough
    residual: float  # max |walk-through − trace| of the unit's cell state and its hidden state (all of it if projected)


def explain(module: nn.LSTM, sequence: Tensor, initial_state: State, point: Point) -> Explained:
    """Trace a sequence, as far as it is read, and walk one unit through one of its steps.

    Args:
        module: any `nn.LSTM`.
        sequence: (time, feature), on the module's device.
        initial_state: `nn.LSTM`'s (h0, c0) with a batch of 1.
        point: which unit, where and when.

    Raises:
        InvalidInput: there is no such layer, direction, time step or unit.
    """
    spec, steps = LSTMSpec.from_module(module), len(sequence)
    point = point.resolve(spec, steps)
    selection, previous = point.selection(spec, steps), point.previous_time_step(steps)
    read = sequence if spec.bidirectional else sequence[: point.time_step + 1]
    states = _States(trace(module, read[None], initial_state=initial_state, selection=selection), spec)
    x = states.below(point.time_step) if point.layer else sequence[point.time_step]
    walked = walk(Weights.of(module, point.layer, point.direction), x, *states.at(point, previous), point.unit)
    return Explained(point, previous, walked, _residual(walked, states.at(point, point.time_step), point.unit))


class _States:
    """The traced states of one sequence's layer, which stands last in the trace, and of the layer below it."""

    def __init__(self, traced: Trace, spec: LSTMSpec) -> None:
        self._traced, self._spec = traced, spec
        self._first_step = traced.selection.time.start

    def at(self, point: Point, time_step: int | None) -> tuple[Tensor, Tensor]:
        """The hidden and cell state of the point's layer and direction; without a time step, the initial ones."""
        direction = self._spec.directions.index(point.direction)
        if time_step is None:
            entry = point.layer * self._spec.num_directions + direction
            hidden, cell = (state[entry, 0] for state in self._traced.initial_state)
            return hidden, cell
        step = time_step - self._first_step
        return self._traced.hidden_state[0, -1, direction, step], self._traced.cell_state[0, -1, direction, step]

    def below(self, time_step: int) -> Tensor:
        """What a higher layer reads: the hidden states of the layer below, side by side (directions · unit,)."""
        return self._traced.hidden_state[0, 0, :, time_step - self._first_step].flatten()


def _residual(walked: Walkthrough, traced: tuple[Tensor, Tensor], unit: int) -> float:
    hidden, cell = (state.to("cpu", torch.float64) for state in traced)
    update = walked.hidden_update
    hidden_gap = hidden[unit] - update.value if update.projected is None else hidden - update.projected
    cell_gap = cell[unit] - walked.cell_update.cell_state
    return float(torch.cat((hidden_gap.reshape(-1), cell_gap.reshape(-1))).abs().max())


def _no(field: str, given: object, known: str) -> Place:
    return Place((field,), f"{field} has no {given}; this {known}")
