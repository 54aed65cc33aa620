"""PyTorch's fused LSTM kernel, called for one layer and direction: `nn.LSTM` as a whole hides what lies between."""

from __future__ import annotations

import warnings
from typing import NamedTuple

import torch
from torch import Tensor

from app.lstm.weights import Weights

# true, and nothing that an operator could change: projections simply run on the default kernel
warnings.filterwarnings("ignore", message="LSTM with projections is not supported with oneDNN")


class Run(NamedTuple):
    """What the kernel gives: every hidden state, and both states after the last step."""

    output: Tensor  # (time, batch, proj_size or hidden_size)
    hidden_state: Tensor  # (1, batch, proj_size or hidden_size)
    cell_state: Tensor  # (1, batch, hidden_size)


def run(weights: Weights, inputs: Tensor, h0: Tensor, c0: Tensor) -> Run:
    """Run one layer over (time, batch, feature) from h0 (1, batch, P) and c0 (1, batch, H)."""
    given = torch.lstm(
        inputs,
        (h0, c0),
        weights.flat(),
        has_biases=weights.bias_ih is not None,
        num_layers=1,
        dropout=0.0,
        train=False,
        bidirectional=False,
        batch_first=False,
    )
    return Run(*given)
