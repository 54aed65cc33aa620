"""The LSTM, and its variants with other functions."""

from __future__ import annotations

import math
from collections.abc import Callable, Mapping
from dataclasses import replace
from functools import partial
from itertools import product

import torch
from torch import Tensor, nn

from gatescope.cells.cell import Cell, Edit, Factor, Gate, Kept, Signal, Tensors, Term, Update, colour_scale
from gatescope.cells.functions import FAST_TANH, LINEAR, SIGMOID, TANH, Function, Functions, fast_tanh
from gatescope.weights import Weights

_GATES = ("input_gate", "forget_gate", "cell_candidate", "output_gate")


def lstm(gate: Function, candidate: Function, output: Function) -> Cell:
    """The LSTM with these functions: of its three gates, of the candidate, and of the cell state."""
    signals = (
        ("input_gate", "i", gate, "how much of the candidate is added to the cell state"),
        ("forget_gate", "f", gate, "how much of the previous cell state remains"),
        ("cell_candidate", "g", candidate, "what the input gate lets into the cell state"),
        ("output_gate", "o", gate, f"how much of {output.spelling.format('cell state')} becomes the hidden state"),
    )
    low, high = _product_bounds(gate, output)
    spelled = f"the output: h_t = o_t·{output.spelling.format('c_t')}"
    return Cell(
        name="lstm",
        module=nn.LSTM,
        cell_module=nn.LSTMCell,
        states=("hidden_state", "cell_state"),
        gates=tuple(Gate(name, function) for name, _, function, _ in signals),
        signals=(
            *(
                Signal(name, symbol, function.low, function.high, colour_scale(function.low), text)
                for name, symbol, function, text in signals
            ),
            Signal("cell_state", "c", None, None, "diverging", "the memory: c_t = f_t·c_{t−1} + i_t·g_t"),
            Signal("hidden_state", "h", low, high, colour_scale(low), spelled, is_projected=True),
        ),
        updates=(
            Update(
                "cell_state",
                (
                    Term("forget_term", (Factor("forget_gate"), Factor("cell_state", is_previous=True))),
                    Term("input_term", (Factor("input_gate"), Factor("cell_candidate"))),
                ),
            ),
            Update(
                "hidden_state",
                (
                    Term(
                        "output_term",
                        (
                            Factor("output_gate"),
                            Factor("cell_state", function=None if output == LINEAR else output),
                        ),
                    ),
                ),
            ),
        ),
        blocks=(_GATES,),
        residual_signals=("output_gate", "cell_state", "hidden_state"),
        backends=("stepwise", "loop"),
        functions=Functions(candidate, gate, output),
        step=partial(_step, gate, candidate, output),
        residual=partial(_residual, fast_tanh if output == TANH else output.apply),
        stepwise=partial(_stepwise, (gate, candidate, output)),
    )


def _product_bounds(one: Function, other: Function) -> tuple[float | None, float | None]:
    """The least and the greatest product of a value of each; None where there is none."""
    ends = [
        (-math.inf if function.low is None else function.low, math.inf if function.high is None else function.high)
        for function in (one, other)
    ]
    products = [0 if 0 in pair else pair[0] * pair[1] for pair in product(*ends)]  # 0·∞ is not reached
    low, high = min(products), max(products)
    return (None if low == -math.inf else low), (None if high == math.inf else high)


def _step(
    gate: Function, candidate: Function, output: Function, x: Tensor, states: Tensors, weights: Weights
) -> dict[str, Tensor]:
    """The six equations of https://docs.pytorch.org/docs/stable/generated/torch.nn.LSTM.html."""
    h, c = states
    z = x @ weights.weight_ih.T + h @ weights.weight_hh.T  # (batch, 4H)
    if weights.bias_ih is not None and weights.bias_hh is not None:
        z = z + weights.bias_ih + weights.bias_hh
    z_i, z_f, z_g, z_o = z.chunk(4, dim=-1)
    i = gate.apply(z_i)
    f = gate.apply(z_f)
    g = candidate.apply(z_g)
    o = gate.apply(z_o)
    c = f * c + i * g
    h = o * output.apply(c)
    if weights.weight_hr is not None:
        h = h @ weights.weight_hr.T
    return {
        "input_gate": i,
        "forget_gate": f,
        "cell_candidate": g,
        "output_gate": o,
        "cell_state": c,
        "hidden_state": h,
    }


def _replay(weights: Weights, inputs: Tensor, initial: Tensors, hidden_state: Tensor) -> tuple[Tensors, Tensors]:
    """With every h_{t−1} known, the gates of all steps are one matrix product; only the cell state is scanned."""
    h0, c0 = initial
    previous = torch.cat((h0, hidden_state[:-1]))  # h_{t−1}: (time, batch, P)
    z = nn.functional.linear(inputs, weights.weight_ih, weights.bias)  # (time, batch, 4H)
    z.flatten(0, 1).addmm_(previous.flatten(0, 1), weights.weight_hh.T)
    size = weights.hidden_size
    i_f, g, o = z.split_with_sizes([2 * size, size, size], dim=-1)
    i, f = i_f.sigmoid_().chunk(2, dim=-1)  # in place: (time, batch, H)
    g.mul_(2).sigmoid_().mul_(2).sub_(1)  # tanh, as `fast_tanh` computes it
    o.sigmoid_()
    return (z,), (hidden_state, _scan(f, i * g, c0[0]))


def _scan(decay: Tensor, added: Tensor, initial: Tensor) -> Tensor:
    """s_t = decay_t·s_{t−1} + added_t over (time, batch, unit), from `initial` (batch, unit); written into `added`."""
    state = initial
    for factor, value in zip(decay.unbind(), added.unbind(), strict=True):
        state = value.addcmul_(factor, state)
    return added


def _stepwise(
    functions: tuple[Function, Function, Function],
    weights: Weights,
    inputs: Tensor,
    initial: Tensors,
    kept: Kept,
    edit: Edit | None = None,
) -> tuple[Tensors, Tensors]:
    """The inputs' part of all gates is one matrix product; each step adds to it, in place where it can."""
    gate, candidate, output = functions
    (time, batch, _), size, weight = inputs.shape, weights.hidden_size, weights.weight_hh.T
    is_shared = inputs.stride(1) == 0  # every sequence reads the same memory, as variants of one sequence do
    of_inputs = nn.functional.linear(inputs[:, :1] if is_shared else inputs, weights.weight_ih, weights.bias)
    if kept is Kept.STATES:
        z = of_inputs.new_empty(1, batch, 4 * size).expand(time, -1, -1)  # one step's memory stays in the cache
    else:
        z = of_inputs.new_empty(time, batch, 4 * size) if is_shared else of_inputs  # (time, batch, 4H)
    (h, c), hidden_size = (state[0] for state in initial), weights.weight_hh.shape[1]
    hidden_state, cell_state = z.new_empty(time, batch, hidden_size), z.new_empty(time, batch, size)
    i_f, g, o = z.split_with_sizes([2 * size, size, size], dim=-1)
    i, f = i_f.chunk(2, dim=-1)
    memory = (of_inputs, z, i_f, i, f, g, o, hidden_state, cell_state)
    steps = zip(*(values.unbind() for values in memory), strict=True)
    for step, (of_input, z_t, i_f_t, i_t, f_t, g_t, o_t, h_t, c_t) in enumerate(steps):
        torch.addmm(of_input, h, weight, out=z_t)
        gate.write(i_f_t, out=i_f_t)
        candidate.write(g_t, out=g_t)
        gate.write(o_t, out=o_t)
        if edit is not None:
            for name, values in zip(_GATES, (i_t, f_t, g_t, o_t), strict=True):
                edit(step, name, values)
        c = torch.mul(f_t, c, out=c_t).addcmul_(i_t, g_t)
        if edit is not None:
            edit(step, "cell_state", c)
        if weights.weight_hr is None:
            h = output.write(c, out=h_t).mul_(o_t)
        else:
            h = torch.mm(output.apply(c).mul_(o_t), weights.weight_hr.T, out=h_t)
        if edit is not None:
            h = edit(step, "hidden_state", h)
    return (z if kept > Kept.STATES else z[..., :0],), (hidden_state, cell_state)


def _residual(
    output: Callable[[Tensor], Tensor], signals: Mapping[str, Tensor], _: Tensors, weight_hr: Tensor | None
) -> Tensor:
    """output_gate·output(cell_state), projected, minus hidden_state."""
    rebuilt = output(signals["cell_state"]).mul_(signals["output_gate"])
    if weight_hr is not None:
        rebuilt = rebuilt @ weight_hr.T
    return rebuilt.sub_(signals["hidden_state"])


LSTM = replace(
    lstm(SIGMOID, TANH, TANH),
    backends=("workspace", "replay", "loop"),
    kernel=torch.lstm,
    replay=_replay,
    stepwise=partial(_stepwise, (SIGMOID, FAST_TANH, FAST_TANH)),
)
