"""One unit at one time step, with every number of the cell's equations, as a textbook shows it.

All numbers are float64, so that the terms of a sum add up to the sum that is given.
"""

from __future__ import annotations

from collections.abc import Iterable, Iterator
from dataclasses import dataclass, replace
from math import ceil, log10, prod

import torch
from torch import Tensor, nn

from gatescope.cells import Cell, Function, Gate, Tensors
from gatescope.errors import InvalidInput, Place
from gatescope.selection import Selection
from gatescope.spec import Spec
from gatescope.state import State
from gatescope.tracing import Trace, trace
from gatescope.weights import Weights


@dataclass(frozen=True)
class Product:
    """One product of a dot product: value · weight."""

    index: int
    value: float
    weight: float
    contribution: float


@dataclass(frozen=True)
class DotProduct:
    """A dot product, product by product."""

    values: Tensor  # (product,): the features of x_t, or the units of h_{t−1}
    weights: Tensor  # (product,)

    @property
    def contributions(self) -> Tensor:
        """(product,) value · weight."""
        return self.values * self.weights

    @property
    def total(self) -> float:
        """The sum of all contributions."""
        return float(self.contributions.sum())

    def largest(self, count: int) -> list[Product]:
        """The `count` largest products by absolute value, the largest first, without those that are 0."""
        contributions = self.contributions
        order = contributions.abs().argsort(descending=True, stable=True)[:count].tolist()
        columns = (self.values.tolist(), self.weights.tolist(), contributions.tolist())
        return [Product(index, *(column[index] for column in columns)) for index in order if columns[-1][index]]


@dataclass(frozen=True)
class GateSum:
    """One gate of one unit: activation(W_i·x_t + b_ih + scale·(W_h·h_{t−1} + b_hh))."""

    inputs: DotProduct  # W_i·x_t
    recurrent: DotProduct  # W_h·h_{t−1}; where a gate scales the state, W_h·(gate⊙h_{t−1})
    bias_input: float | None  # b_ih; None for a module without bias
    bias_recurrent: float | None  # b_hh
    activation: Function
    recurrent_scale: float = 1.0

    @property
    def terms(self) -> dict[str, float]:
        """What is summed, by name and in the order of the equation: contributions, and biases where there are any."""
        scale = self.recurrent_scale
        terms = {"input_contribution": self.inputs.total, "recurrent_contribution": scale * self.recurrent.total}
        if self.bias_input is not None and self.bias_recurrent is not None:
            terms |= {"bias_input": self.bias_input, "bias_recurrent": scale * self.bias_recurrent}
        return terms

    @property
    def sum(self) -> float:
        """The argument of the activation."""
        return sum(self.terms.values())

    @property
    def value(self) -> float:
        """The gate itself: 0…1 of a sigmoid, −1…1 of tanh."""
        return _applied(self.activation, self.sum)

    @property
    def formula(self) -> str:
        """The gate with its numbers, such as "sigmoid(0.41 + 0.12 + 0.03 − 0.01) = 0.6341"."""
        return f"{self.activation.spelling.format(_added(self.terms.values()))} = {number(self.value)}"


@dataclass(frozen=True)
class FactorValue:
    """One factor of a term: a number, or a function of it."""

    argument: float
    function: Function | None

    @property
    def value(self) -> float:
        """The factor itself."""
        return self.argument if self.function is None else _applied(self.function, self.argument)

    @property
    def spelled(self) -> str:
        """The factor with its function, such as "tanh(0.29)"."""
        return _factor(self.argument) if self.function is None else self.function.spelling.format(number(self.argument))


@dataclass(frozen=True)
class UpdateTerm:
    """One term of a state's equation: the product of its factors."""

    factors: tuple[FactorValue, ...]

    @property
    def value(self) -> float:
        """The product."""
        return prod(factor.value for factor in self.factors)


@dataclass(frozen=True)
class StateUpdate:
    """The equation of one state of one unit: the sum of its terms, before any projection."""

    terms: dict[str, UpdateTerm]  # by name, such as "forget_term"
    projected: Tensor | None  # (proj_size,) the state that all units together make; None without a projection

    @property
    def value(self) -> float:
        """The sum of the terms."""
        return sum(term.value for term in self.terms.values())

    @property
    def formula(self) -> str:
        """The equation with its numbers, such as "0.7 · 0.5 + 0.2 · (−0.3) = 0.29"."""
        factors = [term.factors for term in self.terms.values()]
        spelled = " + ".join(" · ".join(factor.spelled for factor in each) for each in factors)
        numbers = " + ".join(" · ".join(_factor(factor.value) for factor in each) for each in factors)
        return " = ".join([spelled, *([numbers] if numbers != spelled else []), number(self.value)])


@dataclass(frozen=True)
class Decomposition:
    """One unit at one time step."""

    gates: dict[str, GateSum]  # by name, in the cell's order
    previous: dict[str, float]  # the unit's states of the step before, by name; projected ones are left out
    updates: dict[str, StateUpdate]  # by state, in the cell's order


def decompose_step(cell: Cell, weights: Weights, x: Tensor, previous: Tensors, unit: int) -> Decomposition:
    """Decompose one time step of one unit, in float64 on the CPU.

    Args:
        cell: of the module.
        weights: the parameters of the layer and direction.
        x: the layer's input x_t (feature,).
        previous: each state (size,) of the step that this direction read before.
        unit: one of the cell's units, 0…hidden_size − 1.
    """
    x, *states = (value.detach().to("cpu", torch.float64) for value in (x, *previous))
    gates: dict[str, GateSum] = {}
    for index, gate in enumerate(cell.gates):
        row, h, scale = index * weights.hidden_size + unit, states[0], 1.0
        if gate.recurrent_scale is not None and gate.scales_state:  # of all units, not of this one alone
            h = h * _computed(cell, gate.recurrent_scale, weights, x, states)
        elif gate.recurrent_scale is not None:
            scale = gates[gate.recurrent_scale].value
        gates[gate.name] = _gate_sum(gate, weights, x, h, row, scale)
    before = {
        name: float(state[unit])
        for name, state in zip(cell.states, states, strict=True)
        if len(state) == weights.hidden_size
    }
    values = {name: gate.value for name, gate in gates.items()}
    updates: dict[str, StateUpdate] = {}
    for update in cell.updates:
        terms = {
            term.name: UpdateTerm(
                tuple(
                    FactorValue((before if factor.is_previous else values)[factor.name], factor.function)
                    for factor in term.factors
                )
            )
            for term in update.terms
        }
        updates[update.state] = StateUpdate(terms, _projected(cell, update.state, weights, x, states))
        values[update.state] = updates[update.state].value
    return Decomposition(gates, before, updates)


def number(value: float) -> str:
    """A number as the formulas write it: four significant digits, and a true minus sign.

    What is not 1 or −1, the bounds of gates and states, has as many digits as it takes to tell it from them.
    """
    written = f"{value + 0.0:.4g}"  # adding zero makes −0 a 0
    if written in ("1", "-1") and abs(value) != 1:
        written = f"{value:.{ceil(-log10(abs(1 - abs(value))))}f}"
    return written.replace("-", "−")


def _gate_sum(gate: Gate, weights: Weights, x: Tensor, h: Tensor, row: int, scale: float) -> GateSum:
    return GateSum(
        inputs=DotProduct(x, weights.weight_ih[row].detach().to(x)),
        recurrent=DotProduct(h, weights.weight_hh[row].detach().to(h)),
        bias_input=None if weights.bias_ih is None else float(weights.bias_ih[row]),
        bias_recurrent=None if weights.bias_hh is None else float(weights.bias_hh[row]),
        activation=gate.activation,
        recurrent_scale=scale,
    )


def _projected(cell: Cell, state: str, weights: Weights, x: Tensor, states: list[Tensor]) -> Tensor | None:
    if weights.weight_hr is None or not cell.is_projected(state):
        return None
    return _computed(cell, state, weights, x, states)  # (proj_size,)


def _computed(cell: Cell, signal: str, weights: Weights, x: Tensor, states: list[Tensor]) -> Tensor:
    """A signal of all units at this step, (unit,)."""
    return cell.step(x[None], tuple(value[None] for value in states), weights.to(x))[signal][0]


def _applied(function: Function, argument: float) -> float:
    return float(function.apply(torch.tensor(argument, dtype=torch.float64)))


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
            InvalidInput: the module or the sequence has no such layer, direction, time step or unit.
        """
        if places := list(self._missing(spec, steps)):
            raise InvalidInput.at(*places)
        return replace(self, time_step=self.time_step % steps)

    def previous_time_step(self, steps: int) -> int | None:
        """The step that its direction read before; None at its first one. The point must be resolved."""
        previous = self.time_step - 1 if self.direction == "forward" else self.time_step + 1
        return previous if 0 <= previous < steps else None

    def selection(self, spec: Spec, steps: int) -> Selection:
        """The part of the trace that is read: the states of this layer and the one below, at two steps."""
        previous = self.previous_time_step(steps)
        around = [self.time_step] if previous is None else sorted((self.time_step, previous))
        return Selection(
            signals=spec.cell.states,
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
class Explanation:
    """The decomposition of a point, and how far it is from the trace."""

    point: Point
    previous_time_step: int | None  # in input time; None where the direction started from the initial state
    decomposition: Decomposition
    residual: float  # max |decomposition − trace| over the unit's states; of a projected state over all its units


def explain(module: nn.RNNBase, sequence: Tensor, initial_state: State, point: Point) -> Explanation:
    """Trace a sequence as far as it is read, and decompose one of its steps for one unit.

    Args:
        module: any `nn.LSTM`, `nn.GRU` or `nn.RNN`.
        sequence: (time, feature), on the module's device.
        initial_state: each (layers · directions, 1, size).
        point: which layer, direction, time step and unit.

    Raises:
        InvalidInput: there is no such layer, direction, time step or unit.
    """
    spec, steps = Spec.from_module(module), len(sequence)
    point = point.resolve(spec, steps)
    selection, previous = point.selection(spec, steps), point.previous_time_step(steps)
    read = sequence if spec.bidirectional else sequence[: point.time_step + 1]
    states = _TracedStates(trace(module, [read], initial_state=initial_state, selection=selection))
    x = states.below(point.time_step) if point.layer else sequence[point.time_step]
    weights = Weights.of(module, point.layer, point.direction).detached()
    decomposition = decompose_step(spec.cell, weights, x, states.at(point, previous), point.unit)
    residual = _residual(spec.cell, decomposition, states.at(point, point.time_step), point.unit)
    return Explanation(point, previous, decomposition, residual)


class _TracedStates:
    """The traced states of one sequence: of a layer, which stands last in the trace, and of the layer below it."""

    def __init__(self, traced: Trace) -> None:
        self._traced, self._spec = traced, traced.spec
        self._first_step = traced.selection.time.start

    def at(self, point: Point, time_step: int | None) -> Tensors:
        """The states (size,) of the point's layer and direction; without a time step, the initial ones."""
        direction = self._spec.directions.index(point.direction)
        if time_step is None:
            entry = point.layer * self._spec.num_directions + direction
            return tuple(state[entry, 0] for state in self._traced.initial_state)
        step = time_step - self._first_step
        return tuple(self._traced.signals[name][0, -1, direction, step] for name in self._spec.cell.states)

    def below(self, time_step: int) -> Tensor:
        """What a higher layer reads: the hidden states of the layer below, side by side (directions · unit,)."""
        hidden_state = self._traced.signals[self._spec.cell.states[0]]
        return hidden_state[0, 0, :, time_step - self._first_step].flatten()


def _residual(cell: Cell, decomposition: Decomposition, traced: Tensors, unit: int) -> float:
    differences = []
    for name, state in zip(cell.states, traced, strict=True):
        exact, update = state.to("cpu", torch.float64), decomposition.updates.get(name)
        if update is None:  # the gate of this name is the state
            differences.append(exact[unit] - decomposition.gates[name].value)
        else:
            differences.append(exact[unit] - update.value if update.projected is None else exact - update.projected)
    return float(torch.cat([difference.reshape(-1) for difference in differences]).abs().max())


def _no(field: str, given: object, known: str) -> Place:
    return Place((field,), f"{field} has no {given}; this {known}")
