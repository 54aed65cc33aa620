"""The LSTM's six equations, written once, in the form and the names of PyTorch's own page.

Source: https://docs.pytorch.org/docs/stable/generated/torch.nn.LSTM.html

A plain loop over time in whatever precision the weights have. In float64 it is the oracle of every test; it is never
the fast way.
"""

from __future__ import annotations

from typing import NamedTuple

import torch
from torch import Tensor

from gatescope.spec import GATES
from gatescope.weights import Weights


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
