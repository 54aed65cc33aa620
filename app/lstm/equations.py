"""The LSTM's six equations, written once, in the form and the names of PyTorch's own page.

Source: https://docs.pytorch.org/docs/stable/generated/torch.nn.LSTM.html

A plain loop over time in whatever precision the weights have. In float64 it is the oracle of every test; it is never
the fast way.
"""

from __future__ import annotations

from typing import NamedTuple

import torch
from torch import Tensor, nn

from app.lstm.spec import GATES, LSTMSpec
from app.lstm.state import State
from app.lstm.weights import Weights


class Step(NamedTuple):
    """The six signals at one time step, each (batch, unit)."""

    input_gate: Tensor
    forget_gate: Tensor
    cell_candidate: Tensor
    output_gate: Tensor
    cell_state: Tensor
    hidden_state: Tensor


def step(x: Tensor, h: Tensor, c: Tensor, weights: Weights) -> Step:
    """One time step of one layer and direction.

    Args:
        x: the input (batch, feature).
        h: the hidden state before (batch, proj_size or hidden_size).
        c: the cell state before (batch, hidden_size).
        weights: the layer's parameters.
    """
    z = x @ weights.weight_ih.T + h @ weights.weight_hh.T  # (batch, 4H)
    if weights.bias_ih is not None and weights.bias_hh is not None:
        z = z + weights.bias_ih + weights.bias_hh
    z_i, z_f, z_g, z_o = z.chunk(GATES, dim=-1)
    i = torch.sigmoid(z_i)
    f = torch.sigmoid(z_f)
    g = torch.tanh(z_g)
    o = torch.sigmoid(z_o)
    c = f * c + i * g
    h = o * torch.tanh(c)
    if weights.weight_hr is not None:
        h = h @ weights.weight_hr.T
    return Step(i, f, g, o, c, h)


def run(module: nn.LSTM, sequence: Tensor, initial_state: State | None = None) -> dict[str, Tensor]:
    """Every signal over one sequence, by the equations alone.

    Args:
        module: its weights are taken in the precision of `sequence`.
        sequence: (time, feature).
        initial_state: `nn.LSTM`'s (h0, c0) with a batch of 1; zeros when not given.

    Returns:
        The six signals, each (layer, direction, time, unit) in input time, and `output` (time, directions · unit).
    """
    spec = LSTMSpec.from_module(module)
    state = initial_state or State.zeros(spec, 1, sequence)
    signals: dict[str, list[Tensor]] = {name: [] for name in Step._fields}
    layer_input = sequence
    for layer in range(spec.num_layers):
        hidden = []
        for d, direction in enumerate(spec.directions):
            entry = layer * spec.num_directions + d
            h, c = state.hidden_state[entry], state.cell_state[entry]  # (1, unit)
            steps = _run_direction(layer_input, h, c, Weights.of(module, layer, direction).to(sequence), direction)
            for name in Step._fields:
                signals[name].append(steps[name])
            hidden.append(steps["hidden_state"])
        layer_input = torch.cat(hidden, dim=-1)  # (time, directions · unit)
    stacked = {name: torch.stack(values) for name, values in signals.items()}  # (layer · direction, time, unit)
    axes = (spec.num_layers, spec.num_directions)
    by_layer = {name: value.reshape(*axes, *value.shape[1:]) for name, value in stacked.items()}
    return by_layer | {"output": layer_input}


def _run_direction(sequence: Tensor, h: Tensor, c: Tensor, weights: Weights, direction: str) -> dict[str, Tensor]:
    order = range(len(sequence)) if direction == "forward" else reversed(range(len(sequence)))
    steps: dict[int, Step] = {}
    for t in order:
        steps[t] = step(sequence[t : t + 1], h, c, weights)
        h, c = steps[t].hidden_state, steps[t].cell_state
    in_input_time = [steps[t] for t in range(len(sequence))]
    return {name: torch.cat([getattr(s, name) for s in in_input_time]) for name in Step._fields}
