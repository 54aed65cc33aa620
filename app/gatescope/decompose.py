"""`walk`: one unit at one time step, with every number of the six equations, as a textbook draws it.

In float64, so that the terms of a sum add up to what stands beside them.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable, Iterator
from dataclasses import dataclass, replace

import torch
from torch import Tensor, nn

from gatescope import cells
from gatescope.errors import InvalidInput, Place
from gatescope.selection import Selection
from gatescope.spec import GATES, Spec
from gatescope.state import State
from gatescope.tracing import Trace, trace
from gatescope.weights import Weights

GATE_NAMES: tuple[str, ...] = cells.Step._fields[:GATES]  # in the order of PyTorch's rows: i, f, g, o
_ACTIVATIONS: dict[str, Callable[[Tensor], Tensor]] = {"sigmoid": torch.sigmoid, "tanh": torch.tanh}


@dataclass(frozen=True)
class Term:
    """One term of a dot product: value · weight."""

    index: int
    value: float
    weight: float
    contribution: float


@dataclass(frozen=True)
class Products:
    """A dot product, term by term."""

    values: Tensor  # (term,) what comes in: the features of x_t, or the units of h_{t−1}
    weights: Tensor  # (term,)

    @property
    def contributions(self) -> Tensor:
        """(term,) value · weight."""
        return self.values * self.weights

    @property
    def total(self) -> float:
        """The sum of all contributions."""
        return float(self.contributions.sum())

    def largest(self, count: int) -> list[Term]:
        """The `count` largest terms by absolute contribution, largest first, without those that contribute nothing."""
        contributions = self.contributions
        order = contributions.abs().argsort(descending=True, stable=True)[:count].tolist()
        columns = (self.values.tolist(), self.weights.tolist(), contributions.tolist())
        return [Term(index, *(column[index] for column in columns)) for index in order if columns[-1][index]]


@dataclass(frozen=True)
class Gate:
    """One gate of one unit: activation(W_i·x_t + W_h·h_{t−1} + b_ih + b_hh)."""

    inputs: Products  # W_i·x_t
    recurrent: Products  # W_h·h_{t−1}
    bias_input: float | None  # b_ih; None for an nn.LSTM without bias
    bias_recurrent: float | None  # b_hh
    activation: str  # "sigmoid" or "tanh"

    @property
    def terms(self) -> list[float]:
        """What is summed: both contributions, and the biases where there are any."""
        terms = (self.inputs.total, self.recurrent.total, self.bias_input, self.bias_recurrent)
        return [term for term in terms if term is not None]

    @property
    def sum(self) -> float:
        """What the activation is taken of."""
        return sum(self.terms)

    @property
    def value(self) -> float:
        """The gate itself: 0…1 for a sigmoid, −1…1 for tanh."""
        return float(_ACTIVATIONS[self.activation](torch.tensor(self.sum, dtype=torch.float64)))

    @property
    def formula(self) -> str:
        """The gate with its numbers, such as "sigmoid(0.41 + 0.12 + 0.03 − 0.01) = 0.6341"."""
        return f"{self.activation}({_added(self.terms)}) = {number(self.value)}"


@dataclass(frozen=True)
class CellUpdate:
    """c_t = f·c_{t−1} + i·g of one unit."""

    forget_gate: float
    previous_cell_state: float
    input_gate: float
    cell_candidate: float

    @property
    def kept(self) -> float:
        """f·c_{t−1}."""
        return self.forget_gate * self.previous_cell_state

    @property
    def written(self) -> float:
        """i·g."""
        return self.input_gate * self.cell_candidate

    @property
    def cell_state(self) -> float:
        """c_t."""
        return self.kept + self.written

    @property
    def formula(self) -> str:
        """The update with its numbers, such as "0.7 · 0.5 + 0.2 · (−0.3) = 0.29"."""
        kept = f"{number(self.forget_gate)} · {_factor(self.previous_cell_state)}"
        written = f"{number(self.input_gate)} · {_factor(self.cell_candidate)}"
        return f"{kept} + {written} = {number(self.cell_state)}"


@dataclass(frozen=True)
class HiddenUpdate:
    """o·tanh(c_t) of one unit: its hidden state, or with `proj_size` its part in the hidden states of all."""

    output_gate: float
    cell_state: float
    projected: Tensor | None  # (proj_size,) the hidden state that all units together make; None without a projection

    @property
    def tanh_cell_state(self) -> float:
        """tanh(c_t)."""
        return float(torch.tensor(self.cell_state, dtype=torch.float64).tanh())

    @property
    def value(self) -> float:
        """o·tanh(c_t)."""
        return self.output_gate * self.tanh_cell_state

    @property
    def formula(self) -> str:
        """The update with its numbers, such as "0.6 · tanh(0.29) = 0.6 · 0.2821 = 0.1693"."""
        gate = number(self.output_gate)
        spelled = f"{gate} · tanh({number(self.cell_state)}) = {gate} · {_factor(self.tanh_cell_state)}"
        return f"{spelled} = {number(self.value)}"


@dataclass(frozen=True)
class Walkthrough:
    """One unit at one time step."""

    gates: dict[str, Gate]  # by name, in the order i, f, g, o
    cell_update: CellUpdate
    hidden_update: HiddenUpdate


def walk(weights: Weights, x: Tensor, h: Tensor, c: Tensor, unit: int) -> Walkthrough:
    """Walk one unit through one time step, in float64 on the CPU.

    Args:
        weights: the parameters of the layer and direction.
        x: the layer's input x_t (feature,).
        h: the hidden state h_{t−1} (proj_size or hidden_size,), of the step that this direction read before.
        c: the cell state c_{t−1} (hidden_size,).
        unit: which of the cell's units, 0…hidden_size − 1.
    """
    x, h, c = (value.detach().to("cpu", torch.float64) for value in (x, h, c))
    gates = {name: _gate(name, weights, x, h, index * len(c) + unit) for index, name in enumerate(GATE_NAMES)}
    i, f, g, o = (gate.value for gate in gates.values())
    cell = CellUpdate(f, float(c[unit]), i, g)
    return Walkthrough(gates, cell, HiddenUpdate(o, cell.cell_state, _projected(weights, x, h, c)))


def number(value: float) -> str:
    """A number as the formulas write it: four significant digits, and a minus sign that is one."""
    return f"{value + 0.0:.4g}".replace("-", "−")  # adding zero makes −0 a 0


def _gate(name: str, weights: Weights, x: Tensor, h: Tensor, row: int) -> Gate:
    return Gate(
        inputs=Products(x, weights.weight_ih[row].detach().to(x)),
        recurrent=Products(h, weights.weight_hh[row].detach().to(h)),
        bias_input=None if weights.bias_ih is None else float(weights.bias_ih[row]),
        bias_recurrent=None if weights.bias_hh is None else float(weights.bias_hh[row]),
        activation="tanh" if name == "cell_candidate" else "sigmoid",
    )


def _projected(weights: Weights, x: Tensor, h: Tensor, c: Tensor) -> Tensor | None:
    if weights.weight_hr is None:
        return None
    return cells.step(x[None], h[None], c[None], weights.to(x)).hidden_state[0]  # (proj_size,)


def _added(terms: Iterable[float]) -> str:
    first, *rest = terms
    return number(first) + "".join(f" {'−' if term < 0 else '+'} {number(abs(term))}" for term in rest)


def _factor(value: float) -> str:
    return f"({number(value)})" if value < 0 else number(value)


@dataclass(frozen=True)
class Point:
    """One unit of one layer and direction at one time step; `unit` is the cell's, `time_step` is in input time."""

    layer: int
    direction: str
    time_step: int
    unit: int

    def resolve(self, spec: Spec, steps: int) -> Point:
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

    def selection(self, spec: Spec, steps: int) -> Selection:
        """What of the trace the walk-through is made from: the states of this layer and the one below, at two steps."""
        previous = self.previous_time_step(steps)
        around = [self.time_step] if previous is None else sorted((self.time_step, previous))
        return Selection(
            signals=("cell_state", "hidden_state"),
            layers=tuple(range(max(self.layer - 1, 0), self.layer + 1)),
            directions=spec.directions,
            time=slice(around[0], around[-1] + 1),
        )

    def _missing(self, spec: Spec, steps: int) -> Iterator[Place]:
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
    spec, steps = Spec.from_module(module), len(sequence)
    point = point.resolve(spec, steps)
    selection, previous = point.selection(spec, steps), point.previous_time_step(steps)
    read = sequence if spec.bidirectional else sequence[: point.time_step + 1]
    states = _States(trace(module, read[None], initial_state=initial_state, selection=selection), spec)
    x = states.below(point.time_step) if point.layer else sequence[point.time_step]
    walked = walk(Weights.of(module, point.layer, point.direction), x, *states.at(point, previous), point.unit)
    return Explained(point, previous, walked, _residual(walked, states.at(point, point.time_step), point.unit))


class _States:
    """The traced states of one sequence's layer, which stands last in the trace, and of the layer below it."""

    def __init__(self, traced: Trace, spec: Spec) -> None:
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
