"""How far back gradients reach: the Jacobian of a layer's hidden state with respect to its states some steps before.

∂h_T/∂h_t and ∂h_T/∂c_t follow from the chain rule through the equations of the cell, step by step backwards. Shown is
their Frobenius norm over √units, so that the identity has 1. For layers of many units it is estimated by products with
random vectors of ±1 (Hutchinson 1990), whose mean square is that of the norm. The direct path of an LSTM from c_t to
c_T is f_{t+1}·…·f_T. The baseline is an untrained Elman network of the same size and inputs, as PyTorch initialises it:
∂h_t/∂h_{t−1} = diag(1 − h_t²)·W_hh.
"""

from __future__ import annotations

import math
from typing import Any

import torch
from torch import Tensor, nn

from gatescope.analysis.analysis import EVERY_CELL, Analysis, OneStep
from gatescope.analysis.result import Findings
from gatescope.analysis.retention import retention_of
from gatescope.analysis.subject import Subject
from gatescope.cells import RNN, Cell, Tensors
from gatescope.selection import Selection
from gatescope.spec import Spec
from gatescope.weights import Weights

EXACT_UNITS = 64
"""Up to so many units the norm is exact; beyond, it is estimated by as many random vectors."""

BASELINE_SEEDS = 3
"""Untrained networks whose mean is the baseline."""

CANCELLED_EVERY = 256  # steps
_SEED = 0


def gradient_flow(subject: Subject, parameters: Any) -> Findings:
    """Norms by distance, of each layer's forward direction, or of its reverse one where that alone is looked at."""
    one = subject.only(parameters.sequence)
    direction = one.scope.directions[0]
    step = one.step(parameters.time_step)
    order = list(range(step + 1)) if direction == "forward" else list(range(one.lengths[0] - 1, step - 1, -1))
    states = one.spec.cell.states
    names = (*states, *(["direct_path"] if "cell_state" in states else []), "elman_baseline")
    arrays: dict[str, list[Tensor]] = {name: [] for name in names}
    for index, layer in enumerate(one.scope.layers):
        inputs, initial, weights = _layer(one, layer, direction, order)
        own = one.within(index, len(one.scope.layers))
        norms = _norms(own.within(0, 1 + BASELINE_SEEDS), one.spec.cell, inputs, initial, weights)
        for name, values in zip(states, norms, strict=True):
            arrays[name].append(values)
        if "direct_path" in arrays:
            arrays["direct_path"].append(_direct_path(one, layer, direction, order))
        arrays["elman_baseline"].append(_baseline(own, inputs))
    found = {name: torch.stack(values).double().numpy() for name, values in arrays.items()}
    is_exact = one.spec.hidden_state_size <= EXACT_UNITS
    notes = [] if is_exact else [f"norms are estimated with {EXACT_UNITS} random vectors"]
    return Findings(found, {"distance": range(len(order))}, notes=notes)


def _layer(subject: Subject, layer: int, direction: str, order: list[int]) -> tuple[Tensor, Tensors, Weights]:
    """What a layer and direction reads, (time, feature) in its order; where it begins, (unit,) each; its weights."""
    spec = subject.spec
    inputs = subject.inputs[0]
    if layer:
        below = subject.trace(Selection(signals=("hidden_state",), layers=(layer - 1,)))
        inputs = torch.cat(list(below.hidden_state[0, 0]), dim=-1)  # (time, directions · unit)
    entry = layer * spec.num_directions + spec.directions.index(direction)
    initial = tuple(state[entry, 0].double().cpu() for state in subject.initial_state)
    weights = Weights.of(subject.module, layer, direction).to(torch.empty(0, dtype=torch.float64))
    return inputs[order].double().cpu(), initial, weights


def _norms(subject: Subject, cell: Cell, inputs: Tensor, initial: Tensors, weights: Weights) -> list[Tensor]:
    """The norm (distance,) of the Jacobian of the last hidden state with respect to each state, by distance.

    Args:
        subject: says whether anybody waits.
        cell: whose equations are run.
        inputs: (time, feature), in the order in which they are read.
        initial: each state (unit,).
        weights: of the layer and direction.
    """
    steps, states = [], initial
    for x in inputs:
        steps.append(cell.step(x[None], tuple(state[None] for state in states), weights))
        states = tuple(steps[-1][name][0] for name in cell.states)
    vectors = _vectors(len(initial[0]))  # (vector, unit)
    gradients = (vectors, *(vectors.new_zeros(len(vectors), len(state)) for state in initial[1:]))
    norms = []
    for done, place in enumerate(reversed(range(len(steps)))):
        if done % CANCELLED_EVERY == 0:
            subject.advance(done, len(steps))
        norms.append([_norm(gradient, vectors) for gradient in _total(cell, steps[place], gradients, weights)])
        if place:
            before = tuple(steps[place - 1][name] for name in cell.states)
            gradients = _back(cell, inputs[place], before, weights, gradients)
    return [torch.stack(column) for column in zip(*norms, strict=True)]


def _total(cell: Cell, signals: dict[str, Tensor], gradients: Tensors, weights: Weights) -> Tensors:
    """The gradients with what reaches the cell state through the hidden state of the same step: h = o⊙tanh(c)."""
    function = cell.functions.output
    if function is None:
        return gradients
    with torch.enable_grad():
        cell_state = signals["cell_state"].detach().requires_grad_()
        (slope,) = torch.autograd.grad(function.apply(cell_state).sum(), cell_state)
    hidden, cell_gradient = gradients
    unprojected = hidden if weights.weight_hr is None else hidden @ weights.weight_hr
    return hidden, cell_gradient + unprojected * signals["output_gate"] * slope


def _back(cell: Cell, x: Tensor, states: Tensors, weights: Weights, gradients: Tensors) -> Tensors:
    """The gradients with respect to the states (1, unit) before a step, from those after it; a row for each vector."""
    rows = len(gradients[0])
    with torch.enable_grad():
        leaves = tuple(state.expand(rows, -1).clone().requires_grad_() for state in states)
        signals = cell.step(x.expand(rows, -1), leaves, weights)
        return torch.autograd.grad(tuple(signals[name] for name in cell.states), leaves, gradients)


def _vectors(units: int) -> Tensor:
    """(vector, unit) whose mean outer product, times their number, is the identity."""
    if units <= EXACT_UNITS:
        return torch.eye(units, dtype=torch.float64)
    drawn = torch.randint(0, 2, (EXACT_UNITS, units), generator=torch.Generator().manual_seed(_SEED))
    return torch.where(drawn == 0, -1.0, 1.0).double() / math.sqrt(EXACT_UNITS)


def _norm(gradient: Tensor, vectors: Tensor) -> Tensor:
    norm: Tensor = gradient.square().sum().sqrt() / vectors.shape[1] ** 0.5
    return norm


def _direct_path(subject: Subject, layer: int, direction: str, order: list[int]) -> Tensor:
    """(distance,) the root mean square over units of the product of the gates that keep the cell state."""
    retention = retention_of(subject.spec.cell)
    if retention is None:
        raise TypeError("no gate keeps the state")
    gates = subject.at(layer, direction).signals(retention.gate)[retention.gate][0, 0, 0, order].double().cpu()
    products = torch.cat([torch.ones_like(gates[:1]), gates.flip(0)[:-1].cumprod(0)])
    return products.square().mean(-1).sqrt()


def _baseline(subject: Subject, inputs: Tensor) -> Tensor:
    """(distance,) of untrained Elman networks."""
    spec, found = Spec(inputs.shape[1], subject.spec.hidden_state_size, cell=RNN), []
    for seed in range(BASELINE_SEEDS):
        with torch.random.fork_rng(devices=[]):
            torch.manual_seed(seed)
            module = nn.RNN(spec.input_size, spec.hidden_size)
        weights = Weights.of(module, 0, "forward").to(inputs)
        part = subject.within(1 + seed, 1 + BASELINE_SEEDS)
        (norms,) = _norms(part, RNN, inputs, (inputs.new_zeros(spec.hidden_size),), weights)
        found.append(norms)
    return torch.stack(found).mean(0)


ANALYSIS = Analysis(
    name="gradient_flow",
    title="How far back gradients reach",
    question="How much of what happens now could be learnt from what happened many steps before?",
    arrays=dict.fromkeys(("hidden_state", "cell_state", "direct_path", "elman_baseline"), ("layer", "distance")),
    cells=EVERY_CELL,
    parameters=OneStep,
    run=gradient_flow,
)
