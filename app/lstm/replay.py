"""Replay: the gates of a layer, from the hidden states that the fused kernel computed.

Once every h_{t−1} is known, the gates of all steps are one matrix product, and only c_t = f_t·c_{t−1} + i_t·g_t is
left to scan.
"""

from __future__ import annotations

from typing import NamedTuple

import torch
from torch import Tensor

from app.lstm import fused
from app.lstm.equations import Step
from app.lstm.spec import GATES
from app.lstm.weights import Weights


class Replay(NamedTuple):
    """One layer and direction, in the order in which it read its input."""

    signals: Step  # each (batch, time, unit); hidden_state is the fused kernel's own
    gap: Tensor  # (batch, time): max over units of |fused hidden_state − output_gate·tanh(cell_state)|, projected


def replay(weights: Weights, inputs: Tensor, h0: Tensor, c0: Tensor) -> Replay:
    """Run the fused kernel over (batch, time, feature), then compute what it hid.

    Args:
        weights: the layer's parameters.
        inputs: (batch, time, feature), padded on the right.
        h0: hidden state before the first step (batch, proj_size or hidden_size).
        c0: cell state before the first step (batch, hidden_size).
    """
    hidden_state = fused.run(weights, inputs, h0, c0).output  # (batch, time, P)
    before = torch.cat((h0[:, None], hidden_state[:, :-1]), dim=1)  # h_{t−1}: (batch, time, P)
    z = inputs @ weights.weight_ih.T + before @ weights.weight_hh.T  # (batch, time, 4H)
    if weights.bias is not None:
        z += weights.bias
    z_i, z_f, z_g, z_o = z.chunk(GATES, dim=-1)
    i, f, g, o = z_i.sigmoid(), z_f.sigmoid(), z_g.tanh(), z_o.sigmoid()  # (batch, time, H)
    cell_state = _scan(f, i * g, c0)
    rebuilt = o * cell_state.tanh()
    if weights.weight_hr is not None:
        rebuilt = rebuilt @ weights.weight_hr.T
    gap = (hidden_state - rebuilt).abs().amax(dim=-1)
    return Replay(Step(i, f, g, o, cell_state, hidden_state), gap)


def _scan(forget: Tensor, written: Tensor, c0: Tensor) -> Tensor:
    """c_t = forget_t·c_{t−1} + written_t over (batch, time, unit)."""
    cell_state = torch.empty_like(written)
    c = c0
    for t in range(written.shape[1]):
        c = torch.addcmul(written[:, t], forget[:, t], c, out=cell_state[:, t])
    return cell_state
