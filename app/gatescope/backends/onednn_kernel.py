"""oneDNN's LSTM kernel: one layer in one direction, float32 on a CPU, without projection."""

from __future__ import annotations

from typing import NamedTuple

import torch
from torch import Tensor

from gatescope.cells import LSTM
from gatescope.state import State
from gatescope.weights import Weights

CELL = LSTM
"""The cell that the kernel computes."""

_LSTM_MODE = 2


class Run(NamedTuple):
    """What the kernel returns."""

    output: Tensor  # (time, batch, hidden_size)
    final: State  # after the last step, each (1, batch, hidden_size)
    workspace: Tensor  # bytes; of the training kernel only


def supports(weights: Weights) -> bool:
    """Whether the kernel runs these weights at all."""
    weight = weights.weight_ih
    return (
        bool(torch.backends.mkldnn.is_available() and torch.backends.mkldnn.enabled)  # type: ignore[no-untyped-call]
        and weight.dtype == torch.float32
        and weight.device.type == "cpu"
        and weights.weight_hr is None
        and hasattr(torch.ops.aten, "mkldnn_rnn_layer")
    )


def run(weights: Weights, inputs: Tensor, h0: Tensor, c0: Tensor, *, reverse: bool = False) -> Run:
    """Run one layer and direction over (time, batch, feature) from h0 and c0 (1, batch, hidden_size).

    In gradient mode this is the training kernel, which keeps a workspace; else the inference kernel.
    """
    weight_ih, weight_hh, bias_ih, bias_hh, _ = weights
    has_bias = bias_ih is not None
    output, hidden_state, cell_state, workspace = torch.ops.aten.mkldnn_rnn_layer.default(
        inputs,
        weight_ih,
        weight_hh,
        bias_ih if has_bias else weight_ih,  # without a bias any tensor will do
        bias_hh if has_bias else weight_hh,
        h0.contiguous(),
        c0.contiguous(),
        reverse,
        [],  # batch_sizes
        _LSTM_MODE,
        c0.shape[-1],
        1,  # num_layers
        has_bias,
        False,  # bidirectional
        False,  # batch_first
        torch.is_grad_enabled(),  # train
    )
    return Run(output, State(hidden_state, cell_state), workspace)


def reordered(weights: Weights, batch: int) -> Weights:
    """The same weights in the order in which the inference kernel reads them for a batch of this size.

    The kernel reorders weights at every call if they are in any other order, so these are right for every batch.
    """
    features = weights.weight_ih.shape[1]
    weight_ih, weight_hh = torch.ops.mkldnn._reorder_mkldnn_rnn_layer_weight(  # noqa: SLF001 - what torch.compile uses
        weights.weight_ih,
        weights.weight_hh,
        weights.hidden_size,
        False,  # reverse
        weights.bias_ih is not None,
        False,  # batch_first
        [1, batch, features],
    )
    return weights._replace(weight_ih=weight_ih, weight_hh=weight_hh)
