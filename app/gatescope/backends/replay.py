"""Replay: the gates of a layer, from the hidden states that the fused kernel computed.

Once every h_{t−1} is known, the gates of all steps are one matrix product, and only c_t = f_t·c_{t−1} + i_t·g_t is
left to scan. Exact to rounding for every `nn.LSTM` on every device.
"""

from __future__ import annotations

from collections.abc import Iterator

import torch
from torch import Tensor

from gatescope.backends.chunk import Chunk, parts
from gatescope.spec import GATES
from gatescope.state import State
from gatescope.weights import Weights


def chunks(weights: Weights, inputs: Tensor, h0: Tensor, c0: Tensor) -> Iterator[Chunk]:
    """Run the fused kernel over (time, batch, feature), then compute what it hid; a `Method`."""
    h, c = h0, c0
    for start, part in parts(inputs, c0.shape[-1]):
        chunk = _replay(weights, part, h, c, start)
        yield chunk
        h, c = chunk.final


def _replay(weights: Weights, inputs: Tensor, h0: Tensor, c0: Tensor, start: int) -> Chunk:
    hidden_state = run_kernel(weights, inputs, h0, c0)  # (time, batch, P)
    before = torch.cat((h0, hidden_state[:-1]))  # h_{t−1}: (time, batch, P)
    z = torch.matmul(inputs, weights.weight_ih.T)  # (time, batch, 4H)
    z += torch.matmul(before, weights.weight_hh.T)
    if weights.bias is not None:
        z += weights.bias
    z_i, z_f, z_g, z_o = z.chunk(GATES, dim=-1)
    i, f, g = z_i.sigmoid_(), z_f.sigmoid_(), z_g.tanh_()  # in place: (time, batch, H)
    z_o.sigmoid_()
    cell_state = _scan(f, i * g, c0[0])
    final = State(hidden_state[-1:].clone(), cell_state[-1:].clone())  # whoever keeps it need not keep all steps
    return Chunk(start, z, cell_state, hidden_state, final)


def _scan(forget: Tensor, written: Tensor, c0: Tensor) -> Tensor:
    """c_t = forget_t·c_{t−1} + written_t over (time, batch, unit), in place of `written`."""
    c = c0
    for kept, new in zip(forget.unbind(), written.unbind(), strict=True):
        c = new.addcmul_(kept, c)
    return written


def run_kernel(weights: Weights, inputs: Tensor, h0: Tensor, c0: Tensor) -> Tensor:
    """Every hidden state (time, batch, P) of PyTorch's fused kernel, called for one layer and direction.

    Args:
        weights: of the layer and direction.
        inputs: (time, batch, feature).
        h0: (1, batch, P).
        c0: (1, batch, H).
    """
    output: Tensor = torch.lstm(
        inputs,
        (h0, c0),
        weights.flat(),
        has_biases=weights.bias_ih is not None,
        num_layers=1,
        dropout=0.0,
        train=False,
        bidirectional=False,
        batch_first=False,
    )[0]
    return output
