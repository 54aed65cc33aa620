"""The plain recurrent network: with tanh or relu as PyTorch has it, and its variants with another function."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import replace
from functools import partial

import torch
from torch import Tensor, nn
from torch.nn.functional import linear

from gatescope.cells.cell import Cell, Edit, Gate, Kept, Signal, Tensors, colour_scale
from gatescope.cells.functions import RELU, TANH, Function, Functions, fast_tanh
from gatescope.weights import Weights


def rnn(function: Function) -> Cell:
    """The plain recurrent network with this function."""
    return Cell(
        name="rnn",
        module=nn.RNN,
        cell_module=nn.RNNCell,
        states=("hidden_state",),
        gates=(Gate("hidden_state", function),),
        signals=(
            Signal(
                "pre_activation",
                "z",
                None,
                None,
                "diverging",
                "W_ih·x + b_ih + W_hh·h + b_hh, before the function",
                is_on_request=True,
            ),
            Signal(
                "hidden_state",
                "h",
                function.low,
                function.high,
                colour_scale(function.low),
                f"the output: h_t = {function.spelling.format('z_t')}",
            ),
        ),
        updates=(),
        blocks=(("pre_activation",),),
        residual_signals=("pre_activation", "hidden_state"),
        backends=("stepwise", "loop"),
        functions=Functions(function),
        step=partial(_step, function),
        residual=partial(_residual, fast_tanh if function == TANH else function.apply),
        stepwise=partial(_stepwise, function),
    )


def _step(function: Function, x: Tensor, states: Tensors, weights: Weights) -> dict[str, Tensor]:
    """The equation of https://docs.pytorch.org/docs/stable/generated/torch.nn.RNN.html."""
    z = linear(x, weights.weight_ih, weights.bias_ih) + linear(states[0], weights.weight_hh, weights.bias_hh)
    return {"pre_activation": z, "hidden_state": function.apply(z)}


def _replay(weights: Weights, inputs: Tensor, initial: Tensors, hidden_state: Tensor) -> tuple[Tensors, Tensors]:
    """With every h_{t−1} known, what stands within the function is two matrix products."""
    previous = torch.cat((initial[0], hidden_state[:-1]))  # h_{t−1}: (time, batch, H)
    z = linear(inputs, weights.weight_ih, weights.bias)
    z.flatten(0, 1).addmm_(previous.flatten(0, 1), weights.weight_hh.T)
    return (z,), (hidden_state,)


def _stepwise(
    function: Function,
    weights: Weights,
    inputs: Tensor,
    initial: Tensors,
    __: Kept,
    edit: Edit | None = None,
) -> tuple[Tensors, Tensors]:
    """The inputs' part of all steps is one matrix product; each step adds to it in place."""
    (time, batch, _), weight, h, write = inputs.shape, weights.weight_hh.T, initial[0][0], function.write
    z = linear(inputs, weights.weight_ih, weights.bias)  # (time, batch, H)
    hidden_state = z.new_empty(time, batch, weights.hidden_size)
    for step, (z_t, h_t) in enumerate(zip(z.unbind(), hidden_state.unbind(), strict=True)):
        z_t.addmm_(h, weight)
        if edit is not None:
            edit(step, "pre_activation", z_t)
        h = write(z_t, out=h_t)
        if edit is not None:
            h = edit(step, "hidden_state", h)
    return (z,), (hidden_state,)


def _residual(
    function: Callable[[Tensor], Tensor], signals: Mapping[str, Tensor], _: Tensors, __: Tensor | None
) -> Tensor:
    """function(pre_activation) minus hidden_state."""
    return function(signals["pre_activation"]).sub_(signals["hidden_state"])


def _plain(function: Function, kernel: Callable[..., tuple[Tensor, ...]]) -> Cell:
    """With one of the functions that PyTorch has a kernel for."""
    backends = ("stepwise", "replay", "loop")
    return replace(rnn(function), backends=backends, kernel=kernel, replay=_replay, nonlinearity=function.name)


RNN = _plain(TANH, torch.rnn_tanh)
RNN_RELU = _plain(RELU, torch.rnn_relu)
